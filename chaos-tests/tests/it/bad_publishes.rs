//! Forty publishes that must be refused, each in words that help; the words are kept in a snapshot.

use chaos_tests::http::Answer;

use super::drop_box::{DropBox, FEED, row};

const PLAIN: &str = "application/json";
const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

struct Case {
    name: &'static str,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn case(name: &'static str, kind: &'static str, body: impl Into<Vec<u8>>) -> Case {
    Case { name, kind, headers: Vec::new(), body: body.into() }
}

fn with(name: &'static str, header: &'static str, value: impl Into<String>) -> Case {
    Case { headers: vec![(header, value.into())], ..case(name, PLAIN, r#"{"a":1}"#) }
}

/// A binary-mode event that lacks one attribute or has a wrong one.
fn binary(name: &'static str, change: (&'static str, Option<&str>)) -> Case {
    let all = [("ce-specversion", "1.0"), ("ce-id", "e"), ("ce-source", "/s"), ("ce-type", "t")];
    let mut headers: Vec<_> =
        all.iter().filter(|(key, _)| *key != change.0).map(|(key, value)| (*key, (*value).to_owned())).collect();
    headers.extend(change.1.map(|value| (change.0, value.to_owned())));
    Case { headers, ..case(name, PLAIN, r#"{"a":1}"#) }
}

/// A structured event with these members.
fn event(name: &'static str, members: &str) -> Case {
    case(name, EVENT, format!("{{{members}}}"))
}

fn plain_bodies() -> Vec<Case> {
    vec![
        case("an empty body", PLAIN, ""),
        case("white space", PLAIN, "  \n"),
        case("no JSON", PLAIN, "grant"),
        case("half an object", PLAIN, r#"{"a":1"#),
        case("something after the object", PLAIN, r#"{"a":1} {"b":2}"#),
        case("an array", PLAIN, "[1]"),
        case("a string", PLAIN, r#""grant""#),
        case("a number", PLAIN, "42"),
        case("null", PLAIN, "null"),
        case("a trailing comma", PLAIN, r#"{"a":1,}"#),
        case("single quotes", PLAIN, "{'a':1}"),
        case("a comment", PLAIN, "{/* */}"),
        case("a key twice", PLAIN, r#"{"a":1,"a":2}"#),
        case("bad UTF-8", PLAIN, &b"{\"a\":\"\xff\xfe\"}"[..]),
        case("a lone surrogate", PLAIN, r#"{"a":"\ud800"}"#),
        case("a control character", PLAIN, &b"{\"a\":\"\x01\"}"[..]),
        case("a leading zero", PLAIN, r#"{"a":01}"#),
        case("not a number", PLAIN, r#"{"a":NaN}"#),
        case("two hundred levels", PLAIN, format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200))),
    ]
}

fn attributes() -> Vec<Case> {
    vec![
        with("an empty id", "ce-id", ""),
        with("an id of 257 bytes", "ce-id", "x".repeat(257)),
        with("an id with an encoded control character", "ce-id", "a%01b"),
        binary("binary without source", ("ce-source", None)),
        binary("binary without type", ("ce-type", None)),
        binary("a version of the future", ("ce-specversion", Some("2.0"))),
        binary("a time that is none", ("ce-time", Some("yesterday"))),
        event("structured without id", r#""specversion":"1.0","source":"/s","type":"t","data":{}"#),
        event("structured without source", r#""specversion":"1.0","id":"e","type":"t","data":{}"#),
        event("structured without type", r#""specversion":"1.0","id":"e","source":"/s","data":{}"#),
        event("structured without specversion", r#""id":"e","source":"/s","type":"t","data":{}"#),
        event("structured without data", r#""specversion":"1.0","id":"e","source":"/s","type":"t""#),
        event("data that is no object", r#""specversion":"1.0","id":"e","source":"/s","type":"t","data":[1]"#),
        event("data in base64", r#""specversion":"1.0","id":"e","source":"/s","type":"t","data_base64":"AAEC""#),
        event("an id that is a number", r#""specversion":"1.0","id":7,"source":"/s","type":"t","data":{}"#),
        event(
            "an id with a control character",
            r#""specversion":"1.0","id":"a\u0007","source":"/s","type":"t","data":{}"#,
        ),
        event("an id twice", r#""specversion":"1.0","id":"e","id":"f","source":"/s","type":"t","data":{}"#),
        event(
            "an extension in capitals",
            r#""specversion":"1.0","id":"e","source":"/s","type":"t","Big":"x","data":{}"#,
        ),
        event(
            "an extension that is an object",
            r#""specversion":"1.0","id":"e","source":"/s","type":"t","ext":{},"data":{}"#,
        ),
        event(
            "a subject that is empty",
            r#""specversion":"1.0","id":"e","source":"/s","type":"t","subject":"","data":{}"#,
        ),
    ]
}

fn many() -> Vec<Case> {
    let good = r#"{"specversion":"1.0","id":"e","source":"/s","type":"t","data":{}}"#;
    let contradiction = good.replace("\"data\":{}", "\"data\":{\"a\":1}");
    vec![
        case("a batch that is no array", BATCH, good),
        case("a batch with a number in it", BATCH, format!("[{good},7]")),
        case("a batch that contradicts itself", BATCH, format!("[{good},{contradiction}]")),
        case("lines of which the second is broken", LINES, format!("{good}\n{{\"specversion\"\n")),
        case("no lines", LINES, ""),
        case("another content type", "text/csv", "a,b\n1,2\n"),
        case("XML", "application/cloudevents+xml", "<event/>"),
        case("a form", "application/x-www-form-urlencoded", "a=1"),
        case("no content type", "", "{}"),
    ]
}

fn send(stage: &DropBox, case: &Case) -> Answer {
    let mut headers: Vec<(&str, &str)> = Vec::new();
    if !case.kind.is_empty() {
        headers.push(("content-type", case.kind));
    }
    headers.extend(case.headers.iter().map(|(name, value)| (*name, value.as_str())));
    stage.node.http().post(&format!("/v1/feeds/{FEED}/events"), &headers, case.body.clone())
}

#[test]
fn bad_publishes_are_refused_in_words_that_help() {
    let mut stage = DropBox::running();
    let cases: Vec<_> = [plain_bodies(), attributes(), many()].into_iter().flatten().collect();
    assert!(cases.len() >= 40);
    let mut report = String::new();
    for case in &cases {
        let answer = send(&stage, case);
        assert!(
            matches!(answer.status, 400 | 409 | 413 | 415 | 422),
            "{}: {} {}",
            case.name,
            answer.status,
            answer.text()
        );
        let problem = answer.problem(answer.status);
        report += &format!(
            "{}\n  {} {} {}\n  {}\n\n",
            case.name, problem["status"], problem["type"], problem["title"], problem["detail"]
        );
    }
    insta::assert_snapshot!("bad_publishes", report);
    // Nothing of it is in the feed, and the node is as well as before.
    stage.publish("GR-1");
    assert_eq!(stage.promised[0].offset, 0);
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}
