//! Deliveries under their supervisor, in simulated time: order per key, settling, failures, restarts, answers.

use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use hms_actors::delivery::{Answer as TicketAnswer, Ask, Phase, TicketAction};
use hms_actors::failure::Failure;
use hms_actors::id::{RecipeId, TargetName};
use hms_actors::node::{Find, Shutdown};
use hms_actors::ports::Schedule;
use hms_actors::receipt::{Cause, Entry, Receipt};
use hms_actors::settings::Lane;
use hms_actors::supervisor::{AskTarget, RecipeSupervisor, RunNow};
use proptest::prelude::*;

use crate::fakes::{Answer, World, key};
use crate::runner::{REQUESTS, apply, files, look, pass, recipe, simulated, start, target};

#[test]
fn events_of_one_key_go_one_after_the_other_and_other_keys_pass_a_stuck_one() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(0, Failure::transient("500"));
        for k in ["stuck", "a", "stuck", "b", "a"] {
            world.log.publish(k);
        }
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(5).await;
        let mut delivered = world.ledger.delivered();
        delivered.sort();
        assert_eq!(delivered, [1, 3, 4]);
        assert_eq!(look(&supervisor).await.targets[0].checkpoint, 0);
        world.partner.refuses.borrow_mut().clear();
        pass(600).await;
        assert_eq!(world.ledger.delivered()[3..], [0, 2]);
        assert_eq!(look(&supervisor).await.targets[0].checkpoint, 5);
    });
}

#[test]
fn a_lane_that_has_had_nothing_to_do_for_a_while_lets_its_partner_go_and_delivers_what_comes_then() {
    simulated(async {
        let world = World::new();
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(1).await;
        let resting = Rc::strong_count(&world.partner);
        for offset in 0..3 {
            world.log.publish("k");
            pass(60).await;
            assert_eq!(world.ledger.delivered(), (0..=offset).collect::<Vec<_>>());
            assert!(Rc::strong_count(&world.partner) > resting, "connections are kept for what may come");
            pass(700).await;
            assert_eq!(Rc::strong_count(&world.partner), resting);
        }
        let status = look(&supervisor).await.targets.remove(0);
        assert_eq!((status.phase, status.checkpoint, status.backlog), (Phase::Idle, 3, 0));
    });
}

#[test]
fn a_partner_that_is_down_gets_one_attempt_at_a_time_and_everything_in_order_when_it_returns() {
    simulated(async {
        let world = World::new();
        for n in 0..20 {
            world.log.publish(&format!("k{}", n % 3));
        }
        let down = (0..6).map(|_| Answer::Fail(Failure::transient("connection refused")));
        world.partner.script.borrow_mut().extend(down);
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(1).await;
        assert_eq!(look(&supervisor).await.targets[0].last_error.as_deref(), Some("connection refused"));
        pass(3600).await;
        assert_eq!(look(&supervisor).await.targets[0].backlog, 0);
        for k in 0..3 {
            let of_key: Vec<u64> = world.partner.accepted.borrow().iter().copied().filter(|o| o % 3 == k).collect();
            assert!(of_key.is_sorted(), "{of_key:?}");
        }
        let status = &look(&supervisor).await.targets[0];
        assert_eq!((status.phase, status.last_error.as_deref(), status.delivered), (Phase::Idle, None, 20));
    });
}

