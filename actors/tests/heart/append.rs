//! The append protocol against a disk that fails after any operation, a process that dies between any two,
//! and partners who move files: no row twice, none lost, doubt where nobody can know.

use std::collections::BTreeSet;

use hms_actors::append::recover::{Range, Seen, Verdict, verdict};
use hms_actors::append::{Appender, Tools};
use hms_actors::event::Event;
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::Timestamp;
use hms_actors::ports::Ledger;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settings::{FileSettings, LineEnd, OnDoubt, WriteMode};
use hms_actors::work::{FileWork, Place, Plan, Work};
use proptest::prelude::*;

use crate::fakes::{World, key};

const PATH: &str = "/inbox/a.csv";

async fn appender(world: &World, write: WriteMode, on_doubt: OnDoubt) -> Appender {
    let opened = world.ledger.open(&key()).await.unwrap();
    let tools = Tools {
        target: key(),
        epoch: opened.epoch,
        ledger: world.env.ledger.clone(),
        partners: world.env.partners.clone(),
        clock: world.env.clock.clone(),
        place: std::rc::Rc::new(|| Box::pin(async { Ok(()) })),
        gate: std::rc::Rc::new(|_, _| Ok(())),
        step: |_| {},
    };
    Appender::new(tools, FileSettings { write, on_doubt, line_end: LineEnd::Lf }, 1, opened.work)
}

fn waiting(world: &World) -> Vec<Event> {
    let settled = world.ledger.settled.borrow();
    world.log.events.borrow().iter().filter(|event| !settled.contains(event.offset)).cloned().collect()
}

/// What the delivery does: finish the open plan, else deliver what waits.
async fn attempt(world: &World, appender: &mut Appender) -> Result<(), Failure> {
    let events = waiting(world);
    let open: BTreeSet<u64> = appender.begun().iter().flat_map(|plan| plan.rows.iter().map(|row| row.offset)).collect();
    let begun: Vec<Event> = events.iter().filter(|event| open.contains(&event.offset)).cloned().collect();
    let arrived = if begun.is_empty() {
        if appender.begun().is_some_and(|plan| !plan.rows.is_empty()) {
            appender.is_settled();
        }
        appender.deliver(&events, None).await?
    } else {
        appender.finish(&begun).await?
    };
    world.ledger.commit(&key(), world.ledger.epoch.get(), arrived.receipts().collect()).await.map(drop)
}

/// A file with one row of somebody's, and a write of ours whose answer never came; `arrived` bytes of it did.
async fn cut_off_in_a_write(on_doubt: OnDoubt, arrived: usize) -> (World, Appender) {
    let world = World::new();
    world.disk.borrow_mut().files.insert(PATH.into(), b"x\n".to_vec());
    world.log.publish("k");
    let mut appender = appender(&world, WriteMode::Append, on_doubt).await;
    // connect, length, anchor, length, write.
    (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(5), arrived);
    assert_eq!(attempt(&world, &mut appender).await.unwrap_err().kind, FailureKind::Transient);
    world.disk.borrow_mut().fuse = None;
    (world, appender)
}

