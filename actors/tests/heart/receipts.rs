//! When receipts are written: together where others are about to come, and never later than that.

use std::time::Duration;

use hms_actors::ports::Schedule;
use hms_actors::receipt::Entry;

use crate::fakes::{Answer, World};
use crate::runner::{REQUESTS, apply, pass, recipe, simulated, start};

const HANGS: Answer = Answer::AcceptAfter(Duration::from_secs(60));

/// A lane of four, whose partner answers so; each event has the key that is given for it.
async fn answered(answers: [Answer; 4], keys: &[&str]) -> World {
    let world = World::new();
    world.partner.script.borrow_mut().extend(answers);
    for key in keys {
        world.log.publish(key);
    }
    apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
    pass(1).await;
    world
}

/// How many receipts each commit had.
fn commits(world: &World) -> Vec<usize> {
    let is_receipt = |entry: &&Entry| matches!(entry, Entry::Delivered { .. });
    let commits = world.ledger.commits.borrow();
    commits.iter().map(|entries| entries.iter().filter(is_receipt).count()).filter(|&count| count > 0).collect()
}

#[test]
fn what_is_accepted_while_as_much_is_under_way_is_one_commit() {
    simulated(async {
        let turns = Answer::AcceptAfterTurns;
        let world = answered([turns(1), turns(5), HANGS, HANGS], &["a", "b", "c", "d"]).await;
        assert_eq!((world.ledger.delivered(), commits(&world)), (vec![0, 1], vec![2]));
    });
}

#[test]
fn when_less_is_under_way_a_receipt_waits_for_nothing() {
    simulated(async {
        let turns = Answer::AcceptAfterTurns;
        let world = answered([turns(1), turns(5), turns(9), turns(13)], &["a", "b", "c", "d"]).await;
        assert_eq!((world.ledger.delivered(), commits(&world)), (vec![0, 1, 2, 3], vec![3, 1]));
    });
}

#[test]
fn a_receipt_does_not_wait_for_requests_that_hang() {
    simulated(async {
        let world = answered([Answer::Accept, HANGS, HANGS, HANGS], &["a", "b", "c", "d"]).await;
        assert_eq!(world.ledger.delivered(), [0]);
    });
}

#[test]
fn what_an_event_of_the_same_key_waits_for_is_written_at_once() {
    simulated(async {
        let world = answered([Answer::Accept, HANGS, HANGS, HANGS], &["a", "b", "c", "d", "a"]).await;
        let received = world.partner.received.borrow();
        let at = |offset: u64| received.iter().find(|(_, _, offsets)| *offsets == [offset]).map(|(at, ..)| *at);
        assert!(at(4).is_some(), "{received:?}");
        assert_eq!(at(4), at(0));
    });
}
