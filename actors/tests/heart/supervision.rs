//! Deaths, hangs and quarantines in simulated time: what one child does its siblings don't notice, and nothing is
//! lost or delivered twice.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::{Actor, Addr};
use hms_actors::delivery::{Answer as TicketAnswer, Ask, Order, Phase, Replay, TicketAction};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::guard::remember_panics;
use hms_actors::id::{RecipeId, Timestamp};
use hms_actors::node::{List, Node, ReloadAll, Tree};
use hms_actors::policy::circuit::{CircuitOrder, CircuitState};
use hms_actors::ports::Schedule;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settings::RecipeSettings;
use hms_actors::supervisor::{ActorSnapshot, AskTarget, Kind, RecipeSupervisor, Revive, RunNow, State};
use tokio::sync::oneshot;

use crate::fakes::{Answer, World, key};
use crate::faults::{Faults, sibling, two_targets};
use crate::runner::{REQUESTS, apply, files, look, recipe, simulated, start, target};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// `crews` first, then `gis`. Circuit and outage ticket do not get in the way of those who die: a panic is also a
/// failed attempt, and the usual three of them are an outage.
fn both() -> RecipeSettings {
    let mut settings = recipe(Schedule::OnChange, REQUESTS);
    target(&mut settings, 0).circuit.failures = 1_000;
    target(&mut settings, 0).retries = 1_000;
    settings.targets.insert(0, settings.targets[0].clone());
    target(&mut settings, 0).name = sibling();
    settings
}

async fn children(node: &Addr<Node>) -> [ActorSnapshot; 3] {
    let supervisor = tree(node).await;
    supervisor.children.try_into().expect("a reader and two deliveries")
}

async fn tree(node: &Addr<Node>) -> ActorSnapshot {
    let mut node = node.send(Tree).await.unwrap();
    assert_eq!(node.kind, Kind::Node);
    node.children.remove(0)
}

fn tickets_opened(world: &World) -> usize {
    world.ledger.entries.borrow().iter().filter(|entry| matches!(entry, Entry::TicketOpened { .. })).count()
}

fn sorted(mut offsets: Vec<u64>) -> Vec<u64> {
    offsets.sort();
    offsets
}

/// How many requests came to `of`, and how many of them later than they had to.
fn late(world: &World, of: &World) -> (usize, usize) {
    let published: Vec<Timestamp> = world.log.events.borrow().iter().map(|event| event.published).collect();
    let received = of.partner.received.borrow();
    let late = received.iter().filter(|(at, _, offsets)| at.since(published[offsets[0] as usize]).as_millis() > 10);
    (received.len(), late.count())
}