#[test]
fn batches_hold_up_to_their_maximum_and_never_share_a_key_in_flight() {
    simulated(async {
        let world = World::new();
        for n in 0..50 {
            world.log.publish(&format!("k{}", n % 7));
        }
        let slow = (0..40).map(|_| Answer::AcceptAfter(Duration::from_secs(1)));
        world.partner.script.borrow_mut().extend(slow);
        apply(&start(&world), recipe(Schedule::OnChange, Lane::Requests { concurrency: 3, max_events: 5 })).await;
        pass(300).await;
        let received = world.partner.received.borrow();
        assert!(received.iter().all(|(_, _, offsets)| offsets.len() <= 5 && offsets.is_sorted()));
        let mut all: Vec<u64> = received.iter().flat_map(|(_, _, offsets)| offsets.clone()).collect();
        all.sort();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_backlog_behind_big_batches_that_were_begun_goes_on_by_itself_after_a_restart() {
    simulated(async {
        let world = World::new();
        for n in 0..5_000 {
            world.log.publish(&format!("k{n}"));
        }
        world.partner.script.borrow_mut().extend((0..3).map(|_| Answer::Fail(Failure::transient("down"))));
        let settings = recipe(Schedule::OnChange, Lane::Requests { concurrency: 1, max_events: 1_000 });
        let node = start(&world);
        apply(&node, settings.clone()).await;
        pass(20).await;
        node.send(Shutdown).await.unwrap();
        assert!(world.ledger.delivered().is_empty());
        let supervisor = apply(&start(&world), settings).await;
        pass(60).await;
        assert_eq!(look(&supervisor).await.targets[0].checkpoint, 5_000);
    });
}

#[test]
fn what_was_tried_is_finished_in_its_own_revision_and_the_rest_goes_in_the_new_one() {
    simulated(async {
        let world = World::new();
        world.log.publish("a");
        let down = (0..3).map(|_| Answer::Fail(Failure::transient("timeout")));
        world.partner.script.borrow_mut().extend(down);
        let node = start(&world);
        apply(&node, recipe(Schedule::OnChange, REQUESTS)).await;
        pass(1).await;
        world.log.publish("b");
        let mut changed = recipe(Schedule::OnChange, REQUESTS);
        (changed.revision, target(&mut changed, 0).revision) = (2, 2);
        apply(&node, changed).await;
        pass(600).await;
        let received = world.partner.received.borrow();
        for (_, revision, offsets) in received.iter() {
            assert_eq!(*revision, if offsets == &[0] { 1 } else { 2 }, "{received:?}");
        }
        let mut delivered = world.ledger.delivered();
        delivered.sort();
        assert_eq!(delivered, [0, 1]);
    });
}

#[test]
fn what_was_begun_but_never_tried_belongs_to_the_new_revision() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
        world.log.publish("a");
        world.log.publish("b");
        let one_at_a_time = Lane::Requests { concurrency: 1, max_events: 1 };
        let node = start(&world);
        apply(&node, recipe(Schedule::OnChange, one_at_a_time.clone())).await;
        pass(1).await;
        let mut changed = recipe(Schedule::OnChange, one_at_a_time);
        (changed.revision, target(&mut changed, 0).revision) = (2, 2);
        apply(&node, changed).await;
        pass(60).await;
        let revisions: Vec<u32> = world.partner.received.borrow().iter().map(|(_, revision, _)| *revision).collect();
        assert_eq!(revisions, [1, 2]);
    });
}

#[test]
fn a_refusal_after_an_outage_lets_the_other_keys_go_on() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::Fail(Failure::transient("reset")));
        world.log.publish("refused");
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("never"));
        world.log.publish("other");
        pass(3600).await;
        assert_eq!(world.ledger.delivered(), [1]);
        assert_eq!(look(&supervisor).await.targets[0].backlog, 0, "the refused one is a dead letter");
    });
}

#[test]
fn a_batch_never_passes_older_events_that_wait_behind_its_key() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
        let publish = |keys: &mut dyn Iterator<Item = String>| {
            for key in keys {
                world.log.publish(&key);
            }
        };
        let numbered = |name: &'static str, count: u32| (0..count).map(move |n| format!("{name}{n}"));
        // Both keys are in flight; seven of each wait behind them, and a full unit of others waits to be sent.
        publish(&mut numbered("k", 2));
        let lane = Lane::Requests { concurrency: 1, max_events: 10 };
        apply(&start(&world), recipe(Schedule::OnChange, lane)).await;
        pass(1).await;
        publish(&mut (0..7).flat_map(|_| numbered("k", 2)).chain(numbered("z", 10)));
        pass(1).await;
        // One of k1 is read while only k0 is taken up again, and the next one when k1 is.
        publish(&mut ["k1".to_owned()].into_iter().chain(numbered("w", 3)).chain(["k1".to_owned()]));
        pass(300).await;
        let events = world.log.events.borrow();
        let accepted = world.partner.accepted.borrow();
        assert_eq!(accepted.len(), events.len());
        for key in ["k0", "k1"] {
            let of_key = |offset: &&u64| events[**offset as usize].subject.as_deref() == Some(key);
            let offsets: Vec<&u64> = accepted.iter().filter(of_key).collect();
            assert!(offsets.is_sorted(), "{key}: {offsets:?}");
        }
    });
}

