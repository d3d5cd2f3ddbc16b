//! The page of `hms hitl show`: one ticket, what happens by itself, and what each answer means for its cause.

use std::fmt::Write as _;

use hms_actors::id::Timestamp;
use hms_actors::receipt::Cause;

use crate::admin::views::{TicketState, TicketView};
use crate::cli::ages::ago;
use crate::cli::{render, words};

pub(super) fn text(ticket: &TicketView, now: Timestamp, page: usize) -> String {
    let mut text = render::fields_text(&facts(ticket, now));
    if ticket.state == TicketState::Resolved {
        return text;
    }
    let width = page.min(100);
    text.push_str("\nWHAT HAPPENS BY ITSELF\n");
    for line in render::wrap(by_itself(ticket.cause), width.saturating_sub(2)) {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("\nWHAT EACH ANSWER DOES\n");
    for (command, meaning) in answers(ticket) {
        let _ = writeln!(text, "  {command}");
        for line in render::wrap(meaning, width.saturating_sub(6)) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

fn facts(ticket: &TicketView, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    let (state, took) = match (ticket.state, ticket.resolved_at) {
        (TicketState::Open, _) => ("open", format!("{} ago", ago(ticket.opened_at, now))),
        (TicketState::Resolved, None) => ("resolved", String::new()),
        (TicketState::Resolved, Some(at)) => ("resolved", format!("it took {}", ago(ticket.opened_at, at.0))),
    };
    vec![
        ("ticket", Some(format!("{}, {state}", ticket.number))),
        ("recipe", Some(ticket.recipe.clone())),
        ("target", Some(ticket.target.clone())),
        ("cause", Some(ticket.cause.as_str().replace('_', " "))),
        ("reason", Some(render::one_line(&ticket.reason))),
        ("opened", Some(format!("{} ({took})", String::from(ticket.opened_at)))),
        ("resolved", ticket.resolved_at.map(String::from)),
        ("attempts", Some(ticket.attempts.to_string())),
        ("waiting", Some(words::counted(ticket.backlog, "event"))),
        ("last error", ticket.last_error.as_deref().map(render::one_line)),
        ("note", ticket.note.as_deref().map(render::one_line)),
    ]
}

fn by_itself(cause: Cause) -> &'static str {
    match cause {
        Cause::Outage => {
            "Deliveries are tried again for ever, and what waits is on disk. At the first success the ticket closes, \
             with the time that it took."
        }
        Cause::Configuration => {
            "Nothing is given up: it is tried again for ever, and secrets and host keys are read again at each attempt. \
             At the first success the ticket closes, with the time that it took. Until somebody mends the secret, the \
             host key, the permission or the address there will be none."
        }
        Cause::Refused => {
            "Refused events are dead letters, and the ticket closes when they are replayed or dropped (`hms dlq list`). \
             The other events go on; where the partner refuses everything, they wait and one is tried again and again."
        }
        Cause::Policy => {
            "Nothing is sent against a policy. What it forbids waits (and with it its key, or all of a file) or is a dead \
             letter, as the recipe's `on_deny` says. What waits is asked about again after every reload and by back-off; \
             the ticket closes when nothing is held any more and its dead letters are replayed or dropped."
        }
        Cause::Doubt => {
            "Nothing: nobody can know whether the rows arrived or were read, so the whole target is held until a human \
             answers. Look at what the partner has."
        }
        Cause::ForeignWriter => {
            "Delivery goes on behind what somebody else has written. With more than one writer a row can't be promised \
             to be there exactly once: ask the partner, or let the recipe say `write: file_per_batch`."
        }
        Cause::Quarantine => {
            "The target's actor is started again after a pause, which doubles each time. Other targets do not notice."
        }
    }
}

/// The command lines, and what each means for this cause.
fn answers(ticket: &TicketView) -> [(String, &'static str); 3] {
    let number = ticket.number;
    let commands = match ticket.cause {
        Cause::Doubt => ["retry N", "resolve N --note 'how that is known'", "skip N"],
        _ => ["retry N", "resolve N", "skip N"],
    };
    let [retry, resolve, skip] =
        commands.map(|command| format!("hms hitl {}", command.replace('N', &number.to_string())));
    let meanings = match ticket.cause {
        Cause::Doubt => [
            "The rows did not arrive: they are written again, with a new plan.",
            "They arrived: they are settled on your word, which stands in the audit.",
            "They become dead letters marked `may_have_arrived`, and what waits behind them goes on.",
        ],
        Cause::Quarantine => [
            "Starts the actor now.",
            "Closes the ticket; no event is touched.",
            "Only the events of the attempt that failed last become dead letters, never the backlog.",
        ],
        Cause::Policy => [
            "Asks the policies now. Mend first what they object to: the recipe (`hms sync apply`), or a policy or the \
             catalog (then SIGHUP, which asks as well).",
            "Closes the ticket; no event is touched. Another one opens for the next event that is blocked.",
            "Only the oldest event that is held becomes a dead letter (of a file: what was tried last), never the backlog.",
        ],
        _ => [
            "Tries now, without waiting for the next attempt.",
            "Closes the ticket; no event is touched.",
            "Only the events of the attempt that failed last become dead letters, never the backlog.",
        ],
    };
    let [to_retry, to_resolve, to_skip] = meanings;
    [(retry, to_retry), (resolve, to_resolve), (skip, to_skip)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::views::Moment;
    use crate::cli::hitl::tests::{NOW, ticket};

    #[test]
    fn a_doubt_is_told_with_what_each_answer_does() {
        insta::assert_snapshot!(text(&ticket(3, Cause::Doubt, "cobol_finance", None), NOW, 100));
    }

    #[test]
    fn an_outage_closes_by_itself() {
        let refused = "no connection to gis.vdot.gov: Connection refused (os error 111)";
        insta::assert_snapshot!(text(&ticket(11, Cause::Outage, "gis", Some(refused)), NOW, 80));
    }

    #[test]
    fn a_resolved_one_says_how_long_it_took_and_asks_for_nothing() {
        let open = ticket(3, Cause::Doubt, "cobol_finance", None);
        let resolved = TicketView {
            state: TicketState::Resolved,
            resolved_at: Some(Moment(Timestamp(open.opened_at.0.0 + 90_000))),
            note: Some("read by the night job".to_owned()),
            ..open
        };
        let shown = text(&resolved, NOW, 100);
        assert!(shown.contains("it took 1m30s") && shown.contains("read by the night job"), "{shown}");
        assert!(!shown.contains("WHAT"), "{shown}");
    }
}
