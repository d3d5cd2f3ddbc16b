//! What policies say no to, in simulated time: held with its key or its target, or a dead letter; asked again after a
//! reload and by back-off; never sent meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::Addr;
use hms_actors::delivery::{NotReplayed, Phase, TicketAction};
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Revision};
use hms_actors::node::{Node, ReloadAll, Shutdown};
use hms_actors::policy::circuit::CircuitState;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settings::{Lane, OnDeny, RecipeSettings};
use hms_actors::work::Work;
use proptest::prelude::*;

use crate::failures::{answer, circuit_changes, dead, fails, files, on_change, publish, replay, sorted, status};
use crate::fakes::{Answer, World};
use crate::runner::{REQUESTS, apply, pass, simulated, start, target};

fn gives_up(lane: Lane) -> RecipeSettings {
    let mut recipe = on_change(lane);
    target(&mut recipe, 0).on_deny = OnDeny::DeadLetter;
    recipe
}

fn batches(max_events: usize) -> Lane {
    Lane::Requests { concurrency: 4, max_events }
}

fn deny(world: &World, offsets: impl IntoIterator<Item = Offset>) {
    world.governor.denies.borrow_mut().extend(offsets.into_iter().map(|offset| (offset, Some("no_pii"))));
}

async fn mend(world: &World, node: &Addr<Node>) {
    world.governor.denies.borrow_mut().clear();
    node.send(ReloadAll).await.unwrap();
    pass(1).await;
}

/// Time for one attempt, and for no retry of it.
async fn once() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Offsets of the records that say so, with their dead letter.
fn blocked(world: &World) -> Vec<(Offset, Option<u64>)> {
    let entries = world.ledger.entries.borrow();
    let of = |entry: &Entry| match entry {
        Entry::Blocked { event, letter, .. } => Some((event.offset, *letter)),
        _ => None,
    };
    entries.iter().filter_map(of).collect()
}

fn sent(world: &World) -> BTreeSet<Offset> {
    world.partner.received.borrow().iter().flat_map(|(_, _, offsets)| offsets.clone()).collect()
}

fn file(world: &World) -> String {
    let disk = world.disk.borrow();
    disk.files.get(&disk.path).map(|bytes| String::from_utf8(bytes.clone()).unwrap()).unwrap_or_default()
}

#[test]
fn a_denied_event_is_held_with_its_key_and_others_pass() {
    simulated(async {
        let world = World::new();
        deny(&world, [1]);
        ["a", "b", "b", "c", "b"].iter().for_each(|key| _ = world.log.publish(key));
        let node = start(&world);
        let supervisor = apply(&node, on_change(REQUESTS)).await;
        pass(3600).await;
        assert_eq!(sorted(world.ledger.delivered()), [0, 3]);
        assert!(!sent(&world).contains(&1), "it never left");
        let now = status(&supervisor).await;
        assert_eq!((now.circuit.state, now.consecutive_failures, now.failed_attempts), (CircuitState::Closed, 0, 0));
        assert_eq!((now.phase, now.backlog, now.checkpoint), (Phase::Held, 3, 1));
        assert!(now.last_error.unwrap().contains("event `e1` (offset 1) is not sent: policy `no_pii` says no"));
        assert!(now.next_attempt_at.is_some(), "it is asked about again");
        assert_eq!((world.ledger.open_causes(), blocked(&world)), (vec![Cause::Policy], vec![(1, None)]));
        let asked = world.governor.asked.borrow().iter().filter(|(_, offset)| *offset == 1).count();
        assert!(asked > 10, "asked {asked} times, recorded once");
        assert_eq!(world.witness.blocked.get(), 1);
        assert!(circuit_changes(&world).is_empty());
        mend(&world, &node).await;
        assert_eq!(world.ledger.delivered()[2..], [1, 2, 4], "in the order of its key");
        assert!(world.ledger.open_causes().is_empty(), "nothing is held, so the ticket is closed");
        assert_eq!(status(&supervisor).await.last_error, None);
    });
}

#[test]
fn without_a_reload_the_next_question_is_answered_anew() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            world.governor.broken.set(true);
            publish(&world, 3);
            let supervisor = apply(&start(&world), on_change(lane)).await;
            pass(600).await;
            assert!(world.ledger.delivered().is_empty());
            assert!(status(&supervisor).await.last_error.unwrap().contains("the policies can't be read"));
            assert_eq!(world.ledger.open_causes(), [Cause::Policy]);
            world.governor.broken.set(false);
            pass(300).await;
            assert_eq!(sorted(world.ledger.delivered()), [0, 1, 2]);
            assert!(world.ledger.open_causes().is_empty());
        });
    }
}

