//! The seed's walk-through, end to end, on real parts.

use chaos_tests::judge::Guarantee;
use chaos_tests::metrics::Scrape;
use chaos_tests::partners::https::Received;
use chaos_tests::wait;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bridge::{Bridge, FEED, GIS_KEY, RECIPE, grant, recipe, row};

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn today() -> String {
    chrono::Utc::now().format("%Y%m%d").to_string()
}

#[test]
fn the_seeds_recipe_delivers_to_both_partners_with_proof_and_survives_a_kill() {
    let mut bridge = Bridge::new(chaos_tests::node::Node::new());
    bridge.node.start();
    let printed = bridge.node.apply(&recipe());
    assert!(printed.contains("✓ Sync recipe vdot.bridge_grant.sync enabled  (next run in 00:01:00)\n"), "{printed}");

    let days = publish_from_the_command_line(&mut bridge);
    let printed = bridge.node.run(RECIPE);
    assert!(printed.contains("vdot_gis") && printed.contains("cobol_finance"), "{printed}");

    check_request(&bridge.gis.received());
    let files = bridge.finance.names("/inbox");
    assert!(days.iter().any(|day| files == [format!("grants_{day}.csv")]), "{files:?}");
    assert_eq!(bridge.csv(), "GR-42,Approved,125000,37.5,-78.4\n");
    check_promised_line(&bridge);
    check_metrics(&Scrape::parse(&bridge.node.http().get("/metrics").expect(200).text()));
    check_audit(&bridge.node.audit(), &files[0]);

    bridge.publish("GR-43");
    bridge.node.restart();
    bridge.publish("GR-44");
    bridge.node.run(RECIPE);
    assert_eq!(bridge.csv(), row("GR-42") + &row("GR-43") + &row("GR-44"));
    // This partner does not say that it honours the key; killed between its answer and the record of it,
    // the node sends again.
    bridge.judge(Guarantee::AtLeastOnce);
    bridge.node.terminate();
}

/// Publishes GR-42 as the seed does; gives the days on which it may have been delivered.
fn publish_from_the_command_line(bridge: &mut Bridge) -> [String; 2] {
    let data = "{\"grant_id\":\"GR-42\",\"status\":\"Approved\",\n  \"amount_usd\":125000,\"lat\":37.5,\"lon\":-78.4}";
    let before = today();
    bridge.node.cli(["ppe", "event", "publish", FEED, "--data", data, "--id", "GR-42"]).ok();
    bridge.promised.push(chaos_tests::judge::Acknowledged { id: "GR-42".into(), offset: 0, key: "GR-42".into() });
    // A minute from now may be tomorrow.
    [before, (chrono::Utc::now() + chrono::Duration::minutes(2)).format("%Y%m%d").to_string()]
}

fn check_request(received: &[Received]) {
    assert_eq!(received.len(), 1, "{received:#?}");
    let request = &received[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/bridge"));
    assert_eq!(request.text(), grant("GR-42"));
    for (name, value) in [
        ("host", "gis.vdot.gov"),
        ("content-type", "application/json"),
        ("x-api-key", GIS_KEY),
        ("idempotency-key", "vdot.bridge_grant.sync/vdot_gis/GR-42"),
        ("ce-id", "GR-42"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}: {request:#?}");
    }
    for name in ["ce-type", "ce-source", "ce-time", "traceparent"] {
        assert!(request.header(name).is_some_and(|value| !value.is_empty()), "{name}: {request:#?}");
    }
    assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("hms-sync/")), "{request:#?}");
}

fn check_promised_line(bridge: &Bridge) {
    let promised = |line: &String| line.contains("sync.success.vdot.bridge_grant 1");
    wait::until("the promised line", || bridge.node.log_lines().iter().any(promised).then_some(()));
    let lines = bridge.node.log_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("sync.success.")).count(), 1, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(GIS_KEY)), "a secret in the log");
}

fn check_metrics(scrape: &Scrape) {
    for target in ["vdot_gis", "cobol_finance"] {
        let labels = [("recipe", RECIPE), ("target", target)];
        assert_eq!(scrape.sum("sync_success_total", &labels), Some(1.0));
        assert_eq!(scrape.sum("sync_attempts_total", &labels), Some(1.0));
        assert_eq!(scrape.sum("sync_delivery_seconds_count", &labels), Some(1.0));
        assert_eq!(scrape.sum("sync_backlog_events", &labels), Some(0.0));
        assert_eq!(scrape.sum("sync_late_total", &labels).unwrap_or(0.0), 0.0);
        assert_eq!(scrape.sum("sync_fail_total", &labels).unwrap_or(0.0), 0.0);
    }
    assert_eq!(scrape.sum("sync_publish_seconds_count", &[]), Some(1.0));
    assert_eq!(scrape.kind("sync_delivery_seconds"), Some("histogram"));
    assert!(scrape.sum("process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 0.0));
}

fn check_audit(audit: &[Value], file: &str) {
    let applied = audit.iter().find(|record| record["kind"] == "recipe").expect("a record of the recipe");
    assert!(applied.to_string().contains("gis.vdot.gov/api/bridge"), "{applied}");

    let delivered = |target: &str| {
        let is_it = |record: &&Value| record["kind"] == "delivered" && record["target"] == target;
        let found: Vec<_> = audit.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{audit:#?}");
        let record = found[0];
        assert_eq!((record["recipe"].as_str(), record["feed"].as_str()), (Some(RECIPE), Some(FEED)));
        assert_eq!((record["event_id"].as_str(), record["offset"].as_u64()), (Some("GR-42"), Some(0)));
        assert_eq!(record["attempt"], 1);
        record.clone()
    };
    let gis = delivered("vdot_gis");
    assert_eq!(gis["payload_sha256"], sha256(grant("GR-42")));
    assert_eq!(gis["receipt"]["status"], 200);
    assert_eq!(gis["receipt"]["url"], "https://gis.vdot.gov/api/bridge");
    assert_eq!(gis["receipt"]["idempotency_key"], "vdot.bridge_grant.sync/vdot_gis/GR-42");
    assert_eq!(gis["receipt"]["response_sha256"], sha256(""));
    assert!(gis["receipt"]["duration_ms"].is_u64(), "{gis}");

    let cobol = delivered("cobol_finance");
    assert_eq!(cobol["payload_sha256"], sha256(row("GR-42")));
    assert_eq!(cobol["receipt"]["path"], format!("/inbox/{file}"));
    assert_eq!((cobol["receipt"]["file_offset"].as_u64(), cobol["receipt"]["length"].as_u64()), (Some(0), Some(33)));
}

#[test]
fn the_next_run_comes_by_itself() {
    let mut bridge = Bridge::new(chaos_tests::node::Node::new());
    bridge.node.start().apply(&recipe().replace("every 60s", "every 1s"));
    bridge.publish("GR-1");
    wait::until("the row", || (bridge.csv() == row("GR-1")).then_some(()));
    wait::until("the request", || (bridge.gis.received().len() == 1).then_some(()));
    let settled =
        |bridge: &Bridge| bridge.node.audit().iter().filter(|record| record["kind"] == "delivered").count() == 2;
    wait::until("both receipts", || settled(&bridge).then_some(()));
    bridge.judge(Guarantee::ExactlyOnce);
}
