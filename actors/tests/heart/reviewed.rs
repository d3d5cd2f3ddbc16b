//! What a review found: sequences that once lost, doubled, reordered or spun, each with its own story.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use async_trait::async_trait;
use hms_actors::delivery::{Answer as TicketAnswer, Ask, NotReplayed, Order, Replay, TicketAction};
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::head::FeedHead;
use hms_actors::id::{FeedName, Offset, Timestamp};
use hms_actors::node::Shutdown;
use hms_actors::policy::circuit::CircuitOrder;
use hms_actors::ports::{Clock, EventLog, Schedule};
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settings::{FileSettings, Lane, LineEnd, OnDoubt, RecipeSettings, WriteMode};
use hms_actors::supervisor::{AskTarget, RecipeSupervisor};
use tokio::sync::oneshot;

use crate::fakes::{Answer, World, key};
use crate::runner::{REQUESTS, apply, look, pass, recipe, simulated, start, target};

fn on_change(lane: Lane) -> RecipeSettings {
    recipe(Schedule::OnChange, lane)
}
fn files() -> Lane {
    Lane::Files(FileSettings { write: WriteMode::Append, on_doubt: OnDoubt::Hold, line_end: LineEnd::Lf })
}
async fn replay(supervisor: &Addr<RecipeSupervisor>, letter: u64) -> oneshot::Receiver<Result<(), NotReplayed>> {
    let (done, told) = oneshot::channel();
    assert!(supervisor.send(AskTarget(key().target, Ask::Replay(Replay { letter, done }))).await.unwrap());
    told
}
async fn order(supervisor: &Addr<RecipeSupervisor>, order: CircuitOrder) -> Result<(), String> {
    let (done, told) = oneshot::channel();
    let ask = Ask::Circuit(Order { order, by: "op".into(), note: None, done });
    assert!(supervisor.send(AskTarget(key().target, ask)).await.unwrap());
    told.await.unwrap()
}
async fn answer(
    supervisor: &Addr<RecipeSupervisor>,
    ticket: u64,
    cause: Cause,
    action: TicketAction,
) -> Result<(), String> {
    let (done, told) = oneshot::channel();
    let answer = TicketAnswer { ticket, cause, action, by: "op".into(), note: None, done };
    assert!(supervisor.send(AskTarget(key().target, Ask::Ticket(answer))).await.unwrap());
    told.await.unwrap()
}

#[test]
fn a_replay_is_never_in_flight_with_a_later_event_of_its_key() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("422"));
        world.log.publish("K");
        let supervisor = apply(&start(&world), on_change(Lane::Requests { concurrency: 2, max_events: 1 })).await;
        pass(60).await;
        assert_eq!(world.ledger.letters.borrow().len(), 1);
        world.partner.refuses.borrow_mut().clear();
        world.partner.script.borrow_mut().extend((0..4).map(|_| Answer::AcceptAfter(Duration::from_secs(10))));
        for k in ["s1", "s2", "K"] {
            world.log.publish(k);
        }
        pass(1).await;
        let _told = replay(&supervisor, 1).await;
        pass(60).await;
        let status = look(&supervisor).await.targets.remove(0);
        assert!(status.last_panic.is_none(), "{:?}", status.last_panic);
    });
}

#[test]
fn halves_are_never_in_flight_together_after_batches_became_smaller() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(7, Failure::refused("422"));
        (0..8).for_each(|_| _ = world.log.publish("same"));
        let node = start(&world);
        let supervisor = apply(&node, on_change(Lane::Requests { concurrency: 4, max_events: 8 })).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        // What is accepted takes long from now on; the batch is split, its first half in flight or waiting.
        world.partner.script.borrow_mut().extend((0..9).map(|_| Answer::AcceptAfter(Duration::from_secs(10))));
        let mut changed = on_change(Lane::Requests { concurrency: 4, max_events: 4 });
        (changed.revision, target(&mut changed, 0).revision) = (2, 2);
        drop(supervisor);
        let supervisor = apply(&node, changed).await;
        println!("work: {:?}", world.ledger.work.borrow());
        pass(200).await;
        println!("{:?}", world.partner.received.borrow());
        println!("accepted {:?}", world.partner.accepted.borrow());
        let status = look(&supervisor).await.targets.remove(0);
        assert!(status.last_panic.is_none(), "{:?}", status.last_panic);
    });
}