fn file(world: &World) -> String {
    world.disk.borrow().files.get(PATH).map(|bytes| String::from_utf8(bytes.clone()).unwrap()).unwrap_or_default()
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

proptest! {
    /// Wherever the connection breaks and wherever the process dies, every row is in the file exactly once, in order.
    #[test]
    fn each_row_is_in_the_file_exactly_once_whatever_breaks_when(
        existing in any::<bool>(),
        rounds in proptest::collection::vec((0u32..14, 0usize..40, any::<bool>(), 1usize..4), 1..12),
    ) {
        paused(async {
            let world = World::new();
            if existing {
                world.disk.borrow_mut().files.insert(PATH.into(), b"older row without an end".to_vec());
            }
            let mut appender_now = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
            for (fuse, partial, crash, publish) in rounds {
                for _ in 0..publish {
                    world.log.publish("k");
                }
                world.disk.borrow_mut().fuse = Some(fuse);
                world.disk.borrow_mut().partial = partial;
                let result = attempt(&world, &mut appender_now).await;
                world.disk.borrow_mut().fuse = None;
                if let Err(failure) = result {
                    prop_assert_ne!(failure.kind, FailureKind::Doubt, "nobody else touches the file: {}", failure);
                }
                if crash {
                    appender_now = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
                }
            }
            while !waiting(&world).is_empty() {
                attempt(&world, &mut appender_now).await.unwrap();
            }
            let expected: String = world.log.events.borrow().iter().map(|event| format!("row-{}\n", event.id)).collect();
            let before = if existing { "older row without an end\n" } else { "" };
            prop_assert_eq!(file(&world), format!("{before}{expected}"));
            Ok(())
        })?;
    }
}

#[test]
fn receipts_say_where_each_row_stands() {
    paused(async {
        let world = World::new();
        world.log.publish("k");
        world.log.publish("k");
        let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        attempt(&world, &mut appender).await.unwrap();
        let entries = world.ledger.entries.borrow();
        let text = file(&world);
        let rows: Vec<&str> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Delivered {
                    receipt: hms_actors::receipt::Receipt::File { file_offset, length, fsync: true, .. },
                    ..
                } => &text[*file_offset as usize..(*file_offset + *length) as usize],
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(rows, ["row-e0\n", "row-e1\n"]);
    });
}

#[test]
fn a_file_that_was_picked_up_after_the_last_plan_is_begun_anew() {
    paused(async {
        let world = World::new();
        let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        world.disk.borrow_mut().files.clear();
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "row-e1\n");
    });
}

#[test]
fn a_file_that_is_gone_between_write_and_settle_is_in_doubt_and_the_answer_retry_plans_again() {
    paused(async {
        let (world, mut appender) = cut_off_in_a_write(OnDoubt::Hold, 1000).await;
        assert_eq!(file(&world), "x\nrow-e0\n");
        world.disk.borrow_mut().files.clear();
        assert_eq!(attempt(&world, &mut appender).await.unwrap_err().kind, FailureKind::Doubt);
        appender.forget().await.unwrap();
        let wait = attempt(&world, &mut appender).await.unwrap_err().retry_after.unwrap();
        tokio::time::advance(wait).await;
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "row-e0\n");
    });
}

#[test]
fn resend_waits_for_late_writes_and_writes_again() {
    paused(async {
        let (world, mut appender) = cut_off_in_a_write(OnDoubt::Resend, 0).await;
        world.disk.borrow_mut().files.clear();
        let wait = attempt(&world, &mut appender).await.unwrap_err().retry_after.unwrap();
        assert_eq!(wait.as_secs(), 60);
        tokio::time::advance(wait).await;
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "row-e0\n");
    });
}

#[test]
fn a_foreign_writer_gets_a_ticket_and_our_rows_go_behind_its() {
    paused(async {
        let (world, mut appender) = cut_off_in_a_write(OnDoubt::Hold, 0).await;
        world.disk.borrow_mut().files.insert(PATH.into(), b"x\ntheirs\n".to_vec());
        let wait = attempt(&world, &mut appender).await.unwrap_err().retry_after.unwrap();
        tokio::time::advance(wait).await;
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "x\ntheirs\nrow-e0\n");
        let tickets = world.ledger.entries.borrow();
        assert!(tickets.iter().any(|entry| matches!(entry, Entry::TicketOpened { cause: Cause::ForeignWriter, .. })));
    });
}

#[test]
fn growth_between_plans_is_noted_and_a_cut_file_gets_a_ticket() {
    paused(async {
        let world = World::new();
        let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        world.disk.borrow_mut().files.get_mut(PATH).unwrap().extend_from_slice(b"theirs\n");
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        world.disk.borrow_mut().files.get_mut(PATH).unwrap().truncate(7);
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "row-e0\nrow-e2\n");
        let entries = world.ledger.entries.borrow();
        let changes: Vec<(u64, u64)> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::FileChanged { expected, found, .. } => Some((*expected, *found)),
                _ => None,
            })
            .collect();
        assert_eq!(changes, [(7, 14), (21, 7)]);
        assert_eq!(entries.iter().filter(|entry| matches!(entry, Entry::TicketOpened { .. })).count(), 1);
    });
}

