//! Partners that do the work and lose the answer, give none in time, or refuse some of it.

use super::actor::{Kind, Role};
use super::schedule::{Dice, Fault, Schedule, Step, fault, heal};
use super::stage::Cast;
use super::{Scenario, publisher};
use crate::judge::Circuit;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "replies-lost-after-the-effect",
        about: "Partners carry requests out, and the connection breaks before the answer.",
        rounds: 8,
        cast: || Cast::new([Role::new("keeps_keys", Kind::Honours), Role::new("ignores_keys", Kind::Ignores)]),
        schedule: replies_lost,
        must_find: &[],
    },
    Scenario {
        name: "batch-timed-out-then-more-events-then-a-restart",
        about: "A batch gets no answer, more events follow, the node is killed: the same batch goes again.",
        rounds: 2,
        cast: || {
            let batched = |name, kind| {
                Role::new(name, kind).with("timeout: 1s").with("batch: {max_events: 5, format: json_array}")
            };
            Cast::new([batched("keeps_keys", Kind::Honours), batched("ignores_keys", Kind::Ignores)])
        },
        schedule: batch_timed_out,
        must_find: &[],
    },
    Scenario {
        name: "sshd-stopped-mid-write",
        about: "The file server's machine stops in the middle of writes, then goes on or loses power.",
        rounds: 3,
        cast: || Cast::new([Role::new("mainframe", Kind::Sftp).with("timeout: 2s")]),
        schedule: sshd_stopped,
        must_find: &[],
    },
    Scenario {
        name: "partner-refuses-one-event",
        about: "A partner refuses one event for ever: it ends as a dead letter, and all others are delivered.",
        rounds: 1,
        cast: || Cast::new([refusing("requests"), Role::new("well", Kind::Honours)]),
        schedule: |dice, _| refused(dice, "requests"),
        must_find: &[],
    },
    Scenario {
        name: "batch-refused-for-one-bad-event",
        about: "A partner refuses every batch with one bad event: it is split until only that one is a dead letter.",
        rounds: 1,
        cast: || Cast::new([refusing("batches").with("batch: {max_events: 8, format: json_array}")]),
        schedule: |dice, _| refused(dice, "batches"),
        must_find: &[],
    },
];

fn replies_lost(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let every = u32::try_from(dice.number(2..=5)).unwrap_or(2);
        let lost = ["keeps_keys", "ignores_keys"].map(|target| fault(target, Fault::LoseReplies(every)));
        lost.into_iter().chain([dice.burst(), dice.wait(10..=300)]).collect::<Vec<_>>()
    };
    let rounds: Schedule = (0..rounds).flat_map(round).collect();
    rounds.then([heal("keeps_keys"), heal("ignores_keys"), Step::Settle])
}

fn batch_timed_out(dice: &mut Dice, rounds: u32) -> Schedule {
    let both = |what: fn(&str) -> Step| ["keeps_keys", "ignores_keys"].map(what);
    let round = |_| {
        let hang = both(|target| fault(target, Fault::Hang)).into_iter();
        let meanwhile =
            [dice.burst(), dice.wait(1000..=1500), dice.burst(), Step::Acknowledged, Step::Kill, Step::Start];
        hang.chain(meanwhile).chain(both(heal)).chain([dice.burst(), Step::Settle]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect()
}

fn sshd_stopped(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |round| {
        let target = "mainframe";
        let stopped =
            [dice.burst(), dice.wait(0..=60), fault(target, Fault::Hang), dice.burst(), dice.wait(500..=3000)];
        let power = (round % 2 == 1).then(|| fault(target, Fault::Down));
        stopped.into_iter().chain(power).chain([heal(target)]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

/// The third event is bad, whoever publishes it.
const BAD: u32 = 2;

fn refusing(name: &str) -> Role {
    Role::new(name, Kind::Honours).expecting(|end| {
        end.dead = [publisher::id(BAD)].into();
        // The ticket waits for its replay.
        end.tickets = Some([("refused".to_owned(), 1)].into());
        end.open = ["refused".to_owned()].into();
        end.circuit = Circuit::Undisturbed;
    })
}

fn refused(dice: &mut Dice, target: &str) -> Schedule {
    let bad = Fault::Refuse(publisher::id(BAD));
    Schedule(vec![fault(target, bad), Step::Publish(8), dice.burst(), dice.burst(), Step::Settle])
}