#[test]
fn halves_that_were_begun_before_a_restart_are_never_in_flight_together() {
    use hms_actors::work::{Unit, Work};
    simulated(async {
        let world = World::new();
        (0..8).for_each(|_| _ = world.log.publish("same"));
        let unit = |range: std::ops::Range<u64>| Unit { revision: 1, offsets: range.collect(), letter: None, seal: 0 };
        *world.ledger.work.borrow_mut() = Some(Work::Requests(vec![unit(0..4), unit(4..8)]));
        world.partner.script.borrow_mut().extend((0..9).map(|_| Answer::AcceptAfter(Duration::from_secs(10))));
        let supervisor = apply(&start(&world), on_change(Lane::Requests { concurrency: 4, max_events: 4 })).await;
        pass(100).await;
        let status = look(&supervisor).await.targets.remove(0);
        assert!(status.last_panic.is_none(), "{:?}", status.last_panic);
    });
}

#[test]
fn what_was_begun_keeps_its_seal_over_retries_halves_and_a_restart_and_new_work_has_the_new_one() {
    simulated(async {
        let world = World::new();
        world.partner.seal.set(1);
        world
            .partner
            .script
            .borrow_mut()
            .extend([Answer::Fail(Failure::transient("reset")), Answer::Fail(Failure::refused("422"))]);
        (0..4).for_each(|_| _ = world.log.publish("same"));
        let node = start(&world);
        let supervisor = apply(&node, on_change(Lane::Requests { concurrency: 1, max_events: 4 })).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*world.partner.seals.borrow(), [1]);
        world.partner.seal.set(2);
        drop(supervisor);
        let mut changed = on_change(Lane::Requests { concurrency: 1, max_events: 4 });
        (changed.revision, target(&mut changed, 0).revision) = (2, 2);
        let _supervisor = apply(&node, changed).await;
        pass(60).await;
        // The whole, once more; its halves; and then what is new.
        world.log.publish("same");
        pass(60).await;
        assert_eq!(*world.partner.seals.borrow(), [1, 1, 1, 1, 2]);
    });
}

/// Counts how often it is asked within one moment.
struct Counting {
    inner: Rc<dyn Clock>,
    last: Cell<i64>,
    count: Cell<u64>,
}
impl Clock for Counting {
    fn now(&self) -> Timestamp {
        let now = self.inner.now();
        if now.0 != self.last.get() {
            self.last.set(now.0);
            self.count.set(0);
        }
        self.count.set(self.count.get() + 1);
        if self.count.get() > 300_000 {
            eprintln!("BUSY LOOP: the clock was asked 300000 times at {} ms", now.0 - 1_700_000_000_000);
            std::process::exit(99);
        }
        now
    }
}

#[test]
fn what_is_due_behind_a_replay_of_its_key_waits_without_spinning() {
    simulated(async {
        let mut world = World::new();
        world.env.clock = Rc::new(Counting { inner: world.env.clock.clone(), last: Cell::new(0), count: Cell::new(0) });
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("422"));
        world.log.publish("K");
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(60).await;
        assert_eq!(world.ledger.letters.borrow().len(), 1);
        world.partner.refuses.borrow_mut().clear();
        world.partner.refuses.borrow_mut().insert(1, Failure::transient("500"));
        world.log.publish("K");
        pass(1).await;
        // While the event waits for its retry, the dead letter of its key goes and takes long.
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(30)));
        let _told = replay(&supervisor, 1).await;
        pass(60).await;
    });
}

#[test]
fn a_node_that_fails_while_half_open_is_not_asked_in_a_tight_loop() {
    simulated(async {
        let world = World::new();
        (0..3).for_each(|n| _ = world.log.publish(&format!("k{n}")));
        let fails = (0..3)
            .map(|_| Failure::transient("no answer"))
            .chain((0..50_000).map(|_| Failure::node("no HTTP client: too many open files")));
        world.partner.script.borrow_mut().extend(fails.map(Answer::Fail));
        apply(&start(&world), on_change(Lane::Requests { concurrency: 1, max_events: 1 })).await;
        pass(120).await;
        let left = world.partner.script.borrow().len();
        assert!(50_000 - left < 100, "{} attempts in two minutes", 50_000 - left);
    });
}