/// Between the look and the plan anything may have happened.
#[test]
fn a_look_ahead_serves_the_next_plan_unless_the_file_has_changed_since() {
    type Case = (fn(&mut Vec<u8>), &'static str, &'static [(u64, u64)]);
    let cases: [Case; 3] = [
        (|_| {}, "row-e0\nrow-e1\n", &[]),
        (|file| file.extend_from_slice(b"theirs"), "row-e0\ntheirs\nrow-e1\n", &[(7, 13)]),
        (|file| file.truncate(4), "row-\nrow-e1\n", &[(7, 4)]),
    ];
    for (change, expected, noted) in cases {
        paused(async {
            let world = World::new();
            let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
            world.log.publish("k");
            attempt(&world, &mut appender).await.unwrap();
            appender.look_ahead().await;
            change(world.disk.borrow_mut().files.get_mut(PATH).unwrap());
            world.log.publish("k");
            if noted.is_empty() {
                // length, write, length: neither a connection nor another look.
                world.disk.borrow_mut().fuse = Some(4);
            }
            attempt(&world, &mut appender).await.unwrap();
            assert_eq!(file(&world), expected);
            let entries = world.ledger.entries.borrow();
            let changed = entries.iter().filter_map(|entry| match entry {
                Entry::FileChanged { expected, found, .. } => Some((*expected, *found)),
                _ => None,
            });
            assert_eq!(changed.collect::<Vec<_>>(), noted);
        });
    }
}

#[test]
fn a_look_ahead_that_fails_or_is_old_is_made_again() {
    paused(async {
        let world = World::new();
        let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        world.disk.borrow_mut().fuse = Some(0);
        appender.look_ahead().await;
        world.disk.borrow_mut().fuse = None;
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        appender.look_ahead().await;
        // Another file of the same length.
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        world.disk.borrow_mut().files.insert(PATH.into(), b"theirs, theirs".to_vec());
        world.log.publish("k");
        attempt(&world, &mut appender).await.unwrap();
        assert_eq!(file(&world), "theirs, theirs\nrow-e2\n");
    });
}

#[test]
fn a_batch_file_with_our_bytes_is_settled_and_one_with_other_bytes_is_never_overwritten() {
    paused(async {
        let world = World::new();
        world.log.publish("k");
        world.disk.borrow_mut().files.insert(PATH.into(), b"row-e0\n".to_vec());
        let mut first = appender(&world, WriteMode::FilePerBatch, OnDoubt::Hold).await;
        attempt(&world, &mut first).await.unwrap();
        assert_eq!(world.ledger.delivered(), [0]);

        world.log.publish("k");
        assert_eq!(attempt(&world, &mut first).await.unwrap_err().kind, FailureKind::Doubt);
        assert_eq!(file(&world), "row-e0\n");
    });
}

fn plan(file_offset: u64, new_file: bool) -> Plan {
    Plan {
        place: Place { host: "h".into(), port: 22, user: "sync".into(), path: PATH.into() },
        revision: 1,
        planned_at: Timestamp(0),
        file_offset,
        new_file,
        anchor: [0; 32],
        bytes: "row\n".into(),
        lead: 0,
        rows: [].into(),
        letter: None,
    }
}

