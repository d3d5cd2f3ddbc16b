//! What failures mean, in simulated time: circuits, tickets, dead letters, split batches, replays, rate limits.

use std::time::Duration;

use actix::Addr;
use hms_actors::delivery::{
    Answer as TicketAnswer, Ask, NotReplayed, Order, Phase, Replay, TargetStatus, TicketAction,
};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::node::Shutdown;
use hms_actors::policy::circuit::{CircuitOrder, CircuitState};
use hms_actors::policy::rate::RateSettings;
use hms_actors::ports::Schedule;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settings::{FileSettings, Lane, LineEnd, OnDoubt, RecipeSettings, WriteMode};
use hms_actors::supervisor::{AskTarget, RecipeSupervisor};
use tokio::sync::oneshot;

use crate::fakes::{Answer, World, key};
use crate::runner::{REQUESTS, apply, look, pass, recipe, simulated, start, target};

pub fn on_change(lane: Lane) -> RecipeSettings {
    recipe(Schedule::OnChange, lane)
}

pub fn one_at_a_time() -> Lane {
    Lane::Requests { concurrency: 1, max_events: 1 }
}

pub fn files() -> Lane {
    Lane::Files(FileSettings { write: WriteMode::Append, on_doubt: OnDoubt::Hold, line_end: LineEnd::Lf })
}

pub fn publish(world: &World, count: usize) {
    (0..count).for_each(|n| _ = world.log.publish(&format!("k{n}")));
}

pub fn fails(world: &World, failures: impl IntoIterator<Item = Failure>) {
    world.partner.script.borrow_mut().extend(failures.into_iter().map(Answer::Fail));
}

fn down(times: usize) -> impl Iterator<Item = Failure> {
    (0..times).map(|_| Failure::transient("no answer"))
}

pub async fn status(supervisor: &Addr<RecipeSupervisor>) -> TargetStatus {
    look(supervisor).await.targets.remove(0)
}

async fn order(supervisor: &Addr<RecipeSupervisor>, order: CircuitOrder) -> Result<(), String> {
    let (done, told) = oneshot::channel();
    let ask = Ask::Circuit(Order { order, by: "op".into(), note: None, done });
    assert!(supervisor.send(AskTarget(key().target, ask)).await.unwrap());
    told.await.unwrap()
}

pub async fn replay(supervisor: &Addr<RecipeSupervisor>, letter: u64) -> oneshot::Receiver<Result<(), NotReplayed>> {
    let (done, told) = oneshot::channel();
    assert!(supervisor.send(AskTarget(key().target, Ask::Replay(Replay { letter, done }))).await.unwrap());
    told
}

pub async fn answer(supervisor: &Addr<RecipeSupervisor>, cause: Cause, action: TicketAction) -> Result<(), String> {
    let (done, told) = oneshot::channel();
    let answer = TicketAnswer { ticket: 1, cause, action, by: "op".into(), note: None, done };
    assert!(supervisor.send(AskTarget(key().target, Ask::Ticket(answer))).await.unwrap());
    told.await.unwrap()
}

pub fn circuit_changes(world: &World) -> Vec<CircuitState> {
    let entries = world.ledger.entries.borrow();
    let state = |entry: &Entry| match entry {
        Entry::Circuit { memory, .. } => Some(memory.state),
        _ => None,
    };
    entries.iter().filter_map(state).collect()
}

pub fn dead(world: &World) -> Vec<u64> {
    world.ledger.letters.borrow().values().map(|event| event.offset).collect()
}

pub fn sorted(mut offsets: Vec<u64>) -> Vec<u64> {
    offsets.sort_unstable();
    offsets
}

/// Seconds since the start at which the partner got something.
fn received_at(world: &World) -> Vec<i64> {
    let received = world.partner.received.borrow();
    received.iter().map(|(at, ..)| (at.0 - 1_700_000_000_000) / 1000).collect()
}

