//! Schedules in simulated time: when events go, and what the lines of a run count.

use std::time::Duration;

use hms_actors::failure::Failure;
use hms_actors::ports::Schedule;
use hms_actors::settings::{FileSettings, Lane, LineEnd, OnDoubt, WriteMode};

use crate::fakes::{Answer, World};
use crate::runner::{REQUESTS, apply, look, recipe, simulated, start};

const MINUTE: Schedule = Schedule::Every(Duration::from_secs(60));

#[test]
fn within_sixty_seconds_holds_for_every_moment_of_publication() {
    simulated(async {
        let world = World::new();
        apply(&start(&world), recipe(MINUTE, REQUESTS)).await;
        for _ in 0..200 {
            world.log.publish("k");
            tokio::time::sleep(Duration::from_millis(7_300)).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let events = world.log.events.borrow();
        let received = world.partner.received.borrow();
        assert_eq!(received.len(), 200);
        for (at, _, offsets) in received.iter() {
            let age = at.since(events[offsets[0] as usize].published);
            assert!(age <= Duration::from_secs(60), "event {} was {age:?} old", offsets[0]);
        }
        let moments: std::collections::BTreeSet<_> = received.iter().map(|(at, _, _)| at).collect();
        assert!(moments.len() <= 1 + 1460 / 30, "a run sends what has gathered: {} runs", moments.len());
    });
}

#[test]
fn a_run_writes_one_line_however_many_events_it_completed() {
    simulated(async {
        let world = World::new();
        let lane = FileSettings { write: WriteMode::Append, on_doubt: OnDoubt::Hold, line_end: LineEnd::Lf };
        apply(&start(&world), recipe(MINUTE, Lane::Files(lane))).await;
        for _ in 0..3 {
            world.log.publish("k");
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(*world.witness.runs.borrow(), [(3, 0)]);
    });
}

#[test]
fn a_retry_outside_a_tick_is_a_run_of_its_own() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::Fail(Failure::transient("reset")));
        apply(&start(&world), recipe(MINUTE, REQUESTS)).await;
        world.log.publish("k");
        tokio::time::sleep(Duration::from_secs(70)).await;
        assert_eq!(*world.witness.runs.borrow(), [(0, 1), (1, 0)]);
    });
}

#[test]
fn what_is_overdue_after_a_restart_goes_at_once() {
    simulated(async {
        let world = World::new();
        world.log.publish("k");
        tokio::time::sleep(Duration::from_secs(300)).await;
        let supervisor = apply(&start(&world), recipe(MINUTE, REQUESTS)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(look(&supervisor).await.targets[0].checkpoint, 1);
    });
}