#[test]
fn one_failing_request_does_not_hold_up_the_other_keys() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(0, Failure::transient("500"));
        for key in ["bad", "a", "b", "c"] {
            world.log.publish(key);
        }
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut delivered = world.ledger.delivered();
        delivered.sort();
        assert_eq!(delivered, [1, 2, 3]);
        assert_eq!(look(&supervisor).await.targets[0].last_error.as_deref(), Some("500"), "it still waits");
    });
}

#[test]
fn a_run_asked_for_also_tries_what_was_refused() {
    simulated(async {
        let world = World::new();
        world.partner.refuses.borrow_mut().insert(0, Failure::refused("422"));
        let supervisor = apply(&start(&world), recipe(Schedule::Every(Duration::from_secs(3600)), REQUESTS)).await;
        world.log.publish("a");
        for _ in 0..2 {
            let report = supervisor.send(RunNow).await.unwrap().remove(0);
            assert_eq!((report.failed, report.waiting, report.error.as_deref()), (1, 1, Some("422")));
        }
        world.partner.refuses.borrow_mut().clear();
        assert_eq!(supervisor.send(RunNow).await.unwrap()[0].delivered, 1);
    });
}

#[test]
fn what_may_have_been_sent_stays_in_its_revision_over_two_changes() {
    simulated(async {
        let world = World::new();
        world.log.publish("a");
        world.log.publish("b");
        world.partner.script.borrow_mut().extend((0..2).map(|_| Answer::Fail(Failure::transient("timeout"))));
        let node = start(&world);
        let mut settings = recipe(Schedule::OnChange, REQUESTS);
        apply(&node, settings.clone()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(world.partner.received.borrow().len(), 2);
        // Taken up again, but not sent, before the next change.
        settings.paused = true;
        for revision in [2, 3] {
            (settings.revision, target(&mut settings, 0).revision) = (revision, revision);
            apply(&node, settings.clone()).await;
            pass(60).await;
        }
        settings.paused = false;
        apply(&node, settings).await;
        pass(60).await;
        let revisions: Vec<u32> = world.partner.received.borrow().iter().map(|(_, revision, _)| *revision).collect();
        assert_eq!(revisions, [1, 1, 1, 1]);
        assert_eq!(world.ledger.delivered().len(), 2);
    });
}

#[test]
fn a_delivery_that_is_fenced_off_ends_and_does_not_fence_back() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::AcceptAfter(Duration::from_secs(5)));
        world.log.publish("a");
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(1).await;
        let before = world.ledger.epoch.get();
        world.ledger.epoch.set(before + 1);
        pass(60).await;
        assert_eq!(look(&supervisor).await.targets[0].restarts, 1, "its supervisor starts another");
        assert_eq!(world.ledger.delivered(), [0]);
    });
}

#[test]
fn an_adapter_that_panics_is_started_again_and_nothing_is_lost_or_delivered_twice() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().extend([Answer::Accept, Answer::Panic, Answer::Panic]);
        for k in ["a", "b", "c", "d"] {
            world.log.publish(k);
        }
        let supervisor = apply(&start(&world), recipe(Schedule::OnChange, REQUESTS)).await;
        pass(60).await;
        let mut delivered = world.ledger.delivered();
        delivered.sort();
        assert_eq!(delivered, [0, 1, 2, 3]);
        assert_eq!(look(&supervisor).await.targets[0].restarts, 2);
        assert_eq!(*world.witness.restarted.borrow(), ["gis", "gis"]);
    });
}

#[test]
fn pause_sends_nothing_and_resume_goes_on() {
    simulated(async {
        let world = World::new();
        let node = start(&world);
        let mut settings = recipe(Schedule::OnChange, REQUESTS);
        settings.paused = true;
        let supervisor = apply(&node, settings.clone()).await;
        world.log.publish("a");
        pass(120).await;
        assert!(world.partner.received.borrow().is_empty());
        assert_eq!(look(&supervisor).await.targets[0].phase, Phase::Paused);
        settings.paused = false;
        apply(&node, settings).await;
        pass(1).await;
        assert_eq!(world.ledger.delivered(), [0]);
    });
}

