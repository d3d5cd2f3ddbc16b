//! A file's backlog: what is rendered ahead is planned in its turn, once, and not where anything has changed meanwhile.

use std::time::Duration;

use hms_actors::id::Offset;
use hms_actors::node::ReloadAll;
use hms_actors::ports::Schedule;
use hms_actors::receipt::Entry;
use hms_actors::work::Work;

use crate::fakes::World;
use crate::lanes::{apply, files, look, pass, recipe, simulated, start};

/// More than what is read at once, so that there are plans that are rendered ahead.
const BACKLOG: Offset = 21_000;
const FIRST_PLAN: Offset = 10_000;

/// What a target may have receipts of at once that are not on disk to stay.
const UNSYNCED: usize = 8_192;

fn backlog(events: Offset) -> World {
    let world = World::new();
    world.disk.borrow_mut().files.insert("/inbox/a.csv".into(), b"x\n".to_vec());
    for _ in 0..events {
        world.log.publish("k");
    }
    world
}

/// Every row is in the file once, in order, and every event has its receipt.
fn assert_all_once(world: &World) {
    let expected: String = world.log.events.borrow().iter().map(|event| format!("row-{}\n", event.id)).collect();
    let disk = world.disk.borrow();
    let found = String::from_utf8(disk.files["/inbox/a.csv"].clone()).unwrap();
    assert!(found == format!("x\n{expected}"), "{} bytes instead of {}", found.len(), 2 + expected.len());
    assert!(world.ledger.delivered() == (0..world.log.events.borrow().len() as Offset).collect::<Vec<_>>());
}

#[test]
fn what_is_rendered_ahead_is_in_the_file_once_and_in_order() {
    simulated(async {
        let world = backlog(BACKLOG);
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, files())).await;
        pass(1).await;
        assert_all_once(&world);
        let Some(Work::File(last)) = world.ledger.work.borrow().clone() else { panic!("no plan") };
        assert_eq!((last.plan.rows[0].offset, last.plan.rows.len() as Offset), (FIRST_PLAN, BACKLOG - FIRST_PLAN));
        let most = world.ledger.commits.borrow().iter().map(Vec::len).max().unwrap();
        assert!(most <= UNSYNCED / 2, "while {most} are synced as many are made");
        // What comes later is planned from the log.
        world.log.publish("k");
        pass(1).await;
        assert_all_once(&world);
        assert_eq!(look(&supervisor).await.targets[0].backlog, 0);
    });
}

/// Wherever the line breaks, in a plan that was read or in one that was rendered ahead.
#[test]
fn a_backlog_is_in_the_file_once_wherever_the_line_breaks() {
    for (fuse, partial) in (1..16).flat_map(|fuse| [(fuse, 0), (fuse, 20_000)]) {
        simulated(async {
            let world = backlog(FIRST_PLAN + 1_500);
            (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(fuse), partial);
            apply(&start(&world), recipe(Schedule::Every(Duration::from_secs(60)), files())).await;
            pass(61).await;
            world.disk.borrow_mut().fuse = None;
            pass(1_200).await;
            assert_all_once(&world);
        });
    }
}

#[test]
fn what_policies_deny_is_not_rendered_past() {
    simulated(async {
        let world = backlog(BACKLOG);
        world.governor.denies.borrow_mut().insert(FIRST_PLAN + 5, Some("P1"));
        let node = start(&world);
        apply(&node, recipe(Schedule::OnChange, files())).await;
        pass(60).await;
        assert_eq!(world.ledger.delivered().len() as Offset, FIRST_PLAN + 5);
        world.governor.denies.borrow_mut().clear();
        node.send(ReloadAll).await.unwrap();
        pass(600).await;
        assert_all_once(&world);
    });
}

#[test]
fn policies_that_say_no_by_now_are_heard_for_what_is_rendered_already() {
    simulated(async {
        let world = backlog(BACKLOG);
        // The second plan is rendered ahead, and its first attempt breaks off before anything of it is written.
        world.disk.borrow_mut().fuse = Some(6);
        let node = start(&world);
        apply(&node, recipe(Schedule::OnChange, files())).await;
        pass(1).await;
        assert_eq!(world.ledger.delivered().len() as Offset, FIRST_PLAN);
        world.governor.denies.borrow_mut().insert(FIRST_PLAN + 5, Some("P1"));
        world.disk.borrow_mut().fuse = None;
        node.send(ReloadAll).await.unwrap();
        pass(600).await;
        assert_eq!(world.ledger.delivered().len() as Offset, FIRST_PLAN + 5);
        let blocked = |entry: &Entry| matches!(entry, Entry::Blocked { event, .. } if event.offset == FIRST_PLAN + 5);
        assert!(world.ledger.entries.borrow().iter().any(blocked));
        world.governor.denies.borrow_mut().clear();
        node.send(ReloadAll).await.unwrap();
        pass(600).await;
        assert_all_once(&world);
    });
}
