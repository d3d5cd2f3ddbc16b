//! What a partner sees, byte for byte.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::testing::*;
use super::super::*;
use crate::recipe::model::{self, Batch, BatchFormat};

const GRANT: &str = r#"{"grant_id":"G-1","amount_usd":1250.10}"#;

fn api_key() -> model::Auth {
    model::Auth::ApiKey { header: "X-API-Key".into(), secret: Some("GIS_KEY".into()) }
}

fn batch(max_events: usize, format: BatchFormat, url: &str) -> RestTarget {
    RestTarget { batch: Batch { max_events, format }, ..target(url) }
}

fn plain_world() -> Arc<RestContext> {
    let safe = Arc::new(Safe::default());
    safe.put("GIS_KEY", "s3cret/+value");
    world(safe, &[], None)
}

#[tokio::test]
async fn a_single_event_is_sent_exactly_so() {
    let server = Server::answering(vec![answer(201, "", "thanks")]).await;
    let mut target = target(&server.url("/api/bridge"));
    target.auth = Some(api_key());
    target.headers = vec![("X-Source".into(), "hms".into())];
    let map = [("grant_id".to_owned(), "id".to_owned())];
    let partner = RestPartner::new(key(), Shape::new(&source(), &map), &target, plain_world()).unwrap();

    let sent = partner.send(&request(vec![event("e 1/é", GRANT)])).await.unwrap();

    let seen = server.seen().remove(0);
    assert_eq!(seen.line, "POST /api/bridge HTTP/1.1");
    assert_eq!(seen.body, r#"{"id":"G-1","amount_usd":1250.10}"#);
    let trace = seen.header("traceparent").unwrap().to_owned();
    let mut found: Vec<_> = seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    found.sort_unstable();
    let host = format!("127.0.0.1:{}", server.port);
    let agent = format!("hms-sync/{}", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("accept", "*/*"),
        ("ce-id", "e%201/%C3%A9"),
        ("ce-source", "/grants/%C3%A9"),
        ("ce-specversion", "1.0"),
        ("ce-time", "2026-11-05T08:00:00.250Z"),
        ("ce-type", "grant.updated"),
        ("content-length", "33"),
        ("content-type", "application/json"),
        ("host", &host),
        ("idempotency-key", "bridge.sync/gis/e%201%2F%C3%A9"),
        ("traceparent", &trace),
        ("user-agent", &agent),
        ("x-api-key", "s3cret/+value"),
        ("x-source", "hms"),
    ];
    assert_eq!(found, expected);

    assert_eq!(sent.payload_sha256, <[u8; 32]>::from(Sha256::digest(&seen.body)));
    let Receipt::Rest { status, url, idempotency_key, response_sha256, .. } = sent.receipt else { panic!() };
    assert_eq!((status, &*url), (201, &*server.url("/api/bridge")));
    assert_eq!(&*idempotency_key, "bridge.sync/gis/e%201%2F%C3%A9");
    assert_eq!(response_sha256, <[u8; 32]>::from(Sha256::digest("thanks")));
}

#[tokio::test]
async fn the_preview_is_what_is_sent_but_for_the_secret() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let mut target = target(&server.url("/{grant_id}?by={amount_usd}"));
    target.method = model::Method::Put;
    target.auth = Some(api_key());
    target.headers = vec![("Content-Type".into(), "application/vnd.grant+json".into())];
    let events = vec![event("e-1", GRANT)];

    let shown = preview(key(), Shape::new(&source(), &[]), &target, &events).unwrap();
    partner(&target, &plain_world()).send(&request(events)).await.unwrap();

    let seen = server.seen().remove(0);
    assert_eq!(seen.line, "PUT /G-1?by=1250.10 HTTP/1.1");
    assert_eq!((shown.method.as_str(), shown.url), ("PUT", server.url("/G-1?by=1250.10")));
    assert_eq!(String::from_utf8(shown.body).unwrap(), seen.body);
    let mut sent = seen.headers;
    let secret = sent.iter_mut().find(|(name, _)| name == "x-api-key").unwrap();
    assert_eq!(std::mem::replace(&mut secret.1, "<secret GIS_KEY>".into()), "s3cret/+value");
    assert_eq!(shown.headers, sent);
}

