//! What a lane of requests holds in memory: bounded, whoever is slow.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hms_actors::failure::Failure;
use hms_actors::ports::Schedule;
use hms_actors::settings::Lane;

use crate::fakes::{Answer, World};
use crate::runner::{REQUESTS, apply, pass, recipe, simulated, start};

fn held(world: &World) -> usize {
    world.log.held.load(Ordering::Relaxed)
}

/// Without keys, so that no event waits for another.
fn backlog(world: &World, events: usize) {
    (0..events).for_each(|_| _ = world.log.publish(""));
}

#[test]
fn where_receipts_take_long_what_waits_for_them_is_bounded() {
    simulated(async {
        let world = World::new();
        backlog(&world, 60_000);
        world.ledger.commit_takes.set(Duration::from_secs(3_600));
        let lane = Lane::Requests { concurrency: 4, max_events: 100 };
        let _supervisor = apply(&start(&world), recipe(Schedule::OnChange, lane)).await;
        pass(60).await;
        assert!(world.partner.accepted.borrow().len() >= 16_384, "the partner is not slow");
        assert!(held(&world) < 16_384 + 3 * 2_048, "{} events are held", held(&world));
    });
}

#[test]
fn in_an_outage_no_more_is_held_than_was_read_before_it() {
    simulated(async {
        let world = World::new();
        backlog(&world, 10_000);
        let down = || Answer::Fail(Failure::transient("connection refused"));
        world.partner.script.borrow_mut().extend(std::iter::repeat_with(down).take(1_000));
        let _supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(600).await;
        assert!(world.partner.accepted.borrow().is_empty(), "it is down");
        assert!(held(&world) <= 256, "{} events are held", held(&world));
    });
}

#[test]
fn in_an_outage_no_body_is_held() {
    simulated(async {
        let world = World::new();
        backlog(&world, 20);
        let down = || Answer::Fail(Failure::transient("connection refused"));
        world.partner.script.borrow_mut().extend(std::iter::repeat_with(down).take(4));
        let _supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(600).await;
        assert_eq!(world.ledger.delivered().len(), 20);
        // Of the first sixteen four had been sent, and the others were ready, when the circuit opened.
        let mut ahead = world.partner.ahead.take();
        ahead.sort_unstable();
        assert_eq!(ahead, [0, 1, 2, 3, 16, 17, 18, 19]);
    });
}
