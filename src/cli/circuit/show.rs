//! The page of `hms circuit show`: one target in words.

use std::fmt::Write as _;

use hms_actors::id::Timestamp;

use super::advice::{self, Around};
use super::list::word;
use crate::admin::views::{Activity, CircuitState, Guarantee, Moment, TargetView};
use crate::cli::ages::{ago, until};
use crate::cli::{render, words};

/// Everything that is known of it, then what to do.
pub(super) fn text(target: &TargetView, around: &Around, now: Timestamp, page: usize) -> String {
    let mut text = render::fields_text(&facts(target, around, now));
    text.push_str("\nWHAT TO DO NEXT\n");
    for paragraph in advice::advice(target, around, now) {
        for line in render::wrap(&paragraph, page.min(100).saturating_sub(2)) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn facts(target: &TargetView, around: &Around, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    let time = |at: Moment| String::from(at);
    let actor = around.actor.as_ref();
    vec![
        ("recipe", Some(target.recipe.clone())),
        ("target", Some(format!("{} ({}, {})", target.target, target.adapter, guarantee(target.guarantee)))),
        ("circuit", Some(circuit(target, now))),
        ("next probe", target.next_probe_at.map(|at| format!("{} ({})", until(at, now), time(at)))),
        ("failures", Some(format!("{} in a row", target.consecutive_failures))),
        ("last error", target.last_error.as_deref().map(render::one_line)),
        ("waiting", Some(waiting(target, now))),
        ("in flight", Some(target.in_flight.to_string())),
        ("checkpoint", Some(format!("offset {}", target.checkpoint))),
        ("doing", Some(doing(target, now))),
        (
            "rate limit",
            target.rate_limit.map(|limit| {
                format!("{} a second, burst {}; {} may start now", limit.rate, limit.burst, limit.available)
            }),
        ),
        (
            "actor",
            Some(format!(
                "{}; mailbox {} of {}",
                often("restarted", target.restarts),
                target.mailbox.depth,
                target.mailbox.capacity
            )),
        ),
        (
            "last panic",
            actor
                .and_then(|actor| actor.last_panic.as_ref())
                .map(|panic| format!("{} ago: {}", ago(panic.at, now), render::one_line(&panic.message))),
        ),
    ]
}

fn circuit(target: &TargetView, now: Timestamp) -> String {
    let state = match target.state {
        CircuitState::ForcedOpen => "forced open by an operator",
        other => word(other),
    };
    let (age, since) = (ago(target.since, now), String::from(target.since));
    format!("{state} for {age} (since {since}); {}", often("opened", target.opened_total))
}

fn waiting(target: &TargetView, now: Timestamp) -> String {
    let events = words::counted(target.backlog, "event");
    match target.oldest_waiting_at {
        Some(at) => format!("{events}, the oldest for {}", ago(at, now)),
        None => events,
    }
}

fn doing(target: &TargetView, now: Timestamp) -> String {
    let what = match target.activity {
        Activity::Idle => "idle",
        Activity::Delivering => "delivering",
        Activity::BackingOff => "backing off",
        Activity::CircuitOpen => "waiting for the next probe",
        Activity::Held => "held until a human answers",
        Activity::Paused => "paused",
        Activity::Restarting => "being started again",
        Activity::Quarantined => "quarantined: its actor died too often",
    };
    match target.next_attempt_at {
        Some(at) => format!("{what}, tries again {}", until(at, now)),
        None => what.to_owned(),
    }
}

fn guarantee(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::ExactlyOnce => "exactly once",
        Guarantee::EffectivelyOnce => "effectively once",
        Guarantee::AtLeastOnce => "at least once",
        Guarantee::AtLeastOnceOnDoubt => "at least once on doubt",
    }
}

fn often(what: &str, count: u64) -> String {
    match count {
        0 => format!("never {what}"),
        1 => format!("{what} once"),
        many => format!("{what} {many} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::views::RateLimitView;
    use crate::cli::circuit::advice::tests::{nothing, ticket};
    use crate::cli::circuit::tests::{NOW, ago, target};
    use hms_actors::receipt::Cause;

    #[test]
    fn a_target_in_an_outage_is_told_in_full() {
        let target = TargetView {
            state: CircuitState::Open,
            since: ago(740),
            backlog: 1_204,
            oldest_waiting_at: Some(ago(860)),
            consecutive_failures: 7,
            opened_total: 3,
            next_probe_at: Some(ago(-24)),
            last_error: Some("sync@finance.state.vt.gov:22: connecting:\nConnection refused (os error 111)".to_owned()),
            activity: Activity::BackingOff,
            next_attempt_at: Some(ago(-24)),
            rate_limit: Some(RateLimitView { rate: 2.5, burst: 10, available: 9 }),
            ..target("vdot.bridge_grant.sync", "cobol_finance")
        };
        let around = Around { tickets: vec![ticket(4, Cause::Outage)], ..nothing() };
        insta::assert_snapshot!(text(&target, &around, NOW, 100));
    }

    #[test]
    fn a_target_that_is_well_needs_nothing() {
        insta::assert_snapshot!(text(&target("a.sync", "gis"), &nothing(), NOW, 80));
    }
}