#[tokio::test]
async fn batches_have_four_forms() {
    let server = Server::answering(vec![answer(202, "", "")]).await;
    let events = || vec![at(3, r#"{"a":1.0}"#), at(5, r#"{"a":"x"}"#)];
    let expected = [
        (BatchFormat::JsonArray, "application/json", r#"[{"a":1.0},{"a":"x"}]"#.to_owned()),
        (BatchFormat::Ndjson, "application/x-ndjson", "{\"a\":1.0}\n{\"a\":\"x\"}\n".to_owned()),
        (BatchFormat::CloudEventsBatch, "application/cloudevents-batch+json", {
            let envelope = |id, data| {
                format!(
                    r#"{{"specversion":"1.0","id":"{id}","source":"/grants/é","type":"grant.updated","time":"2026-11-05T08:00:00.250Z","datacontenttype":"application/json","data":{data}}}"#
                )
            };
            format!("[{},{}]", envelope("e-3", r#"{"a":1.0}"#), envelope("e-5", r#"{"a":"x"}"#))
        }),
    ];
    for (place, (format, content_type, body)) in expected.into_iter().enumerate() {
        let partner = partner(&batch(100, format, &server.url("/b")), &plain_world());
        partner.send(&request(events())).await.unwrap();
        let seen = server.seen().remove(place);
        assert_eq!(seen.body, body);
        assert_eq!(seen.header("content-type"), Some(content_type));
        assert_eq!(seen.header("idempotency-key"), Some("bridge.sync/gis/3-5"));
        assert!(!seen.headers.iter().any(|(name, _)| name.starts_with("ce-")));
        assert!(seen.header("traceparent").is_some());
    }
}

#[tokio::test]
async fn a_retry_is_the_same_request_again_also_by_a_new_partner() {
    let server = Server::answering(vec![answer(500, "", ""), answer(500, "", ""), answer(200, "", "")]).await;
    let target = batch(10, BatchFormat::Ndjson, &server.url("/"));
    let events = || request(vec![at(1, r#"{"a":1}"#), at(4, r#"{"a":2}"#)]);
    let first = partner(&target, &plain_world());
    assert!(first.send(&events()).await.is_err());
    assert!(first.send(&events()).await.is_err());
    partner(&target, &plain_world()).send(&events()).await.unwrap();
    let seen = server.seen();
    for again in &seen[1..] {
        assert_eq!((&again.line, &again.headers, &again.body), (&seen[0].line, &seen[0].headers, &seen[0].body));
    }
}

#[test]
fn a_batch_of_one_is_named_as_a_batch() {
    let of = |max_events| {
        let target = batch(max_events, BatchFormat::JsonArray, "http://h/");
        let shown = preview(key(), Shape::new(&source(), &[]), &target, &[at(3, "{}")]).unwrap();
        let header = |name: &str| shown.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        (header("idempotency-key").unwrap(), header("ce-id").is_some())
    };
    assert_eq!(of(50), ("bridge.sync/gis/3-3".to_owned(), false));
    assert_eq!(of(1), ("bridge.sync/gis/e-3".to_owned(), true));
}

#[test]
fn events_of_one_request_share_its_url() {
    let target = batch(10, BatchFormat::JsonArray, "http://h/{a}");
    let show = |a, b| preview(key(), Shape::new(&source(), &[]), &target, &[at(1, a), at(2, b)]);
    assert!(show(r#"{"a":1}"#, r#"{"a":1}"#).is_ok());
    assert_eq!(
        show(r#"{"a":1}"#, r#"{"a":2}"#).unwrap_err(),
        Failure::refused("events `e-1` and `e-2` of one batch have different urls")
    );
}

#[test]
fn headers_that_cannot_be_sent_or_are_ours_are_refused() {
    let wrong =
        [("Host", "x"), ("content-length", "1"), ("CE-Id", "x"), ("a b", "x"), ("a", "x\r\ny: z"), ("X-API-Key", "x")];
    for (name, value) in wrong {
        let mut target = target("http://h/");
        target.auth = Some(api_key());
        target.headers = vec![(name.into(), value.into())];
        let failure = preview(key(), Shape::new(&source(), &[]), &target, &[at(1, "{}")]).unwrap_err();
        assert_eq!(failure.kind, hms_actors::failure::FailureKind::Configuration, "{name}: {value}");
    }
}