#[test]
fn a_run_asked_for_does_not_wait_for_the_schedule_or_the_back_off_and_reports() {
    simulated(async {
        let world = World::new();
        world.partner.script.borrow_mut().push_back(Answer::Fail(Failure::transient("connection refused")));
        let supervisor = apply(&start(&world), recipe(Schedule::Every(Duration::from_secs(3600)), REQUESTS)).await;
        world.log.publish("a");
        let report = supervisor.send(RunNow).await.unwrap().remove(0);
        assert_eq!((report.delivered, report.failed, report.waiting), (0, 1, 1));
        assert_eq!(report.error.as_deref(), Some("connection refused"));
        let report = supervisor.send(RunNow).await.unwrap().remove(0);
        assert_eq!((report.delivered, report.failed, report.waiting, report.error), (1, 0, 0, None));
        assert_eq!(*world.witness.runs.borrow(), [(0, 1), (1, 0)]);
    });
}

/// Brings a file target into doubt: the write arrives, its answer does not, and the file is picked up.
async fn into_doubt(world: &World) -> Addr<RecipeSupervisor> {
    world.disk.borrow_mut().files.insert("/inbox/a.csv".into(), b"x\n".to_vec());
    (world.disk.borrow_mut().fuse, world.disk.borrow_mut().partial) = (Some(5), 1000);
    world.log.publish("a");
    let supervisor = apply(&start(world), recipe(Schedule::Every(Duration::from_secs(60)), files())).await;
    assert_eq!(supervisor.send(RunNow).await.unwrap()[0].failed, 1);
    world.disk.borrow_mut().files.clear();
    world.disk.borrow_mut().fuse = None;
    world.log.publish("b");
    pass(600).await;
    let status = look(&supervisor).await.targets.remove(0);
    assert_eq!((status.phase, status.held_by, status.backlog), (Phase::Held, Some(1), 2));
    supervisor
}

async fn answer(supervisor: &Addr<RecipeSupervisor>, action: TicketAction) {
    let (done, told) = tokio::sync::oneshot::channel();
    let answer = TicketAnswer { ticket: 1, cause: Cause::Doubt, action, by: "operator".into(), note: None, done };
    assert!(supervisor.send(AskTarget(key().target, Ask::Ticket(answer))).await.unwrap());
    told.await.unwrap().unwrap();
    pass(120).await;
}

fn file(world: &World) -> String {
    String::from_utf8(world.disk.borrow().files.get("/inbox/a.csv").cloned().unwrap_or_default()).unwrap()
}

#[test]
fn doubt_holds_the_target_and_retry_writes_the_rows_again() {
    simulated(async {
        let world = World::new();
        let supervisor = into_doubt(&world).await;
        answer(&supervisor, TicketAction::Retry).await;
        assert_eq!(file(&world), "row-e0\nrow-e1\n");
        assert_eq!(world.ledger.delivered(), [0, 1]);
    });
}

#[test]
fn doubt_answered_with_resolve_settles_with_an_operators_receipt() {
    simulated(async {
        let world = World::new();
        let supervisor = into_doubt(&world).await;
        answer(&supervisor, TicketAction::Resolve).await;
        assert_eq!(file(&world), "row-e1\n");
        let entries = world.ledger.entries.borrow();
        assert!(entries.iter().any(
            |entry| matches!(entry, Entry::Delivered { event, receipt: Receipt::Operator, .. } if event.offset == 0)
        ));
    });
}

#[test]
fn doubt_answered_with_skip_makes_dead_letters_that_may_have_arrived() {
    simulated(async {
        let world = World::new();
        let supervisor = into_doubt(&world).await;
        answer(&supervisor, TicketAction::Skip).await;
        assert_eq!(file(&world), "row-e1\n");
        let entries = world.ledger.entries.borrow();
        assert!(entries.iter().any(
            |entry| matches!(entry, Entry::DeadLettered { event, may_have_arrived: true, .. } if event.offset == 0)
        ));
    });
}

