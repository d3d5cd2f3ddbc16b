//! Dead letters: how events become them, and how they are delivered after all or given up.

use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, On};
use chaos_tests::wait;
use serde_json::Value;

use super::one_target::{OneTarget, QUICK, RECIPE, TARGET};

fn event(id: &str) -> On {
    On::Key(format!("{RECIPE}/{TARGET}/{id}"))
}

/// One event was refused, and is a dead letter; the other one went on. Gives its number and its ticket's.
fn refused(node: Node) -> (OneTarget, u64, u64) {
    let stage = OneTarget::of(node, QUICK);
    stage.partner.on(event("e0"), Answer::Json(422, r#"{"error":"no such grant"}"#.to_owned()));
    stage.publish(0..2);
    let letters = stage.letters(1);
    stage.until("backlog", 0);
    let ticket = stage.ticket("refused");
    (stage, letters[0]["number"].as_u64().expect("a number"), ticket)
}

fn replay(stage: &OneTarget, letter: u64, force: bool) -> chaos_tests::http::Answer {
    let json = [("content-type", "application/json")];
    stage.node.http().post(&format!("/v1/dead-letters/{letter}/replay"), &json, format!("{{\"force\":{force}}}"))
}

/// It was delivered once, as a dead letter, and nobody has to do anything any more.
#[track_caller]
fn is_delivered(stage: &OneTarget, letter: u64, ticket: u64) {
    stage.letters(0);
    stage.closed(ticket);
    assert!(stage.node.open_tickets().is_empty());
    let delivered = stage.records("delivered");
    let of_it: Vec<_> = delivered.iter().filter(|record| record["event_id"] == "e0").collect();
    assert_eq!(of_it.len(), 1, "{delivered:#?}");
    assert_eq!(of_it[0]["dead_letter"].as_u64(), Some(letter), "{}", of_it[0]);
    let effects = stage.effects();
    assert_eq!(effects.iter().filter(|key| *key == "e0").count(), 1, "{effects:?}");
}

#[test]
fn a_refused_event_is_a_dead_letter_with_its_history_and_a_replay_delivers_it() {
    let (stage, letter, ticket) = refused(Node::new());
    let shown = stage.node.http().get(&format!("/v1/dead-letters/{letter}")).expect(200).json();
    let history = shown["history"].as_array().expect("a history");
    assert_eq!(history.len(), 2, "{shown}");
    for attempt in history {
        assert_eq!(attempt["kind"], "refused", "{attempt}");
        assert!(attempt["error"].as_str().is_some_and(|error| error.contains("no such grant")), "{attempt}");
    }
    assert_eq!(shown["event"]["data"]["id"], 0, "{shown}");
    assert_eq!((shown["attempts"].as_u64(), shown["may_have_arrived"].as_bool()), (Some(2), Some(false)), "{shown}");

    let printed = stage.node.cli(["dlq", "replay", &letter.to_string()]).failed_with(1);
    assert!(printed.contains("no such grant"), "{printed}");
    assert_eq!(stage.ticket("refused"), ticket, "refused again");
    stage.partner.off(&event("e0"));
    stage.node.cli(["dlq", "replay", &letter.to_string()]).ok();
    is_delivered(&stage, letter, ticket);
    assert_eq!(stage.target()["last_error"], Value::Null, "nothing is wrong any more");
    replay(&stage, letter, false).problem(404);
}

#[test]
fn a_dead_letter_that_is_dropped_closes_the_ticket_and_the_audit_says_why() {
    let (stage, letter, ticket) = refused(Node::new());
    stage.node.cli(["dlq", "drop", &letter.to_string()]).failed_with(2);
    stage.node.cli(["dlq", "drop", &letter.to_string(), "--reason", "withdrawn by the county"]).ok();
    stage.letters(0);
    stage.closed(ticket);
    let told = stage.records("operator");
    assert!(told.iter().any(|record| record["details"]["reason"] == "withdrawn by the county"), "{told:#?}");
    assert_eq!(stage.effects(), ["e1"]);
}

#[test]
fn a_second_replay_is_refused_while_the_first_one_runs() {
    let (stage, letter, ticket) = refused(Node::new());
    let requests = stage.partner.count();
    stage.partner.on(event("e0"), Answer::Hang { effect: false });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| replay(&stage, letter, false));
        wait::until("the replay", || (stage.partner.count() > requests).then_some(()));
        assert_eq!(replay(&stage, letter, false).problem(409)["replaying"], true);
        stage.node.cli(["dlq", "drop", &letter.to_string(), "--reason", "x"]).failed_with(1);
        stage.partner.off(&event("e0"));
        first.join().expect("the request was answered").expect(200);
    });
    is_delivered(&stage, letter, ticket);
}

#[test]
fn a_replay_that_is_killed_in_the_middle_is_finished_and_has_one_effect() {
    let (mut stage, letter, ticket) = refused(Node::new());
    let requests = stage.partner.count();
    // It arrives; nobody hears of it.
    stage.partner.on(event("e0"), Answer::Hang { effect: true });
    stage.node.cli(["dlq", "show", &letter.to_string()]).ok();
    let (http, path) = (stage.node.http(), format!("/v1/dead-letters/{letter}/replay"));
    let asked = std::thread::spawn(move || http.send("POST", &path, &[], Vec::new()).is_err());
    wait::until("the replay", || (stage.partner.count() > requests).then_some(()));
    stage.node.kill9();
    assert!(asked.join().expect("no panic"), "it was not answered");
    stage.partner.off(&event("e0"));
    stage.node.start();
    // Repeated by somebody who does not know how the first one ended: it may be under way, or over.
    let again = replay(&stage, letter, false).status;
    assert!([200, 202, 404, 409].contains(&again), "{again}");
    is_delivered(&stage, letter, ticket);
}

