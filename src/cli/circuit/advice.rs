//! What to do next about a target: what this state is, what happens by itself and when, which command helps.
//! It knows what states and causes mean (docs/operations.md); what is printed around it is `show`'s.

use hms_actors::id::Timestamp;
use hms_actors::receipt::Cause;

use crate::admin::views::{Activity, ActorState, ActorView, CircuitState, DeadLetterList, TargetView, TicketView};
use crate::cli::ages::until;

/// What else is known about a target.
#[derive(Debug, Clone)]
pub(crate) struct Around {
    /// Open ones.
    pub tickets: Vec<TicketView>,
    pub letters: DeadLetterList,
    pub actor: Option<ActorView>,
}

impl Around {
    fn ticket(&self, cause: Cause) -> Option<&TicketView> {
        self.tickets.iter().find(|ticket| ticket.cause == cause)
    }
}

/// A paragraph for each thing that is to be known or done, what stops everything first.
pub(super) fn advice(target: &TargetView, around: &Around, now: Timestamp) -> Vec<String> {
    let told = [
        quarantined(around, now),
        held(target, around),
        governed(around),
        paused(target),
        Some(circuit(target, around, now)),
        letters(target, around),
        others(target, around),
    ];
    told.into_iter().flatten().collect()
}

fn quarantined(around: &Around, now: Timestamp) -> Option<String> {
    let actor = around.actor.as_ref().filter(|actor| actor.state == ActorState::Quarantined)?;
    let when = actor.revived_at.map_or_else(|| "after a pause".to_owned(), |at| until(at, now));
    let ticket = around.ticket(Cause::Quarantine);
    let now = ticket.map(|ticket| format!("; `hms hitl retry {}` starts it now", ticket.number)).unwrap_or_default();
    Some(format!(
        "Its actor died too often and is in quarantine: nothing is sent to this target, the others go on. \
         It is started again by itself {when}{now}. The panic above is a bug of ours: please report it."
    ))
}

fn held(target: &TargetView, around: &Around) -> Option<String> {
    let number = target.held_by_ticket?;
    let doubt = around.tickets.iter().all(|ticket| ticket.number != number || ticket.cause == Cause::Doubt);
    let why = if doubt { "nobody can know whether rows arrived" } else { "a human has to decide" };
    Some(format!(
        "Ticket {number} holds it: {why}, so nothing is sent before it is answered. It does not end by itself, \
         and no order to the circuit ends it. `hms hitl show {number}` says what each answer does."
    ))
}

fn governed(around: &Around) -> Option<String> {
    let ticket = around.ticket(Cause::Policy)?;
    let TicketView { number, reason, .. } = ticket;
    Some(format!(
        "Policies forbid to send some of it (ticket {number}): {reason}. Such an event waits with its key, or with all \
         of a file, or is a dead letter (`on_deny`); the rest goes on. Mend the recipe, the policy or the catalog; \
         `hms hitl show {number}` says what each answer does."
    ))
}

fn paused(target: &TargetView) -> Option<String> {
    let recipe = &target.recipe;
    let words = || format!("The recipe is paused: nothing is sent before `hms sync resume {recipe}`.");
    (target.activity == Activity::Paused).then(words)
}

fn circuit(target: &TargetView, around: &Around, now: Timestamp) -> String {
    let TargetView { recipe, target: name, .. } = target;
    match target.state {
        CircuitState::ForcedOpen => format!(
            "An operator has opened the circuit: nothing is sent, and what waits goes on waiting. It does not end by \
             itself: `hms circuit close {recipe} {name}` lets traffic flow again."
        ),
        CircuitState::HalfOpen if target.held_by_ticket.is_some() => {
            "The circuit is half-open: the first delivery after the answer is its probe.".to_owned()
        }
        CircuitState::HalfOpen => "One real delivery is under way as the probe. If it arrives the circuit closes and \
             everything that waited follows in order; if it fails the circuit opens for twice as long. Nothing to do."
            .to_owned(),
        CircuitState::Open => open(target, around, now),
        CircuitState::Closed => closed(target, now),
    }
}