struct FailingLog {
    inner: Rc<dyn EventLog>,
    fails: Cell<u64>,
    count: Cell<u64>,
}
#[async_trait(?Send)]
impl EventLog for FailingLog {
    async fn read(
        &self,
        feed: &FeedName,
        from: Offset,
        until: Offset,
        n: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, Failure> {
        if self.fails.get() > 0 {
            self.fails.set(self.fails.get() - 1);
            self.count.set(self.count.get() + 1);
            return Err(Failure::node("reading feed: too many open files"));
        }
        self.inner.read(feed, from, until, n, bytes).await
    }
    fn head(&self, feed: &FeedName) -> FeedHead {
        self.inner.head(feed)
    }
}

#[test]
fn a_log_that_can_not_be_read_while_half_open_is_not_read_in_a_tight_loop() {
    simulated(async {
        let mut world = World::new();
        let log = Rc::new(FailingLog { inner: world.env.log.clone(), fails: Cell::new(0), count: Cell::new(0) });
        world.env.log = log.clone();
        world.disk.borrow_mut().fuse = Some(0);
        world.log.publish("a");
        apply(&start(&world), on_change(files())).await;
        pass(20).await;
        log.fails.set(50_000);
        pass(60).await;
        assert!(log.count.get() < 100, "{} attempts in a minute", log.count.get());
    });
}

#[test]
fn a_dead_letter_that_is_dropped_while_it_is_replayed_holds_up_nobody() {
    simulated(async {
        let world = World::new();
        let offset = world.log.publish("a");
        let event = world.log.events.borrow()[offset as usize].clone();
        world.ledger.letters.borrow_mut().insert(1, event);
        world.ledger.settled.borrow_mut().insert(offset);
        let supervisor = apply(&start(&world), on_change(files())).await;
        pass(1).await;
        world.disk.borrow_mut().fuse = Some(0);
        let _told = replay(&supervisor, 1).await;
        pass(2).await;
        world.ledger.letters.borrow_mut().clear();
        world.disk.borrow_mut().fuse = None;
        world.log.publish("b");
        pass(7200).await;
        println!("{:?}", look(&supervisor).await.targets);
        assert_eq!(world.ledger.delivered(), [1]);
    });
}

#[test]
fn a_replay_that_waits_for_its_host_goes_on_after_a_restart() {
    simulated(async {
        let world = World::new();
        let offset = world.log.publish("a");
        let event = world.log.events.borrow()[offset as usize].clone();
        world.ledger.letters.borrow_mut().insert(1, event);
        world.ledger.settled.borrow_mut().insert(offset);
        let node = start(&world);
        let supervisor = apply(&node, on_change(files())).await;
        pass(1).await;
        world.disk.borrow_mut().fuse = Some(0);
        let told = replay(&supervisor, 1).await;
        pass(60).await;
        node.send(Shutdown).await.unwrap();
        println!("told: {:?}", told.await);
        world.disk.borrow_mut().fuse = None;
        apply(&start(&world), on_change(files())).await;
        pass(7200).await;
        assert!(world.ledger.letters.borrow().is_empty(), "the replay that goes on");
    });
}

#[test]
fn a_replay_does_not_hide_an_event_of_the_same_offset() {
    simulated(async {
        let world = World::new();
        // A dead letter of an earlier life of the target: its recipe was deleted and applied again `from: beginning`.
        let offset = world.log.publish("a");
        let event = world.log.events.borrow()[offset as usize].clone();
        world.ledger.letters.borrow_mut().insert(1, event);
        let mut settings = on_change(REQUESTS);
        settings.paused = true;
        let node = start(&world);
        let supervisor = apply(&node, settings.clone()).await;
        pass(1).await;
        let _told = replay(&supervisor, 1).await;
        pass(1).await;
        settings.paused = false;
        apply(&node, settings).await;
        world.log.publish("b");
        pass(7200).await;
        let status = look(&supervisor).await.targets.remove(0);
        println!("{:?}", world.ledger.entries.borrow());
        assert_eq!((status.checkpoint, status.backlog), (2, 0));
    });
}

#[test]
fn rows_after_a_skip_wait_for_a_late_write() {
    simulated(async {
        let world = World::new();
        world.disk.borrow_mut().files.insert("/inbox/a.csv".into(), b"old\n".to_vec());
        world.log.publish("a");
        // connect, length, anchor, length, then the write is cut.
        world.disk.borrow_mut().fuse = Some(5);
        let mut settings = on_change(files());
        target(&mut settings, 0).retries = 1;
        let supervisor = apply(&start(&world), settings).await;
        let t0 = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        println!("{:?} {:?}", world.ledger.open_causes(), look(&supervisor).await.targets[0].last_error);
        answer(&supervisor, 1, Cause::Outage, TicketAction::Skip).await.unwrap();
        world.disk.borrow_mut().fuse = None;
        world.log.publish("b");
        while world.ledger.delivered().is_empty() && t0.elapsed() < Duration::from_secs(600) {
            pass(1).await;
        }
        println!("file: {:?}", String::from_utf8_lossy(&world.disk.borrow().files["/inbox/a.csv"]));
        println!("{:?}", world.ledger.work.borrow());
        assert!(
            t0.elapsed() >= Duration::from_secs(60),
            "planned anew {:?} after a write that was never answered",
            t0.elapsed()
        );
    });
}

#[test]
fn a_ticket_that_was_dismissed_does_not_silence_the_next_outage() {
    simulated(async {
        let world = World::new();
        world.log.publish("a");
        world.partner.script.borrow_mut().extend((0..10_000).map(|_| Answer::Fail(Failure::transient("down"))));
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(6 * 3600).await;
        let n = look(&supervisor).await.targets[0].consecutive_failures;
        answer(&supervisor, 1, Cause::Outage, TicketAction::Resolve).await.unwrap();
        order(&supervisor, CircuitOrder::Close).await.unwrap();
        pass(2 * 3600).await;
        let now = look(&supervisor).await.targets.remove(0);
        println!("before {n}, now {} failures, {:?}", now.consecutive_failures, world.ledger.open_causes());
        assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
    });
}

#[test]
fn a_batch_of_unknown_outcome_is_not_split_for_conflicts() {
    simulated(async {
        let world = World::new();
        (0..4).for_each(|n| _ = world.log.publish(&format!("k{n}")));
        // The first attempt takes effect and its answer is lost; the partner then says 409 for its key.
        let fails = [Failure::transient("timeout")].into_iter().chain((0..11).map(|_| Failure::conflict("409")));
        world.partner.script.borrow_mut().extend(fails.map(Answer::Fail));
        apply(&start(&world), on_change(Lane::Requests { concurrency: 1, max_events: 4 })).await;
        pass(36_000).await;
        let received = world.partner.received.borrow();
        let parts: Vec<_> = received.iter().map(|(_, _, o)| o.clone()).filter(|o| o.len() < 4).collect();
        assert!(parts.is_empty(), "sent in parts, under other keys: {parts:?}");
    });
}

#[test]
fn replays_of_bad_letters_do_not_hold_a_healthy_target() {
    simulated(async {
        let world = World::new();
        for n in 0..12u64 {
            world.partner.refuses.borrow_mut().insert(n, Failure::refused("422"));
            let offset = world.log.publish(&format!("k{n}"));
            let event = world.log.events.borrow()[offset as usize].clone();
            world.ledger.letters.borrow_mut().insert(n + 1, event);
            world.ledger.settled.borrow_mut().insert(offset);
        }
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(1).await;
        let mut told = Vec::new();
        for n in 1..=12 {
            told.push(replay(&supervisor, n).await);
        }
        pass(600).await;
        println!("{:?} {:?}", look(&supervisor).await.targets[0].circuit, world.ledger.open_causes());
        let offset = world.log.publish("good");
        pass(60).await;
        println!("{:?} {:?}", look(&supervisor).await.targets[0].circuit, world.ledger.open_causes());
        assert_eq!(world.ledger.delivered(), [offset], "a good event within a minute");
    });
}

#[test]
fn an_order_to_the_circuit_is_not_overtaken_by_the_record_of_the_probe() {
    for _ in 0..20 {
        simulated(async {
            let world = World::new();
            world.log.publish("a");
            world.partner.script.borrow_mut().extend((0..3).map(|_| Answer::Fail(Failure::transient("down"))));
            let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
            pass(20).await;
            world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
            order(&supervisor, CircuitOrder::Probe).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            order(&supervisor, CircuitOrder::Open).await.unwrap();
            pass(1).await;
            let live = look(&supervisor).await.targets[0].circuit.state;
            let stored = world.ledger.entries.borrow().iter().rev().find_map(|entry| match entry {
                Entry::Circuit { memory, .. } => Some(memory.state),
                _ => None,
            });
            assert_eq!(Some(live), stored);
        });
    }
}

#[test]
fn a_split_and_then_a_smaller_batch_keep_the_order_of_a_key() {
    simulated(async {
        let world = World::new();
        (0..8).for_each(|_| _ = world.log.publish("same"));
        world.partner.script.borrow_mut().push_back(Answer::Fail(Failure::refused("422")));
        world.partner.script.borrow_mut().extend((0..9).map(|_| Answer::AcceptAfter(Duration::from_secs(100))));
        let node = start(&world);
        let supervisor = apply(&node, on_change(Lane::Requests { concurrency: 4, max_events: 8 })).await;
        pass(1).await;
        let mut changed = on_change(Lane::Requests { concurrency: 4, max_events: 4 });
        (changed.revision, target(&mut changed, 0).revision) = (2, 2);
        apply(&node, changed).await;
        pass(100).await;
        let status = look(&supervisor).await.targets.remove(0);
        assert!(status.last_panic.is_none(), "{:?}", status.last_panic);
    });
}

/// A letter that waits for its own retry, and a younger event of its key that is due.
#[test]
fn what_is_due_behind_a_replay_that_backs_off_waits_without_spinning() {
    simulated(async {
        let mut world = World::new();
        world.env.clock = Rc::new(Counting { inner: world.env.clock.clone(), last: Cell::new(0), count: Cell::new(0) });
        let offset = world.log.publish("K");
        let event = world.log.events.borrow()[offset as usize].clone();
        world.ledger.letters.borrow_mut().insert(1, event);
        world.ledger.settled.borrow_mut().insert(offset);
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("422"));
        world.partner.refuses.borrow_mut().insert(1, Failure::refused("422"));
        let mut settings = on_change(REQUESTS);
        target(&mut settings, 0).retries = 8;
        let supervisor = apply(&start(&world), settings).await;
        pass(1).await;
        world.log.publish("K");
        for _ in 0..40 {
            let told = replay(&supervisor, 1).await;
            pass(600).await;
            drop(told);
        }
    });
}

/// A kill between two commits would leave the ticket open and the circuit half-open until the next event.
#[test]
fn a_delivery_and_the_end_of_its_incident_are_one_commit() {
    for lane in [files(), REQUESTS] {
        simulated(async move {
            let world = World::new();
            world.log.publish("a");
            world.disk.borrow_mut().fuse = Some(0);
            world.partner.script.borrow_mut().extend((0..3).map(|_| Answer::Fail(Failure::transient("down"))));
            let supervisor = apply(&start(&world), on_change(lane)).await;
            pass(20).await;
            assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
            world.disk.borrow_mut().fuse = None;
            order(&supervisor, CircuitOrder::Probe).await.unwrap();
            pass(1).await;
            let commits = world.ledger.commits.borrow();
            let delivers = |entry: &Entry| matches!(entry, Entry::Delivered { .. });
            let last = commits.iter().find(|entries| entries.iter().any(delivers)).unwrap();
            assert!(last.iter().any(|entry| matches!(entry, Entry::Circuit { .. })), "{last:?}");
            assert!(last.iter().any(|entry| matches!(entry, Entry::TicketResolved { .. })), "{last:?}");
        });
    }
}