#[test]
fn the_third_failure_in_a_row_opens_the_circuit_and_the_ticket_and_a_delivered_probe_closes_both() {
    simulated(async {
        let world = World::new();
        publish(&world, 6);
        fails(&world, down(5));
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        pass(20).await;
        let now = status(&supervisor).await;
        assert_eq!((now.circuit.state, now.phase, now.consecutive_failures), (Open, Phase::CircuitOpen, 3));
        assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
        assert_eq!(received_at(&world).len(), 3);
        pass(600).await;
        use CircuitState::{Closed, HalfOpen, Open};
        assert_eq!(circuit_changes(&world), [Open, HalfOpen, Open, HalfOpen, Open, HalfOpen, Closed]);
        let at = received_at(&world);
        assert_eq!((at[4] - at[3], at[5] - at[4]), (60, 120), "each failed probe doubles the time: {at:?}");
        assert_eq!(world.ledger.delivered().len(), 6);
        assert!(world.ledger.open_causes().is_empty());
        let entries = world.ledger.entries.borrow();
        let closed = entries.iter().find_map(|entry| match entry {
            Entry::TicketResolved { action: "recovered", note, .. } => note.clone(),
            _ => None,
        });
        assert!(closed.unwrap().starts_with("deliveries succeed again after "));
        let tickets = entries.iter().filter(|entry| matches!(entry, Entry::TicketOpened { .. })).count();
        assert_eq!(tickets, 1, "one incident, one ticket");
    });
}

#[test]
fn a_circuit_stays_open_over_a_restart_and_the_count_of_failures_goes_on() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, down(100));
        let node = start(&world);
        apply(&node, on_change(one_at_a_time())).await;
        pass(20).await;
        node.send(Shutdown).await.unwrap();
        let tried = received_at(&world).len();
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        pass(5).await;
        assert_eq!((received_at(&world).len(), tried), (3, 3), "nothing goes before the probe is due");
        let now = status(&supervisor).await;
        assert_eq!((now.circuit.state, now.consecutive_failures), (CircuitState::Open, 3));
        pass(30).await;
        assert_eq!(received_at(&world).len(), 4);
    });
}

#[test]
fn a_configuration_fault_opens_at_once_holds_everything_and_makes_no_dead_letter() {
    simulated(async {
        let world = World::new();
        publish(&world, 5);
        fails(&world, (0..5).map(|_| Failure::configuration("401")));
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        pass(1).await;
        assert_eq!(status(&supervisor).await.circuit.state, CircuitState::Open);
        assert_eq!(world.ledger.open_causes(), [Cause::Configuration]);
        assert_eq!(received_at(&world).len(), 1);
        pass(3600).await;
        assert_eq!(world.ledger.delivered(), [0, 1, 2, 3, 4]);
        assert!(dead(&world).is_empty() && world.ledger.open_causes().is_empty());
    });
}

#[test]
fn a_refused_event_is_a_dead_letter_after_three_attempts_and_touches_neither_circuit_nor_the_others() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(1, Failure::refused("422"));
        publish(&world, 4);
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(60).await;
        let attempts = world.partner.received.borrow().iter().filter(|(_, _, offsets)| offsets == &[1]).count();
        assert_eq!((attempts, dead(&world)), (3, vec![1]));
        assert_eq!(sorted(world.ledger.delivered()), [0, 2, 3]);
        assert_eq!(world.ledger.open_causes(), [Cause::Refused]);
        assert!(circuit_changes(&world).is_empty());
        assert_eq!(status(&supervisor).await.backlog, 0);
    });
}

#[test]
fn a_partner_that_refuses_everything_is_held_after_ten_and_loses_nothing() {
    simulated(async {
        let world = World::new();
        (0..40).for_each(|offset| drop(world.partner.refuses.borrow_mut().insert(offset, Failure::refused("400"))));
        publish(&world, 40);
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(1800).await;
        assert!(dead(&world).len() < 10, "{:?}", dead(&world));
        let lost = dead(&world).len();
        let now = status(&supervisor).await;
        assert_eq!(now.circuit.state, CircuitState::Open);
        assert_eq!(world.ledger.open_causes(), [Cause::Refused]);
        let tried = received_at(&world).len();
        pass(1200).await;
        assert!(received_at(&world).len() > tried, "probes go on");
        world.partner.refuses.borrow_mut().clear();
        pass(1200).await;
        assert_eq!((world.ledger.delivered().len(), dead(&world).len()), (40 - lost, lost));
        assert_eq!(status(&supervisor).await.circuit.state, CircuitState::Closed);
        if lost == 0 {
            assert!(world.ledger.open_causes().is_empty());
        }
    });
}

#[test]
fn ten_bad_events_in_a_row_do_not_keep_the_good_ones_from_going() {
    simulated(async {
        let world = World::new();
        (0..12).for_each(|offset| drop(world.partner.refuses.borrow_mut().insert(offset, Failure::refused("400"))));
        publish(&world, 30);
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        pass(3600).await;
        assert_eq!(sorted(dead(&world)), (0..12).collect::<Vec<u64>>());
        assert_eq!(world.ledger.delivered().len(), 18);
        assert_eq!(status(&supervisor).await.circuit.state, CircuitState::Closed);
    });
}