/// Why it is open decides who has to do something.
fn open(target: &TargetView, around: &Around, now: Timestamp) -> String {
    let TargetView { recipe, target: name, .. } = target;
    let when = target.next_probe_at.map_or_else(|| "soon".to_owned(), |at| until(at, now));
    let probe = format!("`hms circuit probe {recipe} {name}` tries now");
    let numbered = |ticket: &TicketView| format!("`hms hitl show {}`", ticket.number);
    if let Some(ticket) = around.ticket(Cause::Configuration) {
        return format!(
            "Ours or theirs to mend ({}): credentials, host key, permission or address; no event is to blame, and none \
             becomes a dead letter. Mend the secret, the known_hosts entry, or the recipe (`hms sync apply`): secrets \
             and keys are read again at the next probe, {when}; {probe}.",
            numbered(ticket)
        );
    }
    if let Some(ticket) = around.ticket(Cause::Refused) {
        return format!(
            "The partner refuses everything ({}), so it is not the events' fault: they wait, and no more of them become \
             dead letters. Somebody has to ask the partner what has changed there. The next probe goes by itself \
             {when}; {probe}.",
            numbered(ticket)
        );
    }
    format!(
        "The partner is down or can't be reached: what is for it waits on disk, in order, and nothing is lost. \
         Nothing to do here: the next probe goes by itself {when}, and its success lets traffic flow again. \
         If you know that the partner is back, {probe}."
    )
}

fn closed(target: &TargetView, now: Timestamp) -> String {
    let recipe = &target.recipe;
    if target.activity == Activity::Restarting {
        return "Its actor is being started again. Nothing to do.".to_owned();
    }
    if target.held_by_ticket.is_some() || matches!(target.activity, Activity::Paused | Activity::Held) {
        return "The circuit itself is closed.".to_owned();
    }
    if target.consecutive_failures > 0 {
        let when = target.next_attempt_at.map_or_else(|| "soon".to_owned(), |at| until(at, now));
        return format!(
            "Attempts fail, but not often enough to stop. It is tried again by itself {when}; `hms sync run {recipe}` tries now."
        );
    }
    match target.backlog {
        0 => "Traffic flows and nothing waits. Nothing to do.".to_owned(),
        _ => format!("Traffic flows. What waits goes with the next run; `hms sync run {recipe}` delivers it now."),
    }
}

fn letters(target: &TargetView, around: &Around) -> Option<String> {
    let TargetView { recipe, target: name, .. } = target;
    let count = around.letters.dead_letters.len() as u64;
    let more = if around.letters.next.is_some() { " or more" } else { "" };
    let words = || {
        format!(
            "{count}{more} of its events became dead letters: `hms dlq list --recipe {recipe} --target {name}` says \
             why. When the cause is gone, `hms dlq replay --all --recipe {recipe} --target {name}` delivers them."
        )
    };
    (count > 0).then(words)
}

