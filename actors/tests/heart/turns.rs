//! The lane of requests from turn to turn: what is stored while others go, what is committed together, and who has the
//! turn on a thread that has much to do.

use std::time::Duration;

use hms_actors::id::Offset;
use hms_actors::ports::Schedule;
use hms_actors::receipt::Entry;
use hms_actors::settings::Lane;
use hms_actors::supervisor::RunNow;

use crate::fakes::{Answer, World};
use crate::runner::{REQUESTS, apply, pass, recipe, simulated, start};

fn publish(world: &World, events: Offset) {
    for n in 0..events {
        world.log.publish(&format!("k{n}"));
    }
}

#[test]
fn what_is_accepted_in_one_turn_is_one_commit() {
    simulated(async {
        let world = World::new();
        publish(&world, 4);
        world.partner.script.borrow_mut().extend(vec![Answer::AcceptAfter(Duration::from_secs(1)); 4]);
        apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(10).await;
        let commits = world.ledger.commits.borrow();
        let receipts = |commit: &Vec<Entry>| commit.iter().filter(|e| matches!(e, Entry::Delivered { .. })).count();
        assert_eq!(commits.iter().map(receipts).collect::<Vec<_>>(), [4]);
    });
}

#[test]
fn no_request_goes_before_it_is_stored_and_those_that_are_stored_go_meanwhile() {
    simulated(async {
        let world = World::new();
        publish(&world, 100);
        world.ledger.begin_takes.set(Duration::from_millis(300));
        world.partner.script.borrow_mut().extend(vec![Answer::AcceptAfter(Duration::from_millis(100)); 100]);
        apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(60).await;
        let (begun, received) = (world.ledger.begun.borrow(), world.partner.received.borrow());
        assert_eq!(received.len(), 100);
        for (at, _, offsets) in received.iter() {
            let stored = begun.iter().find(|begun| offsets.iter().all(|offset| begun.offsets.contains(offset)));
            assert!(stored.is_some_and(|begun| begun.done <= *at), "{offsets:?} went at {at:?}: {begun:?}");
        }
        let meanwhile = |at| begun.iter().any(|begun| begun.asked < at && at < begun.done);
        assert!(received.iter().any(|(at, ..)| meanwhile(*at)), "{begun:?}");
    });
}

#[test]
fn what_was_accepted_in_the_turn_of_a_panic_has_its_receipt() {
    let times_received = |script: [Answer; 2], accepted: Offset| {
        simulated(async {
            let world = World::new();
            publish(&world, 2);
            world.partner.script.borrow_mut().extend(script);
            apply(&start(&world), recipe(Schedule::OnChange, Lane::Requests { concurrency: 2, max_events: 1 })).await;
            pass(600).await;
            let mut delivered = world.ledger.delivered();
            delivered.sort();
            assert_eq!(delivered, [0, 1]);
            world.partner.received.borrow().iter().filter(|(_, _, offsets)| offsets == &[accepted]).count()
        })
    };
    // Which of the two the lane takes first is nobody's affair; in one of these it is the one that was accepted.
    let (accept, panic) = (Answer::AcceptAfter(Duration::from_secs(1)), Answer::PanicAfter(Duration::from_secs(1)));
    let times = [times_received([accept.clone(), panic.clone()], 0), times_received([panic, accept], 1)];
    assert!(times.contains(&1), "{times:?}");
}

/// So many milliseconds pass on a thread that is never idle.
async fn busy(milliseconds: u64) {
    for _ in 0..milliseconds {
        tokio::time::advance(Duration::from_millis(1)).await;
    }
}

/// Of two worlds on one thread the first has the turn, and waits for its partner.
async fn holder() -> World {
    let holder = World::new();
    apply(&start(&holder), recipe(Schedule::OnChange, REQUESTS)).await;
    holder.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(10)));
    pass(1).await;
    publish(&holder, 1);
    busy(20).await;
    assert_eq!(holder.partner.received.borrow().len(), 1);
    holder
}

#[test]
fn on_a_thread_that_is_never_idle_a_partner_that_hangs_does_not_keep_the_turn() {
    simulated(async {
        let other = World::new();
        apply(&start(&other), recipe(Schedule::OnChange, REQUESTS)).await;
        let _holder = holder().await;
        publish(&other, 1);
        busy(50).await;
        assert!(other.partner.received.borrow().is_empty(), "it is not its turn");
        busy(100).await;
        assert_eq!(other.ledger.delivered(), [0]);
    });
}

#[test]
fn a_run_that_somebody_asked_for_waits_for_the_turn() {
    simulated(async {
        let other = World::new();
        let supervisor = apply(&start(&other), recipe(Schedule::Every(Duration::from_secs(3600)), REQUESTS)).await;
        let _holder = holder().await;
        publish(&other, 1);
        let report = tokio::task::spawn_local(supervisor.send(RunNow));
        busy(50).await;
        assert!(!report.is_finished(), "it is not its turn");
        busy(100).await;
        assert_eq!(report.await.unwrap().unwrap()[0].delivered, 1);
    });
}
