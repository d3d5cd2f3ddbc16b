//! Circuits over restarts, and an operator's word on them.

use chaos_tests::partners::https::Answer;
use chaos_tests::process::Signal;

use super::one_target::{OneTarget, QUICK, RECIPE, SHUT, TARGET};

#[test]
fn an_open_circuit_and_its_times_survive_a_kill() {
    let mut stage = OneTarget::running(SHUT);
    stage.partner.answer(Answer::Status(503));
    stage.publish(0..3);
    let before = stage.until("state", "open");
    let requests = stage.partner.count();
    stage.node.restart();
    let after = stage.until("activity", "circuit_open");
    for field in ["state", "since", "next_probe_at", "opened_total", "consecutive_failures", "backlog"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(stage.partner.count(), requests, "nothing goes before its time");
    stage.partner.answer(Answer::Status(200));
    stage.node.cli(["circuit", "probe", RECIPE, TARGET]).ok();
    stage.until("checkpoint", 3);
    assert_eq!(stage.target()["state"], "closed");
    assert!(stage.node.open_tickets().is_empty());
}

#[test]
fn probes_never_end_and_a_delivered_one_closes_the_circuit() {
    let stage = OneTarget::running(QUICK);
    stage.partner.answer(Answer::Status(500));
    stage.publish(0..3);
    chaos_tests::wait::until("many probes", || (stage.partner.count() >= 20).then_some(()));
    stage.partner.answer(Answer::Status(200));
    stage.until("checkpoint", 3);
    let target = stage.until("state", "closed");
    assert_eq!((target["opened_total"].as_u64(), target["consecutive_failures"].as_u64()), (Some(1), Some(0)));
    let states: Vec<_> = stage.records("circuit").iter().map(|record| record["state"].clone()).collect();
    assert_eq!((states[0].as_str(), states[states.len() - 1].as_str()), (Some("open"), Some("closed")), "{states:?}");
    assert_eq!(stage.effects(), ["e0", "e1", "e2"]);
}

#[test]
fn nothing_goes_through_a_circuit_that_is_forced_open_until_an_operator_closes_it() {
    let mut stage = OneTarget::running("");
    stage.node.cli(["circuit", "open", RECIPE, TARGET, "--note", "maintenance until 6"]).ok();
    stage.publish(0..3);
    let printed = stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    assert!(printed.contains("forced open"), "{printed}");
    stage.node.restart();
    assert_eq!(stage.until("backlog", 3)["state"], "forced_open");
    stage.node.cli(["circuit", "probe", RECIPE, TARGET]).failed_with(1);
    stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    assert_eq!(stage.partner.count(), 0);
    stage.node.cli(["circuit", "close", RECIPE, TARGET]).ok();
    stage.until("checkpoint", 3);
    let told = stage.records("circuit");
    assert!(told[0]["reason"].as_str().is_some_and(|reason| reason.contains("maintenance until 6")), "{told:#?}");
    assert!(told[0]["by"].is_string() && told[1]["by"].is_string(), "{told:#?}");
}

#[test]
fn a_secret_that_was_mended_is_tried_at_once_on_sighup() {
    let mut node = chaos_tests::node::Node::new();
    let secrets = format!("secrets_dir: {}\n", node.path("secrets").display());
    node.settings(&secrets);
    let stage = OneTarget::of(node, &format!("    auth: api_key\n{SHUT}"));
    stage.publish(0..2);
    let ticket = stage.ticket("configuration");
    assert_eq!(stage.target()["state"], "open");
    assert_eq!(stage.partner.count(), 0);
    stage.node.file("secrets/API_KEY", "k-1");
    stage.node.signal(Signal::HUP);
    stage.until("checkpoint", 2);
    assert!(stage.closed(ticket).contains("after"));
}
