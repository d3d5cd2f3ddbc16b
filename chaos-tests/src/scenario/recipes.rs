//! An operator changes the recipe while a write is open: what was begun is finished as it was begun.

use super::Scenario;
use super::actor::{Kind, Role};
use super::schedule::{Dice, Fault, Schedule, Step, fault, heal};
use super::stage::{Cast, RECIPE, Stage};
use crate::judge::Circuit;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "recipe-applied-with-an-open-plan",
        about: "Rows are written and not settled when the recipe changes their shape.",
        rounds: 2,
        cast: mainframe,
        schedule: |dice, rounds| (0..rounds).flat_map(|_| with_open_plan(dice, APPLY, None).0).collect(),
        must_find: &[],
    },
    Scenario {
        name: "recipe-paused-with-an-open-plan",
        about: "The recipe is paused while a write is open, over a restart, and resumed.",
        rounds: 2,
        cast: mainframe,
        schedule: |dice, rounds| (0..rounds).flat_map(|_| with_open_plan(dice, PAUSE, Some(RESUME)).0).collect(),
        must_find: &[],
    },
    Scenario {
        name: "target-renamed-with-an-open-plan",
        about: "A target gets another name while a write is open.",
        rounds: 1,
        cast: mainframe,
        schedule: |dice, _| with_open_plan(dice, RENAME, None),
        must_find: &[],
    },
    Scenario {
        name: "recipe-deleted-with-an-open-plan",
        about: "A recipe with an open write is not deleted by accident; abandoned, all that waits is a dead letter.",
        rounds: 1,
        cast: mainframe,
        schedule: |dice, _| {
            let mut schedule = with_open_plan(dice, DELETE, None);
            // Nobody reads what is published afterwards.
            let end = schedule.0.iter().position(|step| matches!(step, Step::Call(..))).map_or(0, |call| call + 1);
            schedule.0.truncate(end);
            schedule.then([Step::Kill, Step::Start, heal(TARGET), Step::Settle])
        },
        must_find: &[],
    },
];

const TARGET: &str = "mainframe";
const APPLY: (&str, fn(&mut Stage)) = ("another shape of rows is applied", apply);
pub(super) const PAUSE: (&str, fn(&mut Stage)) =
    ("the recipe is paused", |stage| drop(stage.node.cli(["sync", "pause", RECIPE]).ok()));
pub(super) const RESUME: (&str, fn(&mut Stage)) =
    ("the recipe is resumed", |stage| drop(stage.node.cli(["sync", "resume", RECIPE]).ok()));
const RENAME: (&str, fn(&mut Stage)) = ("the target is renamed", rename);
const DELETE: (&str, fn(&mut Stage)) = ("the recipe is deleted", delete);

fn mainframe() -> Cast {
    Cast::new([Role::new(TARGET, Kind::Sftp)]).with_fault_points()
}

type Call = (&'static str, fn(&mut Stage));

/// The node died between write and settle, and the file server is away: then something is done, and it is back.
fn with_open_plan(dice: &mut Dice, done: Call, afterwards: Option<Call>) -> Schedule {
    let call = |(what, call): Call| Step::Call(what, call);
    let open = [dice.burst(), Step::Settle, Step::Kill, Step::StartWith("append.written".to_owned()), dice.burst()];
    let away = [Step::Died, fault(TARGET, Fault::Down), Step::Start, dice.burst(), Step::Acknowledged, call(done)];
    let back = [Step::Kill, Step::Start, heal(TARGET), dice.burst(), Step::Acknowledged, dice.wait(100..=500)];
    let end = afterwards.map(call).into_iter().chain([Step::Settle]);
    Schedule::default().then(open).then(away).then(back).then(end)
}

fn apply(stage: &mut Stage) {
    stage.fields = if stage.fields == "[id, key, n]" { "[id, n, key]" } else { "[id, key, n]" };
    stage.node.apply(&stage.recipe());
}

fn rename(stage: &mut Stage) {
    let role = &mut stage.actor(TARGET).role;
    role.name = "archive".to_owned();
    role.formerly = Some(TARGET.to_owned());
    role.more += "    renamed_from: mainframe\n";
    let key = std::fs::read_to_string(stage.node.path("secrets/MAINFRAME_SSH_KEY")).expect("the scenario put it there");
    stage.node.file("secrets/ARCHIVE_SSH_KEY", &key);
    stage.node.apply(&stage.recipe());
}

fn delete(stage: &mut Stage) {
    stage.node.cli(["sync", "delete", RECIPE]).failed_with(1);
    let audit = stage.node.audit();
    let delivered: Vec<_> =
        audit.iter().filter(|record| record["kind"] == "delivered").map(|record| record["event_id"].as_str()).collect();
    let acknowledged = stage.publisher.acknowledged().into_iter().map(|event| event.id);
    let dead = acknowledged.filter(|id| !delivered.contains(&Some(id))).collect();
    let expected = &mut stage.actor(TARGET).role.expected;
    (expected.dead, expected.circuit) = (dead, Circuit::Gone);
    stage.node.cli(["sync", "delete", RECIPE, "--abandon"]).ok();
}