#[test]
fn a_target_that_is_removed_ends_and_one_that_is_added_begins() {
    simulated(async {
        let world = World::new();
        let node = start(&world);
        let mut settings = recipe(Schedule::OnChange, REQUESTS);
        apply(&node, settings.clone()).await;
        target(&mut settings, 0).name = TargetName::parse("crews").unwrap();
        let supervisor = apply(&node, settings).await;
        pass(60).await;
        let names: Vec<String> = look(&supervisor).await.targets.iter().map(|t| t.target.to_string()).collect();
        assert_eq!(names, ["crews"]);
        node.send(Shutdown).await.unwrap();
        assert!(node.send(Find(RecipeId::parse("vdot.bridge_grant.sync").unwrap())).await.unwrap().is_none());
    });
}

#[derive(Debug, Clone)]
enum Happening {
    Publish(u8),
    Answers(Vec<u8>),
    Restart,
    Pass(u16),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0u8..4).prop_map(Happening::Publish),
        proptest::collection::vec(0u8..10, 0..5).prop_map(Happening::Answers),
        Just(Happening::Restart),
        (0u16..400).prop_map(Happening::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// For any interleaving of publishes, answers and restarts: the log minus the delivered is what waits,
    /// and in the end all is delivered, per key in order.
    #[test]
    fn the_log_minus_the_delivered_is_what_waits(
        happenings in proptest::collection::vec(happening(), 1..40),
        concurrency in 1usize..5,
        max_events in 1usize..4,
    ) {
        simulated(async {
            let world = World::new();
            let settings = recipe(Schedule::OnChange, Lane::Requests { concurrency, max_events });
            let mut node = start(&world);
            let mut supervisor = apply(&node, settings.clone()).await;
            for happening in happenings {
                match happening {
                    Happening::Publish(k) => { world.log.publish(&format!("k{k}")); }
                    Happening::Answers(answers) => {
                        let answers = answers.into_iter().map(|answer| match answer {
                            0 => Answer::AcceptAfter(Duration::from_secs(7)),
                            1 => Answer::Fail(Failure::transient("reset")),
                            2 => Answer::Fail(Failure::refused("no")),
                            3 => Answer::Fail(Failure::conflict("there already")),
                            4 => Answer::Fail(Failure::configuration("401")),
                            5 => Answer::Fail(Failure::throttled("429", Some(Duration::from_secs(3)))),
                            6 => Answer::Panic,
                            _ => Answer::Accept,
                        });
                        world.partner.script.borrow_mut().extend(answers);
                    }
                    Happening::Restart => {
                        // What was in flight is forgotten, as in a crash.
                        node.send(Shutdown).await.unwrap();
                        node = start(&world);
                        supervisor = apply(&node, settings.clone()).await;
                    }
                    Happening::Pass(seconds) => pass(seconds.into()).await,
                }
                let settled = world.ledger.settled.borrow().clone();
                let published = world.log.events.borrow().len() as u64;
                let ended = (world.ledger.delivered().len() + world.ledger.letters.borrow().len()) as u64;
                prop_assert_eq!(settled.waiting(published), published - ended);
            }
            world.partner.script.borrow_mut().clear();
            pass(4000).await;
            let published: Vec<u64> = (0..world.log.events.borrow().len() as u64).collect();
            let mut ended = world.ledger.delivered();
            ended.extend(world.ledger.letters.borrow().values().map(|event| event.offset));
            ended.sort();
            prop_assert_eq!(ended, published);
            prop_assert_eq!(look(&supervisor).await.targets[0].backlog, 0);
            let accepted = world.partner.accepted.borrow();
            let keys = world.log.events.borrow();
            for k in 0..4 {
                let subject = format!("k{k}");
                let of_key: Vec<u64> = accepted.iter().copied()
                    .filter(|&offset| keys[offset as usize].subject.as_ref() == Some(&subject)).collect();
                prop_assert!(of_key.is_sorted(), "{:?}", of_key);
            }
            Ok(())
        })?;
    }
}

/// Keeps the fakes' reference counting honest: a world is dropped with its actors.
#[test]
fn nothing_of_a_world_outlives_its_actors() {
    let weak = simulated(async {
        let world = World::new();
        let weak = Rc::downgrade(&world.ledger);
        let node = start(&world);
        apply(&node, recipe(Schedule::OnChange, REQUESTS)).await;
        node.send(Shutdown).await.unwrap();
        weak
    });
    assert!(weak.upgrade().is_none());
}