#[test]
fn what_may_have_arrived_is_replayed_only_by_force() {
    let stage = OneTarget::running(QUICK);
    // The first attempt arrives without a reply; from then on it is there already, for longer than a partner works on it.
    let mut attempts = 0;
    stage.partner.rule(move |_| {
        attempts += 1;
        if attempts == 1 { Answer::Close } else { Answer::Status(409) }
    });
    stage.publish([0]);
    let letter = stage.letters(1)[0].clone();
    assert_eq!(letter["may_have_arrived"], true, "{letter}");
    let ticket = stage.node.open_tickets();
    assert!(ticket.iter().any(|ticket| ticket["cause"] == "refused"), "{ticket:#?}");
    let number = letter["number"].as_u64().expect("a number");
    let problem = replay(&stage, number, false).problem(409);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("force")), "{problem}");
    stage.node.cli(["dlq", "replay", &number.to_string()]).failed_with(1);
    stage.partner.answer(Answer::Status(200));
    stage.node.cli(["dlq", "replay", &number.to_string(), "--force"]).ok();
    stage.letters(0);
    assert!(stage.node.open_tickets().is_empty(), "{:#?}", stage.node.open_tickets());
    assert_eq!(stage.effects(), ["e0"], "the partner honours its key");
}

#[test]
fn a_conflict_after_a_lost_reply_is_about_that_attempt_and_makes_no_dead_letter() {
    let stage = OneTarget::running(QUICK);
    stage.partner.script([Answer::Close, Answer::Status(409), Answer::Status(409), Answer::Status(409)]);
    stage.publish([0]);
    stage.until("checkpoint", 1);
    let failed = stage.records("attempt_failed");
    assert_eq!(failed.len(), 4, "{failed:#?}");
    assert!(failed.iter().all(|record| record["failure"] == "transient"), "{failed:#?}");
    assert!(stage.records("dead_lettered").is_empty());
    assert_eq!(stage.effects(), ["e0"]);
}

#[test]
fn a_partner_that_refuses_everything_is_held_after_ten_and_loses_nothing() {
    let mut stage = OneTarget::running(QUICK);
    stage.partner.answer(Answer::Status(422));
    stage.publish(0..30);
    let ticket = stage.ticket("refused");
    stage.until("state", "open");
    let requests = stage.partner.count();
    wait::until("probes", || (stage.partner.count() > requests + 20).then_some(()));
    stage.node.restart();
    let requests = stage.partner.count();
    wait::until("probes", || (stage.partner.count() > requests + 20).then_some(()));
    let letters: Vec<Value> = stage.records("dead_lettered");
    assert!(letters.len() < 10, "{} dead letters", letters.len());
    assert_eq!(stage.ticket("refused"), ticket);

    stage.partner.answer(Answer::Status(200));
    stage.until("backlog", 0);
    assert_eq!(stage.target()["state"], "closed");
    assert_eq!(stage.effects().len(), 30 - letters.len());
    if !letters.is_empty() {
        assert_eq!(stage.ticket("refused"), ticket, "it is about the dead letters still");
        stage.node.cli(["dlq", "replay", "--all"]).ok();
    }
    stage.letters(0);
    stage.closed(ticket);
    assert_eq!(stage.effects().len(), 30);
}

#[test]
fn a_batch_with_one_bad_event_is_split_and_the_others_arrive_once() {
    let stage = OneTarget::running(&format!("{QUICK}    batch: {{max_events: 8, format: json_array}}\n"));
    // Everything in one batch: nothing goes before all are there.
    stage.node.cli(["sync", "pause", RECIPE]).ok();
    stage.partner.rule(|request| {
        let events: Vec<Value> = serde_json::from_slice(&request.body).expect("a batch is an array");
        Answer::Status(if events.iter().any(|event| event["id"] == 5) { 422 } else { 200 })
    });
    stage.publish(0..8);
    stage.node.cli(["sync", "resume", RECIPE]).ok();
    let letter = stage.letters(1)[0].clone();
    stage.until("backlog", 0);
    assert_eq!(letter["event_id"], "e5");
    let arrived = || -> Vec<u64> {
        let bodies = stage.partner.effects().into_iter().map(|request| request.body);
        let mut ids: Vec<u64> = bodies
            .flat_map(|body| serde_json::from_slice::<Vec<Value>>(&body).expect("an array"))
            .map(|event| event["id"].as_u64().expect("an id"))
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(arrived(), [0, 1, 2, 3, 4, 6, 7]);
    let keys: Vec<_> = stage.partner.received().iter().filter_map(|request| request.key().map(str::to_owned)).collect();
    assert_eq!(keys[0], format!("{RECIPE}/{TARGET}/0-7"), "{keys:?}");

    stage.partner.rule(|_| Answer::Status(200));
    stage.node.cli(["dlq", "replay", &letter["number"].to_string()]).ok();
    let last = stage.partner.received().pop().expect("the replay");
    assert_eq!(last.key(), Some(&*format!("{RECIPE}/{TARGET}/e5")), "the key of the single event");
    assert_eq!(arrived(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(stage.node.open_tickets().is_empty());
}