#[test]
fn a_batch_that_is_refused_for_one_event_is_split_down_to_it() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(5, Failure::refused("422"));
        publish(&world, 8);
        apply(&start(&world), on_change(Lane::Requests { concurrency: 2, max_events: 8 })).await;
        pass(120).await;
        assert_eq!(dead(&world), [5]);
        assert_eq!(sorted(world.partner.accepted.borrow().clone()), [0, 1, 2, 3, 4, 6, 7], "each once");
    });
}

#[test]
fn halves_that_share_a_key_go_one_after_the_other() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(7, Failure::refused("422"));
        (0..8).for_each(|_| _ = world.log.publish("same"));
        apply(&start(&world), on_change(Lane::Requests { concurrency: 4, max_events: 8 })).await;
        // One that comes later waits behind all the parts.
        pass(1).await;
        world.log.publish("same");
        pass(120).await;
        assert_eq!(*world.partner.accepted.borrow(), [0, 1, 2, 3, 4, 5, 6, 8]);
    });
}

#[test]
fn a_batch_stays_whole_after_a_timeout_until_a_definite_answer_comes() {
    simulated(async {
        let world = World::new();
        publish(&world, 4);
        fails(&world, [Failure::transient("timeout"), Failure::conflict("409"), Failure::conflict("409")]);
        apply(&start(&world), on_change(Lane::Requests { concurrency: 1, max_events: 4 })).await;
        pass(600).await;
        let received = world.partner.received.borrow();
        assert!(received.iter().all(|(_, _, offsets)| offsets == &[0, 1, 2, 3]), "{received:?}");
        assert_eq!((world.ledger.delivered().len(), dead(&world).len()), (4, 0));
    });
}

#[test]
fn a_conflict_without_an_attempt_of_unknown_outcome_is_a_refusal() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, (0..3).map(|_| Failure::conflict("409")));
        apply(&start(&world), on_change(REQUESTS)).await;
        pass(60).await;
        assert_eq!(dead(&world), [0]);
    });
}

#[test]
fn a_split_survives_a_crash_between_its_parts() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(2, Failure::refused("422"));
        publish(&world, 4);
        let node = start(&world);
        let lane = Lane::Requests { concurrency: 1, max_events: 4 };
        apply(&node, on_change(lane.clone())).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        node.send(Shutdown).await.unwrap();
        apply(&start(&world), on_change(lane)).await;
        pass(120).await;
        assert_eq!(dead(&world), [2]);
        assert_eq!(sorted(world.partner.accepted.borrow().clone()), [0, 1, 3]);
    });
}

#[test]
fn what_a_partner_asks_for_is_honoured_and_opens_the_circuit_only_when_it_goes_on() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, (0..3).map(|_| Failure::throttled("429", Some(Duration::from_secs(7)))));
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(25).await;
        assert_eq!(received_at(&world), [0, 7, 14, 21]);
        assert!(circuit_changes(&world).is_empty());
        fails(&world, (0..6).map(|_| Failure::throttled("429", Some(Duration::from_secs(100)))));
        publish(&world, 1);
        pass(510).await;
        let now = status(&supervisor).await;
        assert_eq!(now.circuit.state, CircuitState::Open);
        assert_eq!(received_at(&world)[4..], [25, 125, 225, 325, 425, 525]);
    });
}

#[test]
fn no_more_requests_start_than_the_rate_allows_and_a_restart_does_not_start_over() {
    simulated(async {
        let world = World::new();
        publish(&world, 12);
        let mut settings = on_change(REQUESTS);
        let (count, burst) = (2u32.try_into().unwrap(), 1u32.try_into().unwrap());
        target(&mut settings, 0).rate = Some(RateSettings { count, per: Duration::from_secs(1), burst });
        let node = start(&world);
        apply(&node, settings.clone()).await;
        pass(2).await;
        node.send(Shutdown).await.unwrap();
        apply(&start(&world), settings).await;
        pass(60).await;
        let received = world.partner.received.borrow();
        let at: Vec<i64> = received.iter().map(|(at, ..)| at.0).collect();
        assert_eq!(at.len(), 12);
        assert!(at.windows(3).all(|three| three[2] - three[0] >= 1000), "{at:?}");
    });
}

