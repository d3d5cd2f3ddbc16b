//! Null controls: the courier with a guarantee removed. The judge must find it; one that can't is worth nothing.

use super::Scenario;
use super::actor::{Kind, Role};
use super::recipes::{PAUSE, RESUME};
use super::schedule::{Dice, Schedule, Step};
use super::stage::Cast;
use crate::judge::Rule;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "null-control-without-sync",
        about: "Events are acknowledged without a sync, and the power is cut: the judge must find what is lost.",
        rounds: 1,
        cast: || Cast::new([Role::new("partner", Kind::Honours)]).with_fault_points(),
        schedule: without_sync,
        must_find: &[Rule::Lost],
    },
    Scenario {
        name: "null-control-without-plan",
        about: "The plan of a write is not stored, and the node dies before it settles: the judge must find the rows twice.",
        rounds: 1,
        cast: spool,
        schedule: |_, _| unsettled("append.written:2,noplan"),
        must_find: &[Rule::Twice],
    },
    Scenario {
        name: "null-control-without-epoch",
        about: "What an older incarnation does is let through: the judge must find the rows twice.",
        rounds: 1,
        cast: spool,
        schedule: |_, _| unsettled("ghost@spool,append.written:2,noepoch"),
        must_find: &[Rule::Twice],
    },
];

fn spool() -> Cast {
    Cast::new([Role::new("spool", Kind::File)]).with_fault_points()
}

fn start_with(faults: &str) -> Step {
    Step::StartWith(faults.to_owned())
}

/// Nothing is begun meanwhile: a node that has begun events that it does not know would wait for a human.
fn without_sync(dice: &mut Dice, _: u32) -> Schedule {
    let [pause, resume] = [PAUSE, RESUME].map(|(what, call)| Step::Call(what, call));
    let unsynced = [Step::Kill, start_with("nosync:events"), pause, dice.burst(), Step::Acknowledged];
    unsynced.into_iter().chain([Step::PowerCut, Step::Start, resume, Step::Settle]).collect()
}

/// A file that is there; then, in a life with these faults, one event that is settled and one that is not.
fn unsettled(faults: &str) -> Schedule {
    let event = || [Step::Publish(1), Step::Settle];
    let killed = [Step::Publish(1), Step::Died, Step::Start, Step::Settle];
    let life = event().into_iter().chain([Step::Kill, start_with(faults)]).chain(event());
    life.chain(killed).collect()
}