/// A hundred events in ten seconds, while the adapter of `gis` panics at each.
async fn a_hundred_panics() -> (World, World, Rc<Faults>, Addr<Node>, Addr<RecipeSupervisor>) {
    remember_panics();
    let (gis, crews, faults) = two_targets();
    gis.partner.script.borrow_mut().extend((0..100).map(|_| Answer::Panic));
    let node = start(&gis);
    let supervisor = apply(&node, both()).await;
    for n in 0..100 {
        gis.log.publish(&format!("k{n}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (gis, crews, faults, node, supervisor)
}

#[test]
fn a_hundred_panics_quarantine_one_child_with_one_ticket_and_its_sibling_does_not_notice() {
    simulated(async {
        let (gis, crews, _, node, supervisor) = a_hundred_panics().await;
        let [reader, sibling, child] = children(&node).await;
        assert_eq!((reader.state, reader.restarts), (State::Running, 0));
        assert_eq!((sibling.state, sibling.restarts, sibling.epoch), (State::Running, 0, Some(1)));
        assert_eq!((child.state, child.restarts), (State::Quarantined, 6));
        let words = child.last_panic.unwrap().what;
        assert!(words.starts_with("the adapter panics (") && words.contains("partner.rs:"), "{words}");
        assert_eq!(late(&gis, &crews), (100, 0));
        assert_eq!((gis.ledger.open_causes(), crews.ledger.open_causes()), (vec![Cause::Quarantine], vec![]));
        let status = look(&supervisor).await.targets.remove(1);
        assert_eq!((status.phase, status.backlog, status.in_flight), (Phase::Quarantined, 100, 0));
        assert_eq!(status.revived_at.unwrap().since(status.since), Duration::from_secs(60));
        assert_eq!(status.epoch, gis.ledger.epoch.get(), "what the dead one has in flight is fenced off");
        let opened = gis.ledger.entries.borrow().iter().find_map(|entry| match entry {
            Entry::TicketOpened { attempts, last_error, .. } => Some((*attempts, last_error.clone())),
            _ => None,
        });
        assert_eq!(opened, Some((6, words)));
    });
}

#[test]
fn the_pause_ends_by_itself_doubles_while_it_goes_on_and_the_ticket_closes_when_deliveries_succeed() {
    simulated(async {
        let (gis, _, _, _, supervisor) = a_hundred_panics().await;
        pass(60).await;
        let status = look(&supervisor).await.targets.remove(1);
        assert_eq!((status.phase, status.restarts), (Phase::Quarantined, 12));
        assert_eq!(status.revived_at.unwrap().since(status.since), Duration::from_secs(120));
        assert_eq!((gis.ledger.open_causes(), tickets_opened(&gis)), (vec![Cause::Quarantine], 1));
        gis.partner.script.borrow_mut().clear();
        pass(130).await;
        let status = look(&supervisor).await.targets.remove(1);
        assert_eq!((status.phase, status.backlog, status.revived_at), (Phase::Idle, 0, None));
        assert_eq!(sorted(gis.ledger.delivered()), (0..100).collect::<Vec<_>>());
        assert_eq!((gis.ledger.open_causes(), tickets_opened(&gis)), (vec![], 1));
    });
}

fn order(order: CircuitOrder) -> (Ask, oneshot::Receiver<Result<(), String>>) {
    let (done, told) = oneshot::channel();
    (Ask::Circuit(Order { order, by: "operator".into(), note: None, done }), told)
}

#[test]
fn what_an_operator_says_that_means_go_on_revives_a_quarantined_child_and_is_then_carried_out() {
    for ask in 0..4 {
        simulated(async {
            let (gis, _, _, node, supervisor) = a_hundred_panics().await;
            gis.partner.script.borrow_mut().clear();
            let (done, told) = oneshot::channel();
            let no_go = AskTarget(key().target, Ask::Replay(Replay { letter: 1, done }));
            assert!(!supervisor.send(no_go).await.unwrap(), "a replay can wait");
            assert!(told.await.is_err());
            if ask == 0 {
                assert!(supervisor.send(Revive(key().target)).await.unwrap());
                assert!(!supervisor.send(Revive(key().target)).await.unwrap(), "it is revived");
                assert!(!supervisor.send(Revive(sibling())).await.unwrap(), "it never was quarantined");
            } else {
                let (ask, told) = match ask {
                    1 => order(CircuitOrder::Close),
                    2 => order(CircuitOrder::Probe),
                    _ => {
                        let (done, told) = oneshot::channel();
                        let (cause, action) = (Cause::Quarantine, TicketAction::Retry);
                        let answer = TicketAnswer { ticket: 1, cause, action, by: "operator".into(), note: None, done };
                        (Ask::Ticket(answer), told)
                    }
                };
                assert!(supervisor.send(AskTarget(key().target, ask)).await.unwrap());
                told.await.unwrap().unwrap();
            }
            pass(1).await;
            assert_eq!(gis.ledger.delivered().len(), 100);
            assert_eq!(children(&node).await[2].state, State::Running);
            assert!(gis.ledger.open_causes().is_empty());
        });
    }
}

#[test]
fn a_panic_outside_of_attempts_is_quarantined_too_and_new_settings_end_that() {
    simulated(async {
        remember_panics();
        let (gis, crews, faults) = two_targets();
        faults.keys_panic.set(true);
        gis.log.publish("a");
        let node = start(&gis);
        apply(&node, both()).await;
        pass(10).await;
        let child = &children(&node).await[2];
        assert_eq!(child.state, State::Quarantined);
        assert!(child.last_panic.as_ref().unwrap().what.starts_with("no key for e0 ("));
        assert_eq!((crews.ledger.delivered(), gis.ledger.open_causes()), (vec![0], vec![Cause::Quarantine]));
        faults.keys_panic.set(false);
        let mut mended = both();
        (mended.revision, target(&mut mended, 1).revision) = (2, 2);
        apply(&node, mended).await;
        pass(1).await;
        assert_eq!(gis.ledger.delivered(), [0]);
        assert_eq!(children(&node).await[2].state, State::Running);
    });
}

#[test]
fn an_attempt_that_hangs_is_a_death_and_its_sibling_does_not_notice() {
    simulated(async {
        let (gis, crews, _) = two_targets();
        gis.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(100_000)));
        let node = start(&gis);
        let supervisor = apply(&node, both()).await;
        gis.log.publish("a");
        pass(115).await;
        assert_eq!(children(&node).await[2].restarts, 0, "its patience is 120 s");
        pass(15).await;
        let [_, sibling, child] = children(&node).await;
        assert_eq!((child.state, child.restarts, sibling.restarts), (State::Running, 1, 0));
        let words = child.last_panic.unwrap().what;
        assert!(words.starts_with("hung: an attempt has been under way for 12"), "{words}");
        assert_eq!(look(&supervisor).await.targets[1].last_panic.as_ref().unwrap().what, words);
        assert_eq!((gis.ledger.delivered(), gis.partner.accepted.borrow().clone()), (vec![0], vec![0]));
        assert_eq!(crews.ledger.delivered(), [0]);
    });
}

#[test]
fn what_a_hung_child_still_has_in_flight_settles_nothing() {
    simulated(async {
        let (gis, _, faults) = two_targets();
        faults.slow_commit.set(Some(Duration::from_secs(300)));
        let node = start(&gis);
        let mut settings = both();
        settings.targets.remove(0);
        apply(&node, settings).await;
        gis.log.publish("a");
        pass(200).await;
        assert_eq!((gis.ledger.delivered(), gis.ledger.epoch.get()), (vec![0], 2), "by the one that was started again");
        assert_eq!(*faults.slow_commit_ended.borrow(), None);
        pass(200).await;
        assert_eq!(*faults.slow_commit_ended.borrow(), Some(Err(FailureKind::Fenced)));
        assert_eq!(gis.ledger.delivered(), [0]);
    });
}

#[test]
fn a_target_that_waits_for_long_does_not_hang() {
    simulated(async {
        let (gis, _, faults) = two_targets();
        let node = start(&gis);
        let mut settings = both();
        target(&mut settings, 0).lane = files();
        target(&mut settings, 1).circuit.failures = 3;
        apply(&node, settings).await;
        pass(7_200).await;
        gis.partner.script.borrow_mut().extend((0..50).map(|_| Answer::Fail(Failure::transient("refused"))));
        gis.log.publish("a");
        pass(7_200).await;
        pass(7_200).await;
        // Nor does one that waits for its own store.
        faults.store_is_full.set(true);
        gis.partner.script.borrow_mut().clear();
        gis.log.publish("b");
        pass(7_200).await;
        assert!(children(&node).await.iter().all(|child| child.restarts == 0));
        faults.store_is_full.set(false);
        pass(600).await;
        assert_eq!(gis.ledger.delivered(), [0, 1]);
    });
}

#[test]
fn a_reader_that_dies_or_hangs_is_started_again_and_runs_go_on() {
    simulated(async {
        remember_panics();
        let (gis, crews, faults) = two_targets();
        let node = start(&gis);
        apply(&node, both()).await;
        pass(1).await;
        faults.reader_panics.set(true);
        gis.log.publish("a");
        tokio::time::sleep(Duration::from_millis(100)).await;
        faults.reader_panics.set(false);
        pass(1).await;
        let [reader, first, second] = children(&node).await;
        assert_eq!((reader.state, reader.restarts, first.restarts, second.restarts), (State::Running, 2, 0, 0));
        assert!(reader.last_panic.unwrap().what.starts_with("the log panics ("));
        assert_eq!((gis.ledger.delivered(), crews.ledger.delivered()), (vec![0], vec![0]));
        faults.reader_hangs.set(true);
        gis.log.publish("b");
        pass(75).await;
        let [reader, ..] = children(&node).await;
        assert_eq!(reader.restarts, 3);
        let words = reader.last_panic.unwrap().what;
        assert!(words.starts_with("hung: it has waited for the event log for 6"), "{words}");
        assert_eq!(gis.ledger.delivered(), [0, 1]);
    });
}

#[test]
fn a_reader_that_dies_too_often_takes_its_supervisor_with_it_and_the_node_builds_another() {
    simulated(async {
        remember_panics();
        let (gis, _, faults) = two_targets();
        let node = start(&gis);
        apply(&node, both()).await;
        pass(1).await;
        faults.reader_panics.set(true);
        gis.log.publish("a");
        tokio::time::sleep(Duration::from_millis(1_700)).await;
        let supervisor = tree(&node).await;
        assert_eq!(supervisor.restarts, 1);
        let words = supervisor.last_panic.unwrap().what;
        assert!(words.starts_with("escalated: the feed reader died too often, last of: the log panics ("), "{words}");
        faults.reader_panics.set(false);
        pass(5).await;
        assert_eq!((gis.ledger.delivered(), tree(&node).await.state), (vec![0], State::Running));
    });
}

#[test]
fn a_supervisor_that_panics_is_rebuilt_and_deliveries_go_on_from_the_ledger() {
    simulated(async {
        remember_panics();
        let (gis, crews, faults) = two_targets();
        let node = start(&gis);
        let mut settings = both();
        settings.schedule = Schedule::Every(Duration::from_secs(3_600));
        let supervisor = apply(&node, settings.clone()).await;
        gis.log.publish("a");
        supervisor.send(RunNow).await.unwrap();
        // One is in flight when the supervisor dies, and one was released and waits behind it.
        for world in [&gis, &crews] {
            world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
        }
        for key in ["b", "b"] {
            gis.log.publish(key);
        }
        supervisor.do_send(RunNow);
        pass(1).await;
        faults.supervisor_panics.set(true);
        assert!(supervisor.send(RunNow).await.is_err());
        faults.supervisor_panics.set(false);
        pass(1).await;
        let supervisor = tree(&node).await;
        assert_eq!((supervisor.state, supervisor.restarts), (State::Running, 1));
        assert!(supervisor.last_panic.unwrap().what.starts_with("the supervisor panics ("));
        // What a run had released before is delivered without a new run.
        assert_eq!([gis.ledger.delivered(), crews.ledger.delivered()], [[0, 1, 2], [0, 1, 2]]);
        pass(60).await;
        assert_eq!([gis.ledger.delivered(), crews.ledger.delivered()], [[0, 1, 2], [0, 1, 2]]);
    });
}

#[test]
fn a_supervisor_that_dies_too_often_is_shown_as_down_and_tried_again_for_ever() {
    simulated(async {
        remember_panics();
        let (gis, _, faults) = two_targets();
        let node = start(&gis);
        apply(&node, both()).await;
        pass(1).await;
        faults.supervisor_panics.set(true);
        // Each run is the end of it.
        let publish = async |seconds: u64| {
            for _ in 0..seconds {
                gis.log.publish("a");
                pass(1).await;
            }
        };
        publish(10).await;
        let supervisor = tree(&node).await;
        assert_eq!((supervisor.state, supervisor.restarts, supervisor.children.len()), (State::Down, 6, 0));
        assert!(supervisor.revived_at.is_some());
        assert_eq!(node.send(List).await.unwrap()[0].state, State::Down);
        publish(1_000).await;
        let restarts = tree(&node).await.restarts;
        // A minute, two, four, eight: with six deaths after each.
        assert!((24..=30).contains(&restarts), "{restarts}");
        faults.supervisor_panics.set(false);
        pass(1_000).await;
        assert_eq!((tree(&node).await.state, gis.ledger.delivered().len()), (State::Running, 1_010));
    });
}

#[test]
fn a_full_mailbox_refuses_says_so_and_loses_nothing() {
    simulated(async {
        let (gis, ..) = two_targets();
        let node = start(&gis);
        let supervisor = apply(&node, both()).await;
        pass(1).await;
        let mut asked = Vec::new();
        for n in 0..40 {
            let (ask, told) = order(CircuitOrder::Close);
            // So many at once that the delivery has no turn in between.
            supervisor.do_send(AskTarget(key().target, ask));
            asked.push(told);
            if n == 30 {
                gis.log.publish("a");
            }
        }
        let full = look(&supervisor).await.targets.remove(1).mailbox;
        assert!(full.depth >= full.capacity && full.depth <= full.capacity + 1, "{full:?}");
        let (mut done, mut busy) = (0, 0);
        for told in asked {
            match told.await.expect("each is answered") {
                Ok(()) => done += 1,
                Err(why) => {
                    assert!(why.starts_with("busy: "), "{why}");
                    busy += 1;
                }
            }
        }
        assert_eq!((done, done + busy), (full.depth, 40));
        pass(60).await;
        assert_eq!(gis.ledger.delivered(), [0]);
        assert_eq!(look(&supervisor).await.targets[1].mailbox.depth, 0);
        assert_eq!(children(&node).await[2].mailbox.unwrap().capacity, full.capacity);
    });
}

#[test]
fn mended_settings_or_a_reload_are_tried_at_once_whatever_the_open_circuit_says() {
    simulated(async {
        let (gis, ..) = two_targets();
        let node = start(&gis);
        let mut settings = both();
        let supervisor = apply(&node, settings.clone()).await;
        for mend in [false, true] {
            gis.partner.script.borrow_mut().push_back(Answer::Fail(Failure::configuration("401")));
            let offset = gis.log.publish("a");
            pass(1).await;
            assert_eq!(look(&supervisor).await.targets[1].circuit.state, CircuitState::Open);
            if mend {
                (settings.revision, target(&mut settings, 1).revision) = (2, 2);
                apply(&node, settings.clone()).await;
            } else {
                node.send(ReloadAll).await.unwrap();
            }
            pass(1).await;
            assert_eq!(gis.ledger.delivered().last(), Some(&offset));
            assert_eq!(look(&supervisor).await.targets[1].circuit.state, CircuitState::Closed);
        }
    });
}

/// Waits for what the pings of the node find out.
async fn until(node: &Addr<Node>, state: State) {
    let found = async {
        while node.send(List).await.unwrap().iter().any(|supervised| supervised.state != state) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), found).await.expect("the node finds out");
}