#[test]
fn nothing_goes_through_a_circuit_that_is_forced_open_and_only_close_ends_it() {
    simulated(async {
        let world = World::new();
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        order(&supervisor, CircuitOrder::Open).await.unwrap();
        publish(&world, 3);
        pass(7200).await;
        assert!(received_at(&world).is_empty());
        assert!(order(&supervisor, CircuitOrder::Probe).await.unwrap_err().contains("close it first"));
        order(&supervisor, CircuitOrder::Close).await.unwrap();
        pass(1).await;
        assert_eq!(world.ledger.delivered().len(), 3);
    });
}

#[test]
fn an_operator_may_have_the_probe_now() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, down(3));
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        pass(20).await;
        order(&supervisor, CircuitOrder::Probe).await.unwrap();
        pass(1).await;
        assert_eq!(world.ledger.delivered(), [0]);
    });
}

#[test]
fn skip_gives_up_the_attempt_that_failed_last_and_never_the_backlog() {
    simulated(async {
        let world = World::new();
        publish(&world, 5);
        world.partner.refuses.borrow_mut().insert(0, Failure::transient("this one makes it crash"));
        let supervisor = apply(&start(&world), on_change(one_at_a_time())).await;
        world.partner.refuses.borrow_mut().extend((1..5).map(|offset| (offset, Failure::transient("down"))));
        pass(20).await;
        assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
        answer(&supervisor, Cause::Outage, TicketAction::Skip).await.unwrap();
        assert_eq!(dead(&world).len(), 1);
        world.partner.refuses.borrow_mut().clear();
        pass(3600).await;
        assert_eq!(world.ledger.delivered().len(), 4);
    });
}

#[test]
fn a_replay_delivers_the_dead_letter_once_and_a_second_one_is_told_so() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("422"));
        publish(&world, 2);
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(60).await;
        let again = replay(&supervisor, 1).await;
        pass(60).await;
        assert_eq!(again.await.unwrap(), Err(NotReplayed::Refused("422".to_owned())));
        assert_eq!(dead(&world), [0], "it stays what it was");
        world.partner.refuses.borrow_mut().clear();
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
        let first = replay(&supervisor, 1).await;
        let second = replay(&supervisor, 1).await;
        assert_eq!(second.await.unwrap(), Err(NotReplayed::UnderWay(1)));
        first.await.unwrap().unwrap();
        assert!(dead(&world).is_empty());
        assert_eq!(replay(&supervisor, 1).await.await.unwrap(), Err(NotReplayed::Gone(1)));
    });
}

#[test]
fn a_replay_that_was_cut_off_is_finished_after_a_restart() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            let offset = world.log.publish("a");
            let event = world.log.events.borrow()[offset as usize].clone();
            world.ledger.letters.borrow_mut().insert(1, event);
            world.ledger.settled.borrow_mut().insert(offset);
            world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(3600)));
            let node = start(&world);
            let supervisor = apply(&node, on_change(lane.clone())).await;
            // connect, length, anchor; then the line is dead.
            world.disk.borrow_mut().fuse = Some(3);
            let _waiting = replay(&supervisor, 1).await;
            pass(1).await;
            // More than the time that is given to what is in flight.
            tokio::task::spawn_local(node.send(Shutdown));
            pass(40).await;
            world.disk.borrow_mut().fuse = None;
            world.partner.script.borrow_mut().clear();
            apply(&start(&world), on_change(lane)).await;
            pass(400).await;
            assert!(dead(&world).is_empty());
            let entries = world.ledger.entries.borrow();
            let delivered = entries.iter().filter(|entry| matches!(entry, Entry::Delivered { letter: Some(1), .. }));
            assert_eq!(delivered.count(), 1);
        });
    }
}

#[test]
fn a_file_whose_host_is_down_opens_its_circuit_and_goes_on_in_order() {
    simulated(async {
        let world = World::new();
        world.disk.borrow_mut().fuse = Some(0);
        publish(&world, 3);
        let supervisor = apply(&start(&world), on_change(files())).await;
        pass(20).await;
        assert_eq!(status(&supervisor).await.circuit.state, CircuitState::Open);
        assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
        let why = answer(&supervisor, Cause::Outage, TicketAction::Skip).await.unwrap_err();
        assert!(why.contains("nothing to skip"), "{why}");
        world.disk.borrow_mut().fuse = None;
        pass(600).await;
        assert_eq!(world.ledger.delivered(), [0, 1, 2]);
        assert!(world.ledger.open_causes().is_empty());
    });
}

