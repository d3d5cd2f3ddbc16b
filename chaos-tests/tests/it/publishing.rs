//! Publishing: every content type, whole or not at all, and what hostile clients send.

use chaos_tests::http::{Answer, raw};
use serde_json::{Value, json};

use super::drop_box::{DropBox, FEED, data, row};

fn publish(stage: &DropBox, kind: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let mut all = vec![("content-type", kind)];
    all.extend(headers);
    stage.node.http().post(&format!("/v1/feeds/{FEED}/events"), &all, body)
}

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/grants", "type": "grant.updated",
        "data": serde_json::from_str::<Value>(&data(id)).expect("JSON"),
    })
}

fn head(stage: &DropBox) -> u64 {
    let feeds = stage.node.http().get(&format!("/v1/feeds/{FEED}"));
    if feeds.status == 404 { 0 } else { feeds.json()["head"].as_u64().expect("a head") }
}

#[test]
fn events_come_in_every_content_type() {
    let stage = DropBox::running();
    let batch = json!([event("e1"), event("e2")]).to_string();
    let lines = format!("{}\n{}\n", event("e3"), event("e4"));
    let attributes =
        [("ce-specversion", "1.0"), ("ce-id", "e5"), ("ce-source", "/grants"), ("ce-type", "grant.updated")];
    let answers = [
        publish(&stage, "application/cloudevents+json", &[], event("e0").to_string()),
        publish(&stage, "application/cloudevents-batch+json", &[], batch),
        publish(&stage, "application/x-ndjson", &[], lines),
        publish(&stage, "application/json", &attributes, data("e5")),
        publish(&stage, "application/json", &[("ce-id", "e6")], data("e6")),
        publish(&stage, "application/cloudevents+json; charset=utf-8", &[], event("e7").to_string()),
    ];
    let mut offset = 0;
    for answer in answers {
        let answer = answer.expect(202).json();
        let events = answer["events"].as_array().expect("events");
        assert_eq!((answer["accepted"].as_u64(), answer["duplicates"].as_u64()), (Some(events.len() as u64), Some(0)));
        for event in events {
            assert_eq!((event["id"].clone(), event["offset"].clone()), (json!(format!("e{offset}")), json!(offset)));
            offset += 1;
        }
    }
    assert_eq!(head(&stage), 8);
}

#[test]
fn a_plain_body_without_an_id_is_a_new_event_each_time() {
    let stage = DropBox::running();
    let ids: Vec<_> = (0..2)
        .map(|_| publish(&stage, "application/json", &[], data("GR-1")).expect(202).json()["events"][0]["id"].clone())
        .collect();
    assert_ne!(ids[0], ids[1]);
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1") + &row("GR-1"));
}

#[test]
fn a_request_is_accepted_whole_or_not_at_all() {
    let stage = DropBox::running();
    publish(&stage, "application/json", &[("ce-id", "e0")], data("e0")).expect(202);
    let broken = format!("{}\n{{\n", event("e1"));
    publish(&stage, "application/x-ndjson", &[], broken).problem(400);
    // The second contradicts what was accepted; so the first isn't accepted either.
    let contradiction = json!([event("e2"), event("e0")]).to_string();
    publish(&stage, "application/cloudevents-batch+json", &[], contradiction).problem(409);
    assert_eq!(head(&stage), 1);
}

#[test]
fn a_duplicate_within_a_request_is_one_event() {
    let stage = DropBox::running();
    let batch = json!([event("e0"), event("e0")]).to_string();
    let answer = publish(&stage, "application/cloudevents-batch+json", &[], batch).expect(202).json();
    assert_eq!((answer["accepted"].as_u64(), answer["duplicates"].as_u64()), (Some(1), Some(1)), "{answer}");
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_node_unharmed() {
    let mut stage = DropBox::running();
    let address = stage.node.port().address();
    let length: u64 = 100 << 20;
    let head = |framing: &str| {
        format!(
            "POST /v1/feeds/{FEED}/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
        )
    };
    let answer = raw(address, head(&format!("content-length: {length}")).as_bytes(), length);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // The same without saying so before: one chunk of 100 MiB.
    let chunked = head("transfer-encoding: chunked") + &format!("{length:x}\r\n");
    let answer = raw(address, chunked.as_bytes(), length);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    stage.publish("GR-1");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}

#[test]
fn deep_json_is_refused_and_the_node_unharmed() {
    let mut stage = DropBox::running();
    for deep in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(200_000),
        format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        publish(&stage, "application/json", &[], deep.clone()).problem(400);
        publish(&stage, "application/cloudevents+json", &[], format!("{{\"data\":{deep}")).problem(400);
    }
    stage.publish("GR-1");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}

#[test]
fn a_feed_name_that_climbs_out_is_refused() {
    let stage = DropBox::running();
    let headers = [("content-type", "application/json")];
    for feed in ["..%2fx", "%2e%2e%2Fx", "a%2fb", ".hidden", "UPPER", "a%00b", "a%20b", &"x".repeat(129)] {
        let answer = stage.node.http().post(&format!("/v1/feeds/{feed}/events"), &headers, "{}");
        assert!(matches!(answer.status, 400 | 404), "{feed}: {}", answer.status);
        answer.problem(answer.status);
    }
    let address = stage.node.port().address();
    let request = format!("POST /v1/feeds/../x/events HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    let answer = raw(address, request.as_bytes(), 0);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let names: Vec<_> = std::fs::read_dir(stage.node.path(".")).expect("the home is there").flatten().collect();
    assert!(!names.iter().any(|entry| entry.file_name() == "x"), "{names:?}");
}

#[test]
fn many_publishers_at_once_get_offsets_without_a_gap() {
    let stage = DropBox::running();
    let node = &stage.node;
    let mut offsets: Vec<u64> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..8)
            .map(|publisher| {
                scope.spawn(move || {
                    let publish = |number| {
                        let id = format!("p{publisher}-{number}");
                        node.publish(FEED, &id, &data(&id))
                    };
                    (0..50).map(publish).collect::<Vec<_>>()
                })
            })
            .collect();
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("no publisher panics")).collect()
    });
    offsets.sort_unstable();
    assert_eq!(offsets, (0..400).collect::<Vec<_>>());
    stage.run().ok();
    assert_eq!(stage.text().lines().count(), 400);
}