#[test]
fn a_restart_keeps_what_is_held_and_records_it_only_if_the_decision_is_another() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            deny(&world, [0]);
            publish(&world, 1);
            let node = start(&world);
            apply(&node, on_change(lane.clone())).await;
            pass(60).await;
            node.send(Shutdown).await.unwrap();
            let node = start(&world);
            apply(&node, on_change(lane)).await;
            pass(60).await;
            assert_eq!((world.ledger.delivered().len(), blocked(&world).len()), (0, 1));
            assert_eq!(world.ledger.open_causes(), [Cause::Policy]);
            world.governor.denies.borrow_mut().insert(0, Some("another"));
            node.send(ReloadAll).await.unwrap();
            pass(60).await;
            assert_eq!(blocked(&world).len(), 2);
            mend(&world, &node).await;
            assert_eq!((world.ledger.delivered(), world.ledger.open_causes()), (vec![0], vec![]));
        });
    }
}

#[test]
fn where_the_recipe_says_so_a_denied_event_is_a_dead_letter_and_nothing_waits_for_it() {
    for lane in [REQUESTS, batches(10), files()] {
        simulated(async {
            let world = World::new();
            deny(&world, [1, 3]);
            ["a", "b", "b", "b", "b"].iter().for_each(|key| _ = world.log.publish(key));
            let node = start(&world);
            let supervisor = apply(&node, gives_up(lane)).await;
            pass(60).await;
            assert_eq!((sorted(world.ledger.delivered()), dead(&world)), (vec![0, 2, 4], vec![1, 3]));
            assert_eq!(blocked(&world), [(1, None), (3, None)]);
            let reason = world.ledger.entries.borrow().iter().find_map(|entry| match entry {
                Entry::DeadLettered { reason, cause: Some(Cause::Policy), may_have_arrived: false, .. } => {
                    Some(reason.clone())
                }
                _ => None,
            });
            assert_eq!(reason.as_deref(), Some("blocked: policy `no_pii` says no"));
            assert_eq!(world.ledger.open_causes(), [Cause::Policy], "it waits for its dead letters");
            assert_eq!(status(&supervisor).await.backlog, 0);
        });
    }
}

#[test]
fn nothing_is_given_up_because_the_node_cannot_tell() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            world.governor.denies.borrow_mut().insert(0, None);
            publish(&world, 1);
            let node = start(&world);
            apply(&node, gives_up(lane)).await;
            pass(600).await;
            assert!(dead(&world).is_empty() && sent(&world).is_empty());
            mend(&world, &node).await;
            assert_eq!(world.ledger.delivered(), [0]);
        });
    }
}

#[test]
fn a_replay_is_asked_about_again() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            deny(&world, [1]);
            publish(&world, 3);
            let node = start(&world);
            let supervisor = apply(&node, gives_up(lane)).await;
            pass(60).await;
            let told = replay(&supervisor, 1).await.await.unwrap();
            assert_eq!(told, Err(NotReplayed::Blocked("policy `no_pii` says no".to_owned())));
            assert_eq!((dead(&world), blocked(&world)), (vec![1], vec![(1, None), (1, Some(1))]));
            mend(&world, &node).await;
            assert_eq!(replay(&supervisor, 1).await.await.unwrap(), Ok(()));
            assert!(dead(&world).is_empty());
            world.log.publish("later");
            pass(60).await;
            assert_eq!(world.ledger.delivered().last(), Some(&3), "the lane goes on");
        });
    }
}

