//! When receipts are written: together where others are about to come, and never later than that.

use std::time::Duration;

use hms_actors::failure::Failure;
use hms_actors::ports::Schedule;
use hms_actors::receipt::Entry;
use hms_actors::settings::Lane;

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
    delivered(world, REQUESTS).await
}

async fn delivered(world: World, lane: Lane) -> World {
    apply(&start(&world), recipe(Schedule::OnChange, lane)).await;
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

#[test]
fn receipts_that_are_many_wait_for_no_more() {
    simulated(async {
        let world = World::new();
        let turns = |turns, count| std::iter::repeat_n(Answer::AcceptAfterTurns(turns), count);
        world.partner.script.borrow_mut().extend(turns(1, 127).chain(turns(5, 1)).chain(turns(9, 1)));
        world.partner.script.borrow_mut().extend(std::iter::repeat_n(HANGS, 271));
        (0..400).for_each(|_| _ = world.log.publish(""));
        let world = delivered(world, Lane::Requests { concurrency: 400, max_events: 1 }).await;
        assert_eq!(commits(&world), [128, 1]);
    });
}

#[test]
fn a_part_of_a_batch_waits_for_no_other_receipt() {
    simulated(async {
        let world = World::new();
        let refused = Answer::Fail(Failure::refused("422"));
        world.partner.script.borrow_mut().extend([refused, HANGS, HANGS, HANGS]);
        (0..8).for_each(|_| _ = world.log.publish(""));
        let world = delivered(world, Lane::Requests { concurrency: 4, max_events: 2 }).await;
        assert_eq!((world.ledger.delivered(), commits(&world)), (vec![0, 1], vec![1, 1]));
    });
}
