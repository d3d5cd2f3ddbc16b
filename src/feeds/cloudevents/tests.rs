//! What is read from each content type. The refusals are shown over the real server, in `admin`.

mod agree;

use bytes::Bytes;

use super::*;
use crate::feeds::NewEvent;

fn feed() -> FeedName {
    FeedName::parse("grants.updated").unwrap()
}

fn headers(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

fn read_with(list: &[(&str, &str)], body: &str) -> Result<Vec<NewEvent>, EnvelopeError> {
    read(&feed(), &headers(list), body.as_bytes()).map(|batch| batch.to_events())
}

fn one(list: &[(&str, &str)], body: &str) -> NewEvent {
    let mut events = read_with(list, body).unwrap();
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn message(list: &[(&str, &str)], body: &str) -> String {
    read_with(list, body).unwrap_err().to_string()
}

const BINARY: [(&str, &str); 5] = [
    ("content-type", "application/json"),
    ("ce-specversion", "1.0"),
    ("ce-id", "e-1"),
    ("ce-source", "/vdot"),
    ("ce-type", "grant.updated"),
];

#[test]
fn a_structured_event_keeps_its_attributes_and_its_digits() {
    let body = r#"{ "specversion": "1.0", "id": "e-1", "source": "/vdot", "type": "grant.updated",
        "subject": "B-17", "time": "2026-11-23T10:00:00.5+01:00", "datacontenttype": "application/json",
        "dataschema": "https://x.test/s", "traceparent": "00-ab", "tries": 3, "urgent": true, "unset": null,
        "data": { "amount": 1250.10, "n": 12345678901234567890 } }"#;
    let event = one(&[("content-type", "Application/CloudEvents+JSON; charset=UTF-8")], body);
    let expected = NewEvent {
        id: "e-1".to_owned(),
        source: "/vdot".to_owned(),
        kind: "grant.updated".to_owned(),
        subject: Some("B-17".to_owned()),
        time: Some("2026-11-23T10:00:00.5+01:00".to_owned()),
        extensions: [("dataschema", "https://x.test/s"), ("traceparent", "00-ab"), ("tries", "3"), ("urgent", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        data: Bytes::from_static(br#"{"amount":1250.10,"n":12345678901234567890}"#),
    };
    assert_eq!(event, expected);
}

#[test]
fn binary_mode_gives_the_same_event_as_structured_mode() {
    let body =
        r#"{"specversion":"1.0","id":"ä \"1\"%","source":"/vdot","type":"t","subject":"a b","x":"7","data":{"a":1}}"#;
    let binary = one(
        &[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "%C3%A4%20%221%22%25"),
            ("ce-source", "/vdot"),
            ("ce-type", "\"t\""),
            ("ce-subject", "\"a\\ b\""),
            ("ce-x", "7"),
        ],
        " { \"a\" : 1 } ",
    );
    assert_eq!(binary, one(&[("content-type", "application/cloudevents+json")], body));
}

#[test]
fn a_plain_body_is_the_data_and_may_give_its_id() {
    let event = one(&[("content-type", "application/json"), ("ce-id", "mine")], "{\"a\": 1.0}");
    assert_eq!((event.id.as_str(), event.source.as_str(), event.kind.as_str()), ("mine", PLAIN, "grants.updated"));
    assert_eq!(event.data, "{\"a\":1.0}");

    let first = one(&[("content-type", "application/json")], "{}");
    let second = one(&[("content-type", "application/json")], "{}");
    assert_ne!(first.id, second.id);
    assert_eq!(uuid::Uuid::parse_str(&first.id).unwrap().get_version_num(), 7);
}

const PLAIN: &str = "/hms-sync/publish";

#[test]
fn a_batch_and_lines_hold_many_events_in_order() {
    let event = |n: usize| {
        format!("{{\"specversion\":\"1.0\",\"id\":\"e-{n}\",\"source\":\"s\",\"type\":\"t\",\"data\":{{\"n\":{n}}}}}")
    };
    let ids = |content_type: &str, body: String| -> Vec<String> {
        let events = read_with(&[("content-type", content_type)], &body).unwrap();
        events.into_iter().map(|event| event.id).collect()
    };
    let list = format!("[{} ,\n {}]", event(1), event(2));
    assert_eq!(ids("application/cloudevents-batch+json", list), ["e-1", "e-2"]);
    assert_eq!(ids("application/cloudevents-batch+json", "[]".to_owned()), [] as [&str; 0]);
    let lines = format!("{}\r\n\n{}", event(1), event(2));
    assert_eq!(ids("application/x-ndjson", lines), ["e-1", "e-2"]);
}

#[test]
fn an_error_says_which_event_which_line_and_which_byte() {
    let good = r#"{"specversion":"1.0","id":"e","source":"s","type":"t","data":{}}"#;
    let bad = r#"{"specversion":"1.0","source":"s","type":"t","data":{}}"#;
    let batch = [("content-type", "application/cloudevents-batch+json")];
    assert_eq!(message(&batch, &format!("[{good},{bad}]")), "event 2: attribute `id` is missing");
    assert_eq!(
        message(&batch, &format!("[{good},\n  oops]")),
        "line 2, column 3, byte 69: expected a JSON value, found `o`"
    );
    let lines = [("content-type", "application/x-ndjson")];
    assert_eq!(message(&lines, &format!("{good}\n{bad}")), "line 2: attribute `id` is missing");
    assert_eq!(
        message(&lines, &format!("{good}\n\n{{\"é\":x}}")),
        "line 3, column 6, byte 72: expected a JSON value, found `x`"
    );
}

#[test]
fn data_has_sixty_four_levels_in_every_content_type() {
    let data = |levels: usize| format!("{}{{}}{}", "{\"a\":".repeat(levels - 1), "}".repeat(levels - 1));
    let structured = |levels: usize| {
        format!("{{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"s\",\"type\":\"t\",\"data\":{}}}", data(levels))
    };
    for (content_type, body) in [
        ("application/json", &data as &dyn Fn(usize) -> String),
        ("application/cloudevents+json", &structured),
        ("application/cloudevents-batch+json", &|levels| format!("[{}]", structured(levels))),
        ("application/x-ndjson", &structured),
    ] {
        let headers = [("content-type", content_type)];
        assert_eq!(one(&headers, &body(64)).data, data(64));
        assert!(message(&headers, &body(65)).contains("at most 64 levels"), "{content_type}");
    }
}

#[test]
fn header_attributes_follow_the_same_rules() {
    let with = |name: &'static str, value: &'static str| {
        let mut list = BINARY.to_vec();
        list.retain(|(given, _)| *given != name);
        list.push((name, value));
        message(&list, "{}")
    };
    assert_eq!(with("ce-id", "a%0Ab"), "`id` holds the control character U+000A");
    assert_eq!(with("ce-subject", "%FF"), "header `ce-subject` is not valid UTF-8: percent-encode UTF-8 bytes");
    assert!(with("ce-my_name", "x").starts_with("attribute name `my_name` must be of a-z and 0-9"));
    assert!(with("ce-datacontenttype", "application/json").contains("`Content-Type` is its type"));
    let twice = [BINARY.as_slice(), &[("ce-id", "e-2")]].concat();
    assert_eq!(message(&twice, "{}"), "header `ce-id` is there twice: give it once");
    let no_version = &[("content-type", "application/json"), ("ce-type", "t")];
    assert_eq!(message(no_version, "{}"), "header `ce-specversion` is missing: send `1.0`");
}