/// The recovery table of docs/delivery.md, row by row.
#[test]
fn the_recovery_table_holds() {
    const WRITE: &str = "write";
    const SETTLE: &str = "settle";
    const AGAIN: &str = "plan again";
    const DOUBT: &str = "doubt";
    let seen = |length, anchor_matches, range, temporary, date_passed| Seen {
        length,
        cut: false,
        anchor_matches,
        range,
        temporary,
        date_passed,
    };
    let cut = Seen { cut: true, ..seen(Some(9), true, Range::PrefixOfOurs, false, false) };
    let old = |offset| FileWork { plan: plan(offset, false), ready: false };
    let new = |ready| FileWork { plan: plan(0, true), ready };
    let table = [
        ("nothing of ours yet", old(8), seen(Some(8), true, Range::Nothing, false, false), WRITE),
        ("a torn write", old(8), seen(Some(10), true, Range::PrefixOfOurs, false, false), WRITE),
        ("a torn write of yesterday", old(8), seen(Some(10), true, Range::PrefixOfOurs, false, true), WRITE),
        ("all there", old(8), seen(Some(12), true, Range::AllOurs, false, true), SETTLE),
        ("all there in a file that was empty", old(0), seen(Some(4), true, Range::AllOurs, false, false), SETTLE),
        ("foreign bytes", old(8), seen(Some(20), true, Range::Foreign, false, false), AGAIN),
        ("a mix", old(8), seen(Some(20), true, Range::Mixed, false, false), DOUBT),
        ("cut where a part is settled", old(8), cut, DOUBT),
        ("gone", old(8), seen(None, false, Range::Nothing, false, false), DOUBT),
        ("shorter", old(8), seen(Some(7), false, Range::Nothing, false, false), DOUBT),
        ("another file", old(8), seen(Some(8), false, Range::Nothing, false, false), DOUBT),
        ("still empty", old(0), seen(Some(0), true, Range::Nothing, false, false), DOUBT),
        ("yesterday's file, none of ours", old(8), seen(Some(8), true, Range::Nothing, false, true), DOUBT),
        ("yesterday's file, foreign bytes", old(8), seen(Some(20), true, Range::Foreign, false, true), DOUBT),
        ("new, not ready", new(false), seen(None, false, Range::Nothing, true, true), WRITE),
        ("new, not ready, nothing at all", new(false), seen(None, false, Range::Nothing, false, false), WRITE),
        ("new, ready, not renamed", new(true), seen(None, false, Range::Nothing, true, false), WRITE),
        ("new, renamed", new(true), seen(Some(4), true, Range::AllOurs, false, false), SETTLE),
        ("new, renamed, gone", new(true), seen(None, false, Range::Nothing, false, false), DOUBT),
        ("new, renamed, replaced", new(true), seen(Some(9), true, Range::Foreign, false, false), DOUBT),
        ("new, linked and not unlinked", new(true), seen(Some(4), true, Range::AllOurs, true, false), SETTLE),
        ("foreign bytes in a file that was empty", old(0), seen(Some(9), true, Range::Foreign, false, false), DOUBT),
        ("new, somebody was first", new(false), seen(Some(9), true, Range::Foreign, true, false), AGAIN),
    ];
    for (what, work, seen, expected) in table {
        let found = match verdict(&work, WriteMode::Append, &seen) {
            Verdict::Write => WRITE,
            Verdict::Settle => SETTLE,
            Verdict::PlanAgain { .. } => AGAIN,
            Verdict::Doubt { .. } | Verdict::Taken { .. } => DOUBT,
        };
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_plan_is_stored_with_its_bytes_before_anything_is_written() {
    paused(async {
        let world = World::new();
        world.log.publish("k");
        let mut appender = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        // connect, length, the temporary file, length; then the write to that file fails.
        world.disk.borrow_mut().fuse = Some(4);
        attempt(&world, &mut appender).await.unwrap_err();
        let Some(Work::File(work)) = world.ledger.work.borrow().clone() else { panic!("no plan stored") };
        assert_eq!(work.plan.bytes, "row-e0\n");
        assert_eq!(file(&world), "");
    });
}

/// A mount that is gone for a while: what comes back with it is our own file, not somebody else's.
#[test]
fn without_its_folder_nothing_is_planned_and_the_file_that_comes_back_is_ours() {
    paused(async {
        let world = World::new();
        world.disk.borrow_mut().files.insert(PATH.into(), b"x\n".to_vec());
        world.log.publish("k");
        let aside = std::mem::take(&mut world.disk.borrow_mut().files);
        world.disk.borrow_mut().no_folder = true;
        let mut before = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        assert_eq!(attempt(&world, &mut before).await.unwrap_err().kind, FailureKind::Configuration);
        assert!(world.ledger.work.borrow().is_none(), "nothing is planned");
        (world.disk.borrow_mut().no_folder, world.disk.borrow_mut().files) = (false, aside);
        let mut after = appender(&world, WriteMode::Append, OnDoubt::Hold).await;
        attempt(&world, &mut after).await.unwrap();
        assert_eq!(file(&world), "x\nrow-e0\n");
        assert!(world.ledger.open_causes().is_empty());
    });
}