#[test]
fn a_denied_event_is_left_out_of_its_batch_and_what_comes_after_it_in_its_key_waits() {
    simulated(async {
        let world = World::new();
        deny(&world, [2]);
        ["a", "b", "a", "c", "a", "b"].iter().for_each(|key| _ = world.log.publish(key));
        let node = start(&world);
        apply(&node, on_change(batches(10))).await;
        pass(60).await;
        let batches: Vec<Vec<u64>> =
            world.partner.received.borrow().iter().map(|(_, _, offsets)| offsets.clone()).collect();
        assert_eq!(batches, [vec![0, 1, 3, 5]]);
        mend(&world, &node).await;
        assert_eq!(sorted(world.ledger.delivered()), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_file_keeps_feed_order_so_a_denied_event_holds_what_comes_after_it() {
    simulated(async {
        let world = World::new();
        deny(&world, [2]);
        publish(&world, 5);
        let node = start(&world);
        let supervisor = apply(&node, on_change(files())).await;
        pass(60).await;
        assert_eq!((file(&world).as_str(), blocked(&world)), ("row-e0\nrow-e1\n", vec![(2, None)]));
        let now = status(&supervisor).await;
        assert_eq!((now.phase, now.circuit.state, now.backlog), (Phase::Held, CircuitState::Closed, 3));
        mend(&world, &node).await;
        assert_eq!(file(&world), "row-e0\nrow-e1\nrow-e2\nrow-e3\nrow-e4\n");
        assert!(world.ledger.open_causes().is_empty());
    });
}

#[test]
fn a_request_that_may_have_arrived_is_asked_about_again_and_keeps_its_shape() {
    simulated(async {
        let world = World::new();
        publish(&world, 3);
        fails(&world, (0..2).map(|_| Failure::transient("timeout")));
        let node = start(&world);
        apply(&node, on_change(batches(3))).await;
        once().await;
        let tried = world.partner.received.borrow().len();
        assert!(tried == 1 && world.ledger.delivered().is_empty());
        deny(&world, [1]);
        node.send(ReloadAll).await.unwrap();
        pass(600).await;
        assert!(world.partner.received.borrow().len() == tried, "nothing goes after the reload");
        assert!(matches!(&*world.ledger.work.borrow(), Some(Work::Requests(units)) if *units[0].offsets == [0, 1, 2]));
        world.partner.script.borrow_mut().clear();
        mend(&world, &node).await;
        let all = world.partner.received.borrow();
        assert!(all.iter().all(|(_, _, offsets)| offsets == &[0, 1, 2]), "{all:?}");
        assert_eq!(sorted(world.ledger.delivered()), [0, 1, 2]);
    });
}

#[test]
fn an_open_plan_is_asked_about_before_any_write_but_not_before_settling_what_is_there() {
    for there in [false, true] {
        simulated(async {
            let world = World::new();
            world.disk.borrow_mut().files.insert("/inbox/a.csv".into(), b"x\n".to_vec());
            publish(&world, 2);
            // connect, length, anchor, length, write: the reply to it is lost.
            (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(5), if there { 99 } else { 0 });
            let node = start(&world);
            apply(&node, on_change(files())).await;
            once().await;
            node.send(Shutdown).await.unwrap();
            world.disk.borrow_mut().fuse = None;
            deny(&world, [1]);
            let node = start(&world);
            apply(&node, on_change(files())).await;
            pass(600).await;
            if there {
                assert_eq!((world.ledger.delivered(), blocked(&world)), (vec![0, 1], vec![]));
                assert_eq!(file(&world), "x\nrow-e0\nrow-e1\n");
                return;
            }
            // Nothing of the plan was there: it was dropped, and what may go went without the rest.
            assert_eq!((world.ledger.delivered(), blocked(&world)), (vec![0], vec![(1, None)]));
            assert_eq!(file(&world), "x\nrow-e0\n");
            mend(&world, &node).await;
            assert_eq!(file(&world), "x\nrow-e0\nrow-e1\n");
            assert!(world.ledger.open_causes().is_empty());
        });
    }
}

#[test]
fn a_plan_of_which_a_part_is_there_is_held_whole_also_where_events_are_given_up() {
    for settings in [on_change(files()), gives_up(files())] {
        simulated(async {
            let world = World::new();
            world.disk.borrow_mut().files.insert("/inbox/a.csv".into(), b"x\n".to_vec());
            publish(&world, 2);
            (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(5), 3);
            let node = start(&world);
            apply(&node, settings.clone()).await;
            once().await;
            node.send(Shutdown).await.unwrap();
            world.disk.borrow_mut().fuse = None;
            deny(&world, [1]);
            let node = start(&world);
            let supervisor = apply(&node, settings.clone()).await;
            pass(600).await;
            assert_eq!((file(&world).as_str(), dead(&world)), ("x\nrow", vec![]));
            assert_eq!(status(&supervisor).await.circuit.state, CircuitState::Closed);
            mend(&world, &node).await;
            assert_eq!(file(&world), "x\nrow-e0\nrow-e1\n");
        });
    }
}

#[test]
fn a_human_may_skip_the_oldest_that_is_held_or_close_the_ticket_until_there_is_news() {
    for lane in [REQUESTS, files()] {
        simulated(async {
            let world = World::new();
            deny(&world, [0, 1, 3]);
            publish(&world, 3);
            let supervisor = apply(&start(&world), on_change(lane.clone())).await;
            pass(60).await;
            answer(&supervisor, Cause::Policy, TicketAction::Skip).await.unwrap();
            pass(60).await;
            assert_eq!(dead(&world), [0]);
            answer(&supervisor, Cause::Policy, TicketAction::Resolve).await.unwrap();
            pass(600).await;
            assert!(world.ledger.open_causes().is_empty(), "a human knows");
            assert!(!world.ledger.delivered().contains(&1));
            if lane == REQUESTS {
                world.log.publish("news");
                pass(600).await;
                assert_eq!(world.ledger.open_causes(), [Cause::Policy]);
            }
        });
    }
}

#[test]
fn what_is_begun_is_asked_about_as_its_own_revision_has_it() {
    simulated(async {
        let world = World::new();
        publish(&world, 1);
        fails(&world, [Failure::transient("timeout")]);
        let node = start(&world);
        apply(&node, on_change(REQUESTS)).await;
        once().await;
        let mut newer = on_change(REQUESTS);
        (newer.revision, target(&mut newer, 0).revision) = (2, 2);
        apply(&node, newer).await;
        pass(60).await;
        world.log.publish("new");
        pass(60).await;
        let revisions = |of: Offset| -> BTreeSet<Revision> {
            world.governor.asked.borrow().iter().filter(|(_, offset)| *offset == of).map(|(r, _)| *r).collect()
        };
        assert_eq!((revisions(0), revisions(1)), (BTreeSet::from([1]), BTreeSet::from([2])));
    });
}

#[test]
fn a_panic_or_an_outage_does_not_let_a_held_event_through() {
    simulated(async {
        let world = World::new();
        deny(&world, [1]);
        publish(&world, 4);
        world.partner.script.borrow_mut().extend([Answer::Panic, Answer::Fail(Failure::transient("reset"))]);
        let node = start(&world);
        apply(&node, on_change(REQUESTS)).await;
        pass(600).await;
        assert_eq!(sorted(world.ledger.delivered()), [0, 2, 3]);
        assert!(!sent(&world).contains(&1));
        assert_eq!(blocked(&world), [(1, None)]);
        mend(&world, &node).await;
        assert_eq!(sorted(world.ledger.delivered()), [0, 1, 2, 3]);
    });
}

proptest! {
    /// Whatever is denied when, over reloads and failures: nothing is sent while it is denied, all arrives in the order
    /// of its key when it is mended, and one ticket tells of it.
    #[test]
    fn nothing_denied_is_sent_and_nothing_is_lost(
        keys in proptest::collection::vec(0u8..4, 1..30),
        denied in proptest::collection::btree_set(0u64..30, 0..10),
        also in proptest::collection::btree_set(0u64..30, 0..5),
        failures in 0usize..5,
        max_events in 1usize..5,
        in_files in any::<bool>(),
    ) {
        simulated(async {
            let world = World::new();
            deny(&world, denied.iter().copied());
            keys.iter().for_each(|key| _ = world.log.publish(&format!("k{key}")));
            fails(&world, (0..failures).map(|_| Failure::transient("reset")));
            let node = start(&world);
            let lane = if in_files { files() } else { batches(max_events) };
            apply(&node, on_change(lane)).await;
            pass(2).await;
            deny(&world, also.iter().copied());
            node.send(ReloadAll).await.unwrap();
            pass(900).await;
            let there = |offset: &Offset| *offset < keys.len() as u64;
            let delivered: BTreeSet<Offset> = world.ledger.delivered().into_iter().collect();
            prop_assert!(denied.iter().all(|offset| !sent(&world).contains(offset) && !delivered.contains(offset)));
            let none_held = denied.union(&also).filter(|offset| there(offset)).all(|offset| delivered.contains(offset));
            prop_assert_eq!(world.ledger.open_causes().contains(&Cause::Policy), !none_held);
            mend(&world, &node).await;
            pass(900).await;
            let all = world.ledger.delivered();
            prop_assert_eq!(sorted(all.clone()), (0..keys.len() as u64).collect::<Vec<_>>());
            for key in 0..4 {
                let of_key: Vec<Offset> = all.iter().copied().filter(|offset| keys[*offset as usize] == key).collect();
                prop_assert!(of_key.is_sorted(), "{:?}", of_key);
            }
            prop_assert!(world.ledger.open_causes().is_empty());
            Ok(())
        })?;
    }
}
