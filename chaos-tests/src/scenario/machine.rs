//! What the node's and the partners' machines do: full disks, a clock that steps, and an adapter that panics.

use super::Scenario;
use super::actor::{Kind, Role};
use super::kills::one_of_each;
use super::schedule::{Dice, Fault, Schedule, Step, fault, heal};
use super::stage::{Cast, RECIPE, Stage};
use crate::judge::{Circuit, Evidence};
use crate::wait;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "disk-full-at-the-partner",
        about: "The file server's disk is full in the middle of a write, and has room again.",
        rounds: 2,
        cast: || {
            let full = Role { disk: Some(64 << 10), ..Role::new("mainframe", Kind::Sftp) };
            Cast::new([full, Role::new("well", Kind::Honours).expecting(|end| end.circuit = Circuit::Undisturbed)])
        },
        schedule: full_partner,
        must_find: &[],
    },
    Scenario {
        name: "disk-full-at-the-node",
        about: "The node's disk is full: publishers are refused, deliveries wait, and both go on when there is room.",
        rounds: 2,
        cast: || Cast { disk: Some(96 << 20), ..Cast::new(one_of_each()) },
        schedule: full_node,
        must_find: &[],
    },
    Scenario {
        name: "clock-steps-over-midnight",
        about: "The host is down over midnight, and the clock goes back an hour: rows are in the right day's file, no date goes back.",
        rounds: 3,
        cast: || {
            let dated = |name, kind| Role { dated: true, ..Role::new(name, kind) };
            let files = [dated("mainframe", Kind::Sftp), dated("spool", Kind::File)];
            Cast::new(files.into_iter().chain([Role::new("requests", Kind::Honours)])).with_fault_points()
        },
        schedule: clock,
        must_find: &[],
    },
    Scenario {
        name: "adapter-panics-a-hundred-times",
        about: "An adapter panics in a hundred attempts: only its target is left alone, and is delivered to in the end.",
        rounds: 3,
        cast: || {
            let undisturbed = |role: Role| role.expecting(|end| end.circuit = Circuit::Undisturbed);
            let others = one_of_each().map(undisturbed);
            let panics = Role::new("panics", Kind::Honours).expecting(|end| {
                end.tickets = Some([("outage".to_owned(), 1), ("quarantine".to_owned(), 1)].into());
                end.circuit = Circuit::Recovered;
            });
            Cast::new([panics].into_iter().chain(others)).with_fault_points()
        },
        schedule: panics,
        must_find: &[],
    },
];

fn full_partner(dice: &mut Dice, rounds: u32) -> Schedule {
    // More than the page that the file has begun.
    let round = |_| {
        let full = [dice.burst(), Step::Settle, fault("mainframe", Fault::Full), Step::Publish(500)];
        full.into_iter().chain([dice.wait(1500..=2500), heal("mainframe"), Step::Settle]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect()
}

fn full_node(dice: &mut Dice, rounds: u32) -> Schedule {
    let fill = Step::Call("the node's disk is full", |stage| stage.disk.as_ref().expect("a small disk").fill());
    let free = Step::Call("the node's disk has room", |stage| stage.disk.as_ref().expect("a small disk").free());
    let round = |_| {
        let full = [dice.burst(), dice.wait(0..=100), fill.clone(), dice.burst(), dice.burst()];
        full.into_iter().chain([dice.wait(500..=1500), free.clone(), dice.burst(), Step::Settle]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect()
}

const DAY: i64 = 24 * 60;

/// Each round is a midnight. The file server is down when it comes; then the clock goes back an hour, to the day
/// before, at times over a restart: what was planned after midnight is not undone by it.
fn clock(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |round: u32| {
        let midnight = i64::from(round) * DAY;
        let before = [Step::ClockAt(midnight - 10), dice.burst(), Step::Settle, dice.burst(), dice.wait(0..=100)];
        let over = [fault("mainframe", Fault::Down), dice.burst(), Step::ClockAt(midnight + 5), dice.burst()];
        let up = [dice.wait(50..=300), heal("mainframe"), Step::Settle, dice.burst(), dice.wait(0..=50)];
        let back = Step::ClockAt(midnight - 55);
        let restart = if dice.number(0..=1) == 0 { vec![Step::Kill, back, Step::Start] } else { vec![back] };
        before.into_iter().chain(over).chain(up).chain(restart).chain([dice.burst(), Step::Settle]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Call("each day has its file", each_day)])
}

/// That the clock did step: two files a midnight, of the day before and the day after.
fn each_day(stage: &mut Stage) {
    let midnights = stage.clock.midnights();
    for actor in stage.actors.iter().filter(|actor| actor.role.dated) {
        let Evidence::Files(days) = actor.evidence() else { panic!("{} has files", actor.role.name) };
        assert_eq!(days.len(), midnights + 1, "{}: {days:?}", actor.role.name);
    }
}

fn panics(dice: &mut Dice, rounds: u32) -> Schedule {
    let life = [Step::Kill, Step::StartWith("panic:adapter.rest@panics*100".to_owned())];
    let round = |_| [dice.burst(), dice.wait(500..=1500), Step::Run];
    let panics: Vec<Step> = (0..rounds).flat_map(round).collect();
    let quarantined = Step::Call("the target is left alone", |stage| {
        wait::until("the ticket of a quarantine", || {
            let _ = stage.node.cli(["sync", "run", RECIPE, "--no-wait"]);
            stage.node.open_tickets().iter().any(|ticket| ticket["cause"] == "quarantine").then_some(())
        });
    });
    let end = [quarantined, Step::Kill, Step::Start, Step::Settle];
    Schedule(vec![dice.burst(), Step::Settle]).then(life).then(panics).then(end)
}
