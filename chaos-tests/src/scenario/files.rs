//! Somebody else handles our files.

use super::Scenario;
use super::actor::{Kind, Role};
use super::schedule::{Dice, Hand, Schedule, Step};
use super::stage::Cast;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "file-picked-up-mid-day",
        about: "The mainframe takes the file away again and again, while rows are written.",
        rounds: 8,
        cast: files,
        schedule: picked_up,
        must_find: &[],
    },
    Scenario {
        name: "file-picked-up-between-write-and-settle",
        about: "Rows are written, the node dies before it can say so, and the file is gone when it is back.",
        rounds: 2,
        cast: || files().with_fault_points(),
        schedule: picked_up_unsettled,
        must_find: &[],
    },
    Scenario {
        name: "file-changed-by-somebody-else",
        about: "The file is emptied, cut, begun anew, and others write into it, between our batches.",
        rounds: 6,
        // Somebody has to talk to whoever does this: the tickets stay.
        cast: || {
            let shared = |role: Role| role.expecting(|end| end.open = ["foreign_writer".to_owned()].into());
            Cast::new(files().roles.into_iter().map(shared))
        },
        schedule: changed,
        must_find: &[],
    },
];

const BOTH: [&str; 2] = ["mainframe", "spool"];

fn files() -> Cast {
    Cast::new([Role::new("mainframe", Kind::Sftp), Role::new("spool", Kind::File)])
}

fn hand(target: &str, hand: Hand) -> Step {
    Step::Hand(target.to_owned(), hand)
}

fn picked_up(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let target = *dice.one_of(&BOTH);
        [dice.burst(), dice.wait(0..=150), dice.burst(), hand(target, Hand::PickUp), dice.wait(0..=100)]
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

fn picked_up_unsettled(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let before = [dice.burst(), Step::Settle, Step::Kill, Step::StartWith("append.written".to_owned())];
        let killed = [dice.burst(), Step::Died].into_iter().chain(BOTH.map(|target| hand(target, Hand::PickUp)));
        before.into_iter().chain(killed).chain([Step::Start, dice.burst(), Step::Settle]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect()
}

fn changed(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |round: u32| {
        let row = format!("foreign-{round},theirs,0");
        let hands = [Hand::Empty, Hand::CutAfter(1), Hand::BeginAnew(row.clone()), Hand::Append(row)];
        let hands = BOTH.map(|target| hand(target, dice.one_of(&hands).clone()));
        [dice.burst(), Step::Settle].into_iter().chain(hands).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([dice.burst(), Step::Settle])
}
