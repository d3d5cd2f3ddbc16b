//! Answers to tickets, and what stands in the audit of them. Doubt has its own file.

use chaos_tests::partners::https::Answer;
use chaos_tests::wait;

use super::one_target::{OneTarget, QUICK, SHUT};

/// An outage of which a human has to know, with five events that wait.
fn outage(circuit: &str) -> (OneTarget, u64) {
    let stage = OneTarget::running(circuit);
    stage.partner.answer(Answer::Status(503));
    stage.publish(0..5);
    let ticket = stage.ticket("outage");
    stage.until("state", "open");
    (stage, ticket)
}

fn answer(stage: &OneTarget, action: &str, ticket: u64) {
    stage.node.cli(["hitl", action, &ticket.to_string(), "--note", "told by the county"]).ok();
    let named = |record: &serde_json::Value| {
        record["kind"] == "operator" && record["details"]["ticket"] == ticket.to_string().as_str()
    };
    let audit = stage.node.audit();
    let record = audit.iter().find(|record| named(record)).unwrap_or_else(|| panic!("no record: {audit:#?}"));
    assert_eq!(record["action"], format!("ticket_{action}"), "{record}");
    assert_eq!(record["details"]["note"], "told by the county", "{record}");
    assert!(record["subject"].as_str().is_some_and(|subject| !subject.is_empty()), "{record}");
}

#[test]
fn retry_tries_now_and_the_ticket_closes_when_that_succeeds() {
    let (stage, ticket) = outage(SHUT);
    stage.partner.answer(Answer::Status(200));
    answer(&stage, "retry", ticket);
    stage.until("checkpoint", 5);
    assert!(stage.closed(ticket).contains("after"));
}

#[test]
fn a_retry_that_fails_leaves_the_ticket_open() {
    let (stage, ticket) = outage(SHUT);
    let requests = stage.partner.count();
    answer(&stage, "retry", ticket);
    wait::until("the attempt", || (stage.partner.count() > requests).then_some(()));
    stage.until("activity", "circuit_open");
    assert_eq!(stage.ticket("outage"), ticket);
}

#[test]
fn skip_gives_up_what_failed_last_and_never_the_backlog() {
    let (stage, ticket) = outage(SHUT);
    answer(&stage, "skip", ticket);
    let letters = stage.letters(1);
    assert_eq!(stage.target()["backlog"], 4);
    stage.partner.answer(Answer::Status(200));
    stage.node.cli(["sync", "run", "one.sync"]).ok();
    stage.until("backlog", 0);
    // The incident goes on until something is delivered.
    stage.closed(ticket);
    assert_eq!(stage.effects().len(), 4);
    stage.node.cli(["dlq", "replay", &letters[0]["number"].to_string()]).ok();
    let mut effects = stage.effects();
    effects.sort();
    assert_eq!(effects, ["e0", "e1", "e2", "e3", "e4"]);
}

#[test]
fn resolve_closes_the_ticket_and_touches_no_event() {
    let (stage, ticket) = outage(SHUT);
    answer(&stage, "resolve", ticket);
    assert_eq!(stage.closed(ticket), "told by the county");
    stage.letters(0);
    let target = stage.target();
    assert_eq!((target["state"].as_str(), target["backlog"].as_u64()), (Some("open"), Some(5)));
}

#[test]
fn an_outage_that_goes_on_after_resolve_opens_another_ticket() {
    let (stage, ticket) = outage(QUICK);
    answer(&stage, "resolve", ticket);
    let another = stage.ticket("outage");
    assert_ne!(another, ticket);
    stage.partner.answer(Answer::Status(200));
    stage.until("checkpoint", 5);
    assert!(stage.closed(another).contains("after"));
}

#[test]
fn an_open_ticket_is_kept_up_to_date_and_is_one() {
    let (stage, ticket) = outage(QUICK);
    stage.publish(5..9);
    let shown = wait::until("more attempts", || {
        let open = stage.node.open_tickets();
        assert_eq!(open.len(), 1, "{open:#?}");
        let is_later = open[0]["attempts"].as_u64() > Some(8) && open[0]["backlog"] == 9;
        is_later.then(|| open[0].clone())
    });
    assert_eq!(shown["number"], ticket);
    assert!(shown["last_error"].as_str().is_some_and(|error| error.contains("503")), "{shown}");
    assert_eq!(stage.records("ticket_opened").len(), 1);
}