/// Tickets that were not spoken of.
fn others(target: &TargetView, around: &Around) -> Option<String> {
    let is_other = |ticket: &&TicketView| {
        matches!(ticket.cause, Cause::ForeignWriter | Cause::Doubt) && target.held_by_ticket != Some(ticket.number)
    };
    let named = |ticket: &TicketView| format!("`hms hitl show {}` ({})", ticket.number, ticket.cause.as_str());
    let others: Vec<_> = around.tickets.iter().filter(is_other).map(named).collect();
    (!others.is_empty()).then(|| format!("Also open: {}.", others.join(", ")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::views::{ActorKind, TicketState};
    use crate::cli::circuit::tests::{NOW, ago, target};

    pub fn nothing() -> Around {
        let letters = DeadLetterList { dead_letters: Vec::new(), next: None };
        Around { tickets: Vec::new(), letters, actor: None }
    }

    pub fn ticket(number: u64, cause: Cause) -> TicketView {
        TicketView {
            number,
            state: TicketState::Open,
            recipe: "a.sync".to_owned(),
            target: "gis".to_owned(),
            cause,
            reason: "why".to_owned(),
            opened_at: ago(600),
            resolved_at: None,
            attempts: 7,
            backlog: 3,
            last_error: Some("401 Unauthorized".to_owned()),
            note: None,
        }
    }

    fn open() -> TargetView {
        TargetView { state: CircuitState::Open, next_probe_at: Some(ago(-24)), ..target("a.sync", "gis") }
    }

    fn told(target: &TargetView, around: &Around) -> String {
        advice(target, around, NOW).join("\n")
    }

    #[track_caller]
    fn says(told: &str, words: &[&str]) {
        words.iter().for_each(|words| assert!(told.contains(words), "`{words}` is not in:\n{told}"));
    }

    #[test]
    fn in_an_outage_the_partner_is_waited_for_and_a_probe_can_be_had_now() {
        let around = Around { tickets: vec![ticket(1, Cause::Outage)], ..nothing() };
        for around in [nothing(), around] {
            says(&told(&open(), &around), &["in 24s", "`hms circuit probe a.sync gis` tries now", "nothing is lost"]);
        }
    }

    #[test]
    fn a_configuration_fault_is_ours_or_theirs_to_mend() {
        let around = Around { tickets: vec![ticket(4, Cause::Configuration)], ..nothing() };
        says(&told(&open(), &around), &["`hms hitl show 4`", "read again at the next probe, in 24s", "circuit probe"]);
    }

    #[test]
    fn a_partner_that_refuses_everything_is_to_be_asked() {
        let around = Around { tickets: vec![ticket(4, Cause::Refused)], ..nothing() };
        says(&told(&open(), &around), &["refuses everything", "`hms hitl show 4`", "in 24s"]);
        let flows = told(&target("a.sync", "gis"), &around);
        assert!(!flows.contains("refuses everything"), "{flows}");
    }

    #[test]
    fn what_an_operator_opened_an_operator_closes() {
        let forced = TargetView { state: CircuitState::ForcedOpen, ..open() };
        says(&told(&forced, &nothing()), &["does not end by itself", "`hms circuit close a.sync gis`"]);
    }

    #[test]
    fn a_probe_under_way_needs_nobody() {
        says(&told(&TargetView { state: CircuitState::HalfOpen, ..open() }, &nothing()), &["Nothing to do."]);
    }

    #[test]
    fn a_doubt_is_answered_by_a_human_only() {
        let held = TargetView { held_by_ticket: Some(9), activity: Activity::Held, ..target("a.sync", "gis") };
        let around = Around { tickets: vec![ticket(9, Cause::Doubt)], ..nothing() };
        let told = told(&held, &around);
        says(&told, &["nobody can know", "`hms hitl show 9`", "no order to the circuit ends it"]);
        assert!(!told.contains("Nothing to do") && !told.contains("Also open"), "{told}");
    }

    #[test]
    fn quarantine_says_when_it_ends() {
        let actor = ActorView {
            state: ActorState::Quarantined,
            revived_at: Some(ago(-90)),
            ..ActorView::new(ActorKind::Delivery, "gis")
        };
        let around = Around { actor: Some(actor), tickets: vec![ticket(2, Cause::Quarantine)], ..nothing() };
        says(&told(&open(), &around), &["quarantine", "by itself in 1m30s", "`hms hitl retry 2` starts it now"]);
    }

    #[test]
    fn dead_letters_are_named_with_the_commands_that_help() {
        let letter: crate::admin::views::DeadLetterView = serde_json::from_value(serde_json::json!({
            "number": 7, "recipe": "a.sync", "target": "gis", "feed": "f", "event_id": "e", "offset": 1, "reason": "422",
            "cause": "refused", "attempts": 3, "at": "2026-11-24T00:00:00Z", "may_have_arrived": false, "replaying": false,
        }))
        .unwrap();
        let letters = DeadLetterList { dead_letters: vec![letter; 2], next: Some(9) };
        let told = told(&target("a.sync", "gis"), &Around { letters, ..nothing() });
        says(&told, &["2 or more of its events", "`hms dlq list --recipe a.sync --target gis`", "replay --all"]);
    }

    #[test]
    fn what_policies_hold_is_said_with_their_words() {
        let around = Around { tickets: vec![ticket(5, Cause::Policy)], ..nothing() };
        let told = told(&target("a.sync", "gis"), &around);
        says(&told, &["Policies forbid to send some of it (ticket 5)", "`hms hitl show 5`"]);
        assert!(!told.contains("Also open"), "{told}");
    }

    #[test]
    fn a_closed_circuit_says_what_the_target_waits_for() {
        let well = target("a.sync", "gis");
        says(&told(&TargetView { backlog: 2, ..well.clone() }, &nothing()), &["`hms sync run a.sync`"]);
        let failing = TargetView { consecutive_failures: 1, next_attempt_at: Some(ago(-2)), ..well.clone() };
        says(&told(&failing, &nothing()), &["by itself in 2s"]);
        let paused = TargetView { activity: Activity::Paused, ..well };
        says(&told(&paused, &nothing()), &["`hms sync resume a.sync`"]);
    }
}
