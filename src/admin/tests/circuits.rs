//! Circuits: one view for the list and the target, and orders.

use super::*;

const TARGET: &str = "/v1/recipes/grants.sync/targets/vdot_gis";

fn order(body: &str) -> Request {
    Request::new("POST", format!("{TARGET}/circuit")).body("application/json", body)
}

#[actix_web::test]
async fn a_circuit_has_exactly_the_promised_fields_in_the_list_and_alone() {
    let (server, _) = start();
    let circuits = send(&server, Request::get("/v1/circuits")).await.json();
    let target = send(&server, Request::get(TARGET)).await.json();
    assert_eq!(circuits["circuits"][0], target);
    let mut fields: Vec<&str> = target.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "activity",
        "adapter",
        "backlog",
        "checkpoint",
        "consecutive_failures",
        "guarantee",
        "held_by_ticket",
        "in_flight",
        "last_error",
        "mailbox",
        "next_attempt_at",
        "next_probe_at",
        "oldest_waiting_at",
        "opened_total",
        "rate_limit",
        "recipe",
        "restarts",
        "since",
        "state",
        "target",
    ];
    fields.sort_unstable();
    assert_eq!(fields, promised);
    assert_eq!(target["mailbox"], serde_json::json!({"depth": 0, "capacity": 16}));
    assert_eq!(target["rate_limit"], serde_json::json!({"rate": 2.5, "burst": 10, "available": 9}));
    assert_eq!(target["next_probe_at"], "1970-01-01T00:00:30.000Z");
}

#[actix_web::test]
async fn the_list_is_filtered_by_state_and_recipe() {
    let (server, _) = start();
    for (query, targets) in [
        ("", &["vdot_gis", "drop"][..]),
        ("?state=open", &["vdot_gis"]),
        ("?state=closed", &["drop"]),
        ("?state=forced_open", &[]),
        ("?recipe=other.sync", &["drop"]),
        ("?recipe=other.sync&state=open", &[]),
    ] {
        let list = send(&server, Request::get(format!("/v1/circuits{query}"))).await.json();
        let found: Vec<&str> =
            list["circuits"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
        assert_eq!(found, targets, "{query}");
    }
}

#[actix_web::test]
async fn an_order_is_answered_with_the_target_as_it_is_then() {
    let (server, fake) = start();
    let opened = send(&server, order(r#"{"action":"open","note":"their maintenance"}"#)).await;
    assert_eq!((opened.status, &opened.json()["state"]), (200, &"forced_open".into()));
    assert_eq!(send(&server, order(r#"{"action":"probe"}"#)).await.json()["state"], "half_open");
    let notes: Vec<_> = fake.orders.lock().unwrap().iter().map(|order| order.note.clone()).collect();
    assert_eq!(notes, [Some("their maintenance".to_owned()), None]);
    let refused = problem(&send(&server, order(r#"{"action":"close"}"#)).await, 409);
    assert!(refused["detail"].as_str().unwrap().contains("ticket 1"), "{refused}");
    let other = Request::new("POST", "/v1/recipes/grants.sync/targets/none/circuit");
    problem(&send(&server, other.body("application/json", r#"{"action":"open"}"#)).await, 404);
}

#[actix_web::test]
async fn a_bad_order_is_refused_in_words() {
    let (server, fake) = start();
    for (body, words) in [
        (r#"{"action":"shut"}"#, "unknown variant `shut`, expected one of `open`, `close`, `probe`"),
        (r#"{"action":"open","until":1}"#, "unknown field `until`"),
        ("{}", "missing field `action`"),
        ("", "EOF"),
    ] {
        let refused = problem(&send(&server, order(body)).await, 400);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    problem(&send(&server, Request::new("POST", format!("{TARGET}/circuit"))).await, 415);
    assert!(fake.orders.lock().unwrap().is_empty());
}
