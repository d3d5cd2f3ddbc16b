//! The node is killed, at random and at named points.

use super::Scenario;
use super::actor::{Kind, Role};
use super::schedule::{Dice, Schedule, Step};
use super::stage::Cast;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "node-killed-at-random",
        about: "The node is killed again and again while events are published and delivered.",
        rounds: 10,
        cast: || Cast::new(one_of_each()),
        schedule: at_random,
        must_find: &[],
    },
    Scenario {
        name: "node-killed-between-two-steps",
        about: "The node dies between any two steps of the append protocol, of the store and of publishing.",
        rounds: 12,
        cast: || Cast::new(one_of_each()).with_fault_points(),
        schedule: between_steps,
        must_find: &[],
    },
    Scenario {
        name: "power-cut-at-random",
        about: "The node's machine loses power again and again: what was not synced is gone.",
        rounds: 10,
        cast: || Cast::new(one_of_each()).with_fault_points(),
        schedule: power_cuts,
        must_find: &[],
    },
];

/// A target of each kind.
pub fn one_of_each() -> [Role; 4] {
    [
        Role::new("keeps_keys", Kind::Honours),
        Role::new("ignores_keys", Kind::Ignores),
        Role::new("mainframe", Kind::Sftp),
        Role::new("spool", Kind::File),
    ]
}

fn at_random(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let mut steps = vec![dice.burst(), dice.wait(0..=250), Step::Kill];
        if dice.number(0..=2) == 0 {
            // Published while nobody is there.
            steps.push(dice.burst());
        }
        steps.push(Step::Start);
        steps
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

fn power_cuts(dice: &mut Dice, rounds: u32) -> Schedule {
    let on = || Step::StartWith("power".to_owned());
    let round = |_| [on(), dice.burst(), dice.wait(0..=250), Step::PowerCut];
    let rounds: Schedule = (0..rounds).flat_map(round).collect();
    Schedule(vec![Step::Kill]).then(rounds.0).then([Step::Start, dice.burst(), Step::Settle])
}

const POINTS: [&str; 12] = [
    "append.planned",
    "append.before_write",
    "append.written",
    "append.ready",
    "append.renamed",
    "append.verified",
    "ledger.after_begin",
    "ledger.before_commit",
    "ledger.after_commit",
    "ledger.before_cache",
    "feeds.after_write",
    "feeds.after_sync",
];

/// Each point in turn, at its first to fourth passage. A new file has points of its own: somebody takes it away.
fn between_steps(dice: &mut Dice, rounds: u32) -> Schedule {
    use super::schedule::Hand::PickUp;
    let first = Schedule(vec![dice.burst()]);
    let round = |round: u32| {
        let point = POINTS[round as usize % POINTS.len()];
        let is_of_new_files = matches!(point, "append.ready" | "append.renamed");
        let passage = if is_of_new_files { 1 } else { dice.number(1..=4) };
        let fresh = is_of_new_files.then(|| Step::Hand("spool".to_owned(), PickUp));
        let killed =
            [Step::Kill, Step::StartWith(format!("{point}:{passage}")), Step::Publish(2), Step::Died, Step::Start];
        [Step::Settle].into_iter().chain(fresh).chain(killed)
    };
    first.then((0..rounds).flat_map(round).collect::<Vec<_>>()).then([Step::Settle])
}
