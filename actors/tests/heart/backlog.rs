//! A file's backlog: what is rendered ahead is planned in its turn, once, and not where anything has changed meanwhile.

use std::time::Duration;

use hms_actors::id::Offset;
use hms_actors::node::{ReloadAll, Shutdown};
use hms_actors::ports::Schedule;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::work::Work;

use crate::fakes::World;
use crate::runner::{apply, files, look, pass, recipe, simulated, start};

/// More than what is read at once, so that there are plans that are rendered ahead.
const BACKLOG: Offset = 21_000;
const FIRST_PLAN: Offset = 10_000;

/// What comes after it, as it is rendered ahead: parts of a plan that are settled one after the other.
const PARTS: [Offset; 2] = [5_500, 5_500];

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
        assert!(most <= UNSYNCED, "{most}");
        // What comes later is planned from the log.
        world.log.publish("k");
        pass(1).await;
        assert_all_once(&world);
        assert_eq!(look(&supervisor).await.targets[0].backlog, 0);
    });
}

/// Wherever the line breaks, in a plan that was read or in one that was rendered ahead; the node goes on, or is another.
#[test]
fn a_backlog_is_in_the_file_once_wherever_the_line_breaks() {
    for (fuse, partial, restart) in
        (1..16).flat_map(|fuse| [(fuse, 0, false), (fuse, 20_000, false), (fuse, 20_000, true)])
    {
        simulated(async {
            let world = backlog(BACKLOG);
            (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(fuse), partial);
            let every_minute = recipe(Schedule::Every(Duration::from_secs(60)), files());
            let node = start(&world);
            apply(&node, every_minute.clone()).await;
            pass(61).await;
            if restart {
                node.send(Shutdown).await.unwrap();
                apply(&start(&world), every_minute).await;
            }
            world.disk.borrow_mut().fuse = None;
            pass(1_200).await;
            assert_all_once(&world);
        });
    }
}

/// What stands in the file has its receipts, though the plan is not carried out: the rest is what failed.
#[test]
fn parts_of_a_plan_are_settled_one_by_one() {
    simulated(async {
        let world = backlog(BACKLOG);
        // connect, length, anchor, length, write, length; ahead: length, anchor; then length, write, length, write.
        (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(12), 20_000);
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, files())).await;
        pass(1).await;
        let settled = FIRST_PLAN + PARTS[0];
        assert!(world.ledger.delivered() == (0..settled).collect::<Vec<_>>(), "{}", world.ledger.delivered().len());
        assert_eq!(look(&supervisor).await.targets[0].backlog, PARTS[1]);
        let Some(Work::File(open)) = world.ledger.work.borrow().clone() else { panic!("no plan") };
        assert_eq!((open.plan.rows[0].offset, open.plan.rows.len() as Offset), (FIRST_PLAN, PARTS.iter().sum()));
        let failed = |entry: &Entry| match entry {
            Entry::AttemptFailed { event, events, .. } => Some((event.offset, Offset::from(*events))),
            _ => None,
        };
        assert_eq!(world.ledger.entries.borrow().iter().find_map(failed), Some((settled, PARTS[1])));
        world.disk.borrow_mut().fuse = None;
        pass(600).await;
        assert_all_once(&world);
    });
}

/// What had its receipts is not written again: nobody knows what became of it.
#[test]
fn a_file_that_is_cut_where_a_part_is_settled_is_in_doubt() {
    simulated(async {
        let world = backlog(BACKLOG);
        world.disk.borrow_mut().fuse = Some(12);
        apply(&start(&world), recipe(Schedule::OnChange, files())).await;
        pass(1).await;
        let planned = world.disk.borrow().files["/inbox/a.csv"].len() - 20;
        world.disk.borrow_mut().files.get_mut("/inbox/a.csv").unwrap().truncate(planned);
        world.disk.borrow_mut().fuse = None;
        pass(600).await;
        assert_eq!(world.ledger.delivered().len() as Offset, FIRST_PLAN + PARTS[0]);
        assert!(world.ledger.open_causes().contains(&Cause::Doubt));
        assert_eq!(world.disk.borrow().files["/inbox/a.csv"].len(), planned);
    });
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
