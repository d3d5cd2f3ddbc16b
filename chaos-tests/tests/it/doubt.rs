//! Doubt: nobody can know whether the rows were read. The target holds until a human says.

use chaos_tests::node::Node;
use serde_json::Value;

use super::drop_box::{DropBox, RECIPE, row};

/// A node that was killed between write and record, and whose file is gone since.
fn killed_in_a_write(more: &str) -> DropBox {
    let mut stage = DropBox::new(Node::faulty());
    stage.node.start();
    stage.node.apply(&stage.recipe(more));
    stage.publish("GR-1");
    stage.run().ok();
    stage.node.terminate();
    stage.node.start_to_die_at("append.written");
    stage.publish("GR-2");
    stage.run();
    stage.node.wait_until_dead();
    // The mainframe has taken the file, with one row or with two.
    std::fs::remove_file(stage.node.path("spool/grants.csv")).expect("the file is there");
    stage.node.start();
    stage
}

/// Such a node, held by its ticket. Gives the ticket's number.
fn in_doubt() -> (DropBox, u64) {
    let mut stage = killed_in_a_write("");
    stage.publish("GR-3");
    stage.run();
    assert_eq!(stage.text(), "", "nothing is written in doubt");
    let tickets = stage.node.open_tickets();
    assert_eq!(tickets.len(), 1, "{tickets:#?}");
    check_ticket(&tickets[0]);
    let number = tickets[0]["number"].as_u64().expect("a number");
    (stage, number)
}

fn check_ticket(ticket: &Value) {
    assert_eq!((ticket["recipe"].as_str(), ticket["target"].as_str()), (Some(RECIPE), Some("spool")), "{ticket}");
    assert_eq!(ticket["state"], "open", "{ticket}");
    assert_eq!(ticket["backlog"].as_u64(), Some(2), "{ticket}");
    assert!(ticket["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{ticket}");
}

fn records<'a>(audit: &'a [Value], kind: &str) -> Vec<&'a Value> {
    audit.iter().filter(|record| record["kind"] == kind && record["event_id"] == "GR-2").collect()
}

#[test]
fn a_human_who_says_that_they_did_not_arrive_gets_the_rows_again() {
    let (stage, number) = in_doubt();
    let number = number.to_string();
    assert!(stage.node.cli(["hitl", "list"]).ok().contains("spool"));
    assert!(stage.node.cli(["hitl", "show", &number]).ok().contains("grants.csv"), "the reason names the file");
    stage.node.cli(["hitl", "retry", &number]).ok();
    stage.run();
    stage.expect(&(row("GR-2") + &row("GR-3")));
    assert_eq!(records(&stage.node.audit(), "delivered").len(), 1);
    assert!(stage.node.open_tickets().is_empty());
}

#[test]
fn a_human_who_says_that_they_arrived_signs_for_them() {
    let (stage, number) = in_doubt();
    stage.node.answer_ticket(number, "resolve", None).problem(400);
    stage.node.cli(["hitl", "resolve", &number.to_string(), "--note", "read by the night job"]).ok();
    stage.run();
    stage.expect(&row("GR-3"));
    let audit = stage.node.audit();
    let delivered = records(&audit, "delivered");
    assert_eq!(delivered.len(), 1, "{audit:#?}");
    assert!(delivered[0]["receipt"].to_string().contains("operator"), "{}", delivered[0]);
    let ticket = stage.node.http().get(&format!("/v1/tickets/{number}")).expect(200).json();
    assert_eq!((ticket["state"].as_str(), ticket["note"].as_str()), (Some("resolved"), Some("read by the night job")));
}

#[test]
fn a_human_who_skips_makes_dead_letters_that_may_have_arrived() {
    let (stage, number) = in_doubt();
    stage.node.cli(["hitl", "skip", &number.to_string()]).ok();
    stage.run();
    stage.expect(&row("GR-3"));
    let audit = stage.node.audit();
    assert_eq!(records(&audit, "delivered").len(), 0, "{audit:#?}");
    let dead = records(&audit, "dead_lettered");
    assert_eq!(dead.len(), 1, "{audit:#?}");
    assert_eq!(dead[0]["may_have_arrived"], true, "{}", dead[0]);
}

#[test]
fn doubt_survives_a_restart_and_an_apply() {
    let (mut stage, number) = in_doubt();
    stage.node.restart();
    stage.node.apply(&stage.recipe("    line_end: crlf\n"));
    stage.run();
    assert_eq!(stage.text(), "", "nothing is written in doubt");
    assert_eq!(stage.node.open_tickets()[0]["number"].as_u64(), Some(number));
    stage.node.answer_ticket(number, "retry", None).expect(200);
    stage.run();
    stage.expect("GR-2,1250.10\r\nGR-3,1250.10\r\n");
}

#[test]
fn a_run_that_could_not_try_because_of_doubt_says_so() {
    let (stage, _) = in_doubt();
    let printed = stage.run().failed_with(1);
    assert!(printed.contains("spool") && printed.contains("ticket"), "{printed}");
}

#[test]
fn a_ticket_is_answered_once() {
    let (stage, number) = in_doubt();
    stage.node.answer_ticket(number, "dance", None).problem(400);
    stage.node.answer_ticket(number, "skip", None).expect(200);
    stage.node.answer_ticket(number, "retry", None).problem(409);
    stage.node.answer_ticket(999, "retry", None).problem(404);
}

#[test]
fn a_recipe_that_prefers_twice_to_never_writes_again_without_a_human() {
    let stage = killed_in_a_write("    on_doubt: resend\n");
    stage.run();
    stage.expect(&row("GR-2"));
}
