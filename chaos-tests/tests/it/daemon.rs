//! The program as a daemon and as a command: exits, signals, addresses, metrics.

use std::time::Duration;

use chaos_tests::metrics::Scrape;
use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::{process, wait};

use super::drop_box::{DropBox, FEED, RECIPE, row};

#[test]
fn a_node_that_is_asked_to_end_lets_the_call_in_flight_end_first() {
    let partner = HttpPartner::plain();
    partner.answer(Answer::After(Duration::from_millis(1500), 200));
    let mut node = Node::new();
    node.start().apply(&format!(
        "id: slow.sync\nsource:\n  feed: f\ntargets:\n  - name: slow\n    adapter: rest\n    url: {}\nschedule: on_change\n",
        partner.url("/slow")
    ));
    node.publish("f", "e0", "{}");
    wait::until("the request", || (partner.received().len() == 1).then_some(()));
    node.terminate();
    node.start();
    node.run("slow.sync");
    assert_eq!(partner.received().len(), 1, "it was drained, and is not sent again");
}

#[test]
fn an_invalid_recipe_is_exit_code_2_with_every_error_in_its_place() {
    let mut node = Node::new();
    node.start();
    let refused = node
        .try_apply("id: bad.sync\nsource:\n  feeed: x\ntargets:\n  - name: T\n    adapter: ftp\nschedule: every 60s\n");
    let refused = refused.failed_with(2);
    for word in ["recipe.yaml:3:", "feeed", "feed", "recipe.yaml:6:", "ftp", "sftp"] {
        assert!(refused.contains(word), "no `{word}` in:\n{refused}");
    }
    assert_eq!(node.http().get("/v1/recipes").expect(200).json()["recipes"].as_array().map(Vec::len), Some(0));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let node = Node::new();
    node.cli(["sync", "dance"]).failed_with(2);
    node.cli(["sync", "apply", "no-such-file.yaml"]).failed_with(2);
}

#[test]
fn a_node_that_is_not_there_is_exit_code_3() {
    let node = Node::new();
    for args in [&["sync", "list"][..], &["sync", "run", "x.sync"], &["hitl", "list"], &["audit", "list"]] {
        let told = node.cli(args.iter().copied()).failed_with(3);
        assert!(told.contains(node.http().base()), "{told}");
    }
    node.cli(["ppe", "event", "publish", "f", "--data", "{}"]).failed_with(3);
}

#[test]
fn what_the_node_refuses_is_exit_code_1() {
    let mut node = Node::new();
    node.start();
    let told = node.cli(["ppe", "event", "publish", "../x", "--data", "{}"]);
    assert!(matches!(told.code, Some(1 | 2)), "{told:?}");
    node.cli(["sync", "run", "nobody.sync"]).failed_with(1);
    node.cli(["ppe", "event", "publish", "f", "--data", "[1]"]).failed_with(1);
}

#[test]
fn no_token_is_refused_on_any_address_but_loopback() {
    let node = Node::new();
    let mut serve = node.serve();
    let told = process::run(serve.args(["--listen", "0.0.0.0:0"]), b"");
    assert!(told.code.is_some_and(|code| code != 0), "{told:?}");
    assert!(told.stderr.contains("loopback"), "{told:?}");
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_the_nearest_known_one() {
    let mut node = Node::new();
    node.settings("secrets_dri: /tmp\n");
    let told = process::run(&mut node.serve(), b"");
    assert!(told.code.is_some_and(|code| code != 0), "{told:?}");
    assert!(told.stderr.contains("secrets_dri") && told.stderr.contains("secrets_dir"), "{told:?}");
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let mut node = Node::new();
    node.start();
    let mut serve = node.serve();
    let told = process::run(serve.args(["--listen", "127.0.0.1:0"]), b"");
    assert!(told.code.is_some_and(|code| code != 0), "{told:?}");
    assert!(node.is_running());
}

#[test]
fn the_probes_and_the_description_are_there() {
    let mut node = Node::new();
    node.start();
    node.http().get("/healthz").expect(200);
    let openapi = node.http().get("/openapi.json").expect(200).json();
    for path in ["/v1/feeds/{feed}/events", "/v1/recipes/{id}", "/v1/audit", "/v1/tickets", "/metrics"] {
        assert!(openapi["paths"][path].is_object(), "no {path}");
    }
    node.http().get("/v1/nothing").problem(404);
    node.http().send("PATCH", "/v1/feeds", &[], Vec::new()).expect("an answer").problem(405);
}

#[test]
fn the_metrics_count_successes_failures_and_the_backlog() {
    let mut stage = DropBox::running();
    stage.publish("GR-1");
    stage.run().ok();
    let folder = stage.node.path("spool");
    std::fs::rename(&folder, stage.node.path("away")).expect("the folder is there");
    stage.publish("GR-2");
    stage.run().failed_with(1);

    let scrape = Scrape::parse(&stage.node.http().get("/metrics").expect(200).text());
    let labels = [("recipe", RECIPE), ("target", "spool")];
    assert_eq!(scrape.sum("sync_success_total", &labels), Some(1.0));
    assert_eq!(scrape.sum("sync_backlog_events", &labels), Some(1.0));
    assert!(scrape.sum("sync_fail_total", &labels).is_some_and(|fails| fails >= 1.0));
    assert!(scrape.sum("sync_attempts_total", &labels).is_some_and(|attempts| attempts >= 2.0));
    assert_eq!(scrape.sum("sync_publish_seconds_count", &[]), Some(2.0));
    for (name, kind) in [
        ("sync_success_total", "counter"),
        ("sync_fail_total", "counter"),
        ("sync_attempts_total", "counter"),
        ("sync_late_total", "counter"),
        ("sync_delivery_seconds", "histogram"),
        ("sync_backlog_events", "gauge"),
        ("sync_publish_seconds", "histogram"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
    ] {
        assert_eq!(scrape.kind(name), Some(kind), "{name}");
    }

    std::fs::rename(stage.node.path("away"), folder).expect("the folder is there");
    stage.run().ok();
    stage.expect(&(row("GR-1") + &row("GR-2")));
    let failed = |line: &String| line.contains("sync.fail.drop 1");
    wait::until("the line of the failed run", || stage.node.log_lines().iter().any(failed).then_some(()));
}

#[test]
fn a_run_that_did_nothing_prints_no_line() {
    let stage = DropBox::running();
    stage.run().ok();
    stage.run().ok();
    let lines = stage.node.log_lines();
    assert!(!lines.iter().any(|line| line.contains("sync.success.") || line.contains("sync.fail.")), "{lines:#?}");
}

#[test]
fn events_are_published_from_a_file_and_from_a_pipe() {
    let stage = DropBox::running();
    let event = |id: &str| {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/t\",\"type\":\"t\",\"data\":{{\"id\":\"{id}\",\"amount\":1250.10}}}}\n"
        )
    };
    let file = stage.node.file("events.ndjson", &(event("GR-1") + &event("GR-2"))).display().to_string();
    stage.node.cli(["ppe", "event", "publish", FEED, "--file", &file]).ok();
    stage.node.cli_with_input(["ppe", "event", "publish", FEED, "--file", "-"], event("GR-3").as_bytes()).ok();
    stage.run().ok();
    assert_eq!(stage.text(), ["GR-1", "GR-2", "GR-3"].map(row).concat());
}
