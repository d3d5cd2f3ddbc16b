//! Dead letters are replayed, all of them at a rate, while new events flow and the node is killed: begun again until
//! none is left, each is delivered once. One of them is dropped.

use super::Scenario;
use super::actor::{Kind, Role};
use super::kills::one_of_each;
use super::schedule::{Dice, Fault, Schedule, Step, fault, heal};
use super::stage::{Cast, RECIPE, Stage};
use crate::judge::Circuit;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "refused-events-replayed-while-the-node-is-killed",
        about: "Partners mend what they refused; the dead letters are replayed while the node is killed, one is dropped.",
        rounds: 3,
        cast: || Cast::new([refusing("keeps_keys", Kind::Honours), refusing("ignores_keys", Kind::Ignores)]),
        schedule: refused,
        must_find: &[],
    },
    Scenario {
        name: "abandoned-events-replayed-while-the-node-is-killed",
        about: "A recipe with a backlog is deleted and applied anew; its dead letters are replayed, into files too.",
        rounds: 3,
        cast: || Cast::new(one_of_each()),
        schedule: abandoned,
        must_find: &[],
    },
];

/// Ids that end so: others of the same key get through between them, so it is the events and not the partner.
const BAD: [&str; 2] = ["6\",", "7\","];

/// One incident, which is over when the last of its dead letters is replayed or dropped.
fn refusing(name: &str, kind: Kind) -> Role {
    Role::new(name, kind).expecting(|end| {
        end.tickets = Some([("refused".to_owned(), 1)].into());
        end.circuit = Circuit::Undisturbed;
    })
}

fn refused(dice: &mut Dice, rounds: u32) -> Schedule {
    let refusals = ["keeps_keys", "ignores_keys"].into_iter().zip(BAD);
    let bad = refusals.map(|(target, text)| fault(target, Fault::Refuse(text.to_owned())));
    let dead = bad.chain([Step::Publish(60), dice.burst(), Step::Settle]);
    Schedule::default().then(dead).then(["keeps_keys", "ignores_keys"].map(heal)).then(replayed(dice, rounds).0)
}

fn abandoned(dice: &mut Dice, rounds: u32) -> Schedule {
    let gone = Step::Call("the recipe is deleted with its backlog, and applied anew", |stage| {
        stage.node.cli(["sync", "delete", RECIPE, "--abandon"]).ok();
        stage.node.apply(&stage.recipe());
    });
    let pause = Step::Call("the recipe is paused", |stage| drop(stage.node.cli(["sync", "pause", RECIPE]).ok()));
    let before = [dice.burst(), Step::Settle, pause, dice.burst(), dice.burst(), Step::Acknowledged, gone];
    Schedule::default().then(before).then(replayed(dice, rounds).0)
}

/// The replay is begun again after each kill, and in the end carried through.
fn replayed(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let rate = dice.number(5..=20);
        let replay = [Step::Replay(rate), dice.burst(), dice.wait(50..=400)];
        replay.into_iter().chain([Step::Kill, dice.burst(), Step::Start]).collect::<Vec<_>>()
    };
    let rounds: Vec<Step> = (0..rounds).flat_map(round).collect();
    Schedule(vec![Step::Call("a dead letter is dropped", drop_one)]).then(rounds).then([
        dice.burst(),
        Step::ReplayAll,
        Step::Settle,
    ])
}

/// The last one of each target: nobody delivers it any more.
fn drop_one(stage: &mut Stage) {
    let letters = stage.dead_letters();
    for actor in &mut stage.actors {
        let last = letters.iter().rev().find(|letter| letter["target"] == actor.role.name.as_str());
        let last = last.unwrap_or_else(|| panic!("{} has no dead letter", actor.role.name));
        let (number, event) = (last["number"].to_string(), last["event_id"].as_str().unwrap_or_default());
        stage.node.cli(["dlq", "drop", &number, "--reason", "withdrawn"]).ok();
        actor.role.expected.dead.insert(event.to_owned());
    }
}