/// The one test on real threads: what holds a thread up can't be simulated.
#[test]
fn a_supervisor_on_a_thread_that_is_held_up_is_shown_as_not_answering_until_it_goes_on() {
    actix::System::new().block_on(async {
        let arbiter = actix::Arbiter::new();
        let node = Node::new(Arc::new(|| Rc::new(World::new().env)), vec![arbiter.handle()]).start();
        apply(&node, recipe(Schedule::OnChange, REQUESTS)).await;
        // More than the node asks at once.
        for n in 0..600 {
            let id = RecipeId::parse(&format!("z{n}.sync")).unwrap();
            apply(&node, RecipeSettings { id, ..recipe(Schedule::OnChange, REQUESTS) }).await;
        }
        assert_eq!(tree(&node).await.state, State::Running);
        let (go_on, held_up) = mpsc::channel::<()>();
        let (begun, is_held_up) = oneshot::channel();
        arbiter.spawn_fn(move || {
            begun.send(()).unwrap_or_default();
            held_up.recv().unwrap_or_default();
        });
        is_held_up.await.unwrap();
        let supervisor = tree(&node).await;
        assert_eq!((supervisor.state, supervisor.children.len()), (State::NotAnswering, 0));
        until(&node, State::NotAnswering).await;
        drop(go_on);
        until(&node, State::Running).await;
        let supervisor = tree(&node).await;
        assert_eq!((supervisor.state, supervisor.restarts, supervisor.children.len()), (State::Running, 0, 2));
        arbiter.stop();
    });
}