#[test]
fn a_panic_of_the_adapter_counts_as_a_failed_attempt() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        world.partner.script.borrow_mut().push_back(Answer::Panic);
        apply(&start(&world), on_change(REQUESTS)).await;
        pass(60).await;
        let entries = world.ledger.entries.borrow();
        let failed = entries.iter().find_map(|entry| match entry {
            Entry::AttemptFailed { kind: FailureKind::Transient, error, attempt: 1, .. } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(failed.as_deref(), Some("the adapter panicked: the adapter panics"));
        assert!(matches!(entries.last(), Some(Entry::Delivered { attempt: 2, .. })));
    });
}

#[test]
fn parts_of_a_batch_that_was_tried_are_finished_in_its_revision() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().extend((0..4).map(|offset| (offset, Failure::refused("422"))));
        publish(&world, 4);
        let node = start(&world);
        let lane = Lane::Requests { concurrency: 1, max_events: 4 };
        apply(&node, on_change(lane.clone())).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut changed = on_change(lane);
        (changed.revision, target(&mut changed, 0).revision, target(&mut changed, 0).retries) = (2, 2, 5);
        apply(&node, changed).await;
        pass(60).await;
        assert!(world.partner.received.borrow().iter().all(|(_, revision, _)| *revision == 1));
    });
}

#[test]
fn a_late_success_of_an_attempt_from_before_does_not_end_the_incident() {
    simulated(async {
        let world = World::new();
        publish(&world, 4);
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(20)));
        fails(&world, down(8));
        apply(&start(&world), on_change(REQUESTS)).await;
        pass(25).await;
        assert_eq!(world.ledger.delivered().len(), 1);
        assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
    });
}

#[test]
fn an_adapter_that_hangs_again_and_again_opens_the_circuit_and_a_ticket() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            publish(&world, 1);
            let hangs = || Answer::AcceptAfter(Duration::from_secs(1_000_000));
            world.partner.script.borrow_mut().extend((0..3).map(|_| hangs()));
            world.disk.borrow_mut().hangs = 3;
            let supervisor = apply(&start(&world), on_change(lane)).await;
            pass(395).await;
            assert_eq!(world.ledger.open_causes(), [Cause::Outage]);
            pass(600).await;
            assert_eq!(world.ledger.delivered(), [0]);
            let now = status(&supervisor).await;
            assert_eq!((now.circuit.state, now.circuit.opened_total), (CircuitState::Closed, 1));
            assert!(world.ledger.open_causes().is_empty());
        });
    }
}

#[test]
fn nothing_is_given_up_while_everything_is_refused_however_often_it_is_tried() {
    simulated(async {
        let world = World::new();
        (0..10).for_each(|offset| _ = world.partner.refuses.borrow_mut().insert(offset, Failure::refused("400")));
        publish(&world, 10);
        apply(&start(&world), on_change(Lane::Requests { concurrency: 16, max_events: 1 })).await;
        pass(24 * 3600).await;
        assert!(received_at(&world).len() > 60, "each was tried more often than `retries` says");
        assert!(dead(&world).is_empty());
        world.partner.refuses.borrow_mut().clear();
        pass(3600).await;
        assert_eq!(world.ledger.delivered().len(), 10);
    });
}

#[test]
fn everything_that_waited_goes_as_soon_as_the_probe_was_delivered() {
    simulated(async {
        let world = World::new();
        publish(&world, 200);
        world.partner.refuses.borrow_mut().extend((0..200).map(|offset| (offset, Failure::transient("down"))));
        let supervisor = apply(&start(&world), on_change(REQUESTS)).await;
        pass(3600).await;
        world.partner.refuses.borrow_mut().clear();
        order(&supervisor, CircuitOrder::Probe).await.unwrap();
        pass(5).await;
        assert_eq!(world.ledger.delivered().len(), 200);
    });
}

#[test]
fn what_a_partner_asked_for_is_honoured_over_a_restart() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, [Failure::throttled("429", Some(Duration::from_secs(100)))]);
        let node = start(&world);
        apply(&node, on_change(REQUESTS)).await;
        pass(10).await;
        node.send(Shutdown).await.unwrap();
        apply(&start(&world), on_change(REQUESTS)).await;
        pass(200).await;
        assert_eq!(received_at(&world), [0, 100]);
    });
}
