//! Publishing in every content type, and forty ways in which it is refused.

use super::*;

const PATH: &str = "/v1/feeds/grants/events";
const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const NDJSON: &str = "application/x-ndjson";

fn publish(content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", PATH).body(content_type, body)
}

fn event(id: &str, data: &str) -> String {
    format!("{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/s\",\"type\":\"t\",\"data\":{data}}}")
}

async fn accepted(server: &Server, request: Request) -> serde_json::Value {
    let answer = send(server, request).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()
}

#[actix_web::test]
async fn every_content_type_is_taken() {
    let (server, fake) = start();
    let money = r#"{"amount":1250.10,"n":12345678901234567890}"#;
    accepted(&server, publish(STRUCTURED, event("e-0", money))).await;
    let batch = format!("[{},{}]", event("e-1", money), event("e-2", money));
    let answer = accepted(&server, publish(BATCH, batch).chunked()).await;
    assert_eq!(answer["accepted"], 2);
    assert_eq!(answer["events"], serde_json::json!([{"id":"e-1","offset":1},{"id":"e-2","offset":2}]));
    accepted(&server, publish(NDJSON, format!("{}\n{}\n", event("e-3", money), event("e-4", money)))).await;
    let binary = publish(JSON, money)
        .header("ce-specversion", "1.0")
        .header("ce-id", "e-5")
        .header("ce-source", "/s")
        .header("ce-type", "t");
    accepted(&server, binary).await;
    accepted(&server, publish(JSON, money).header("ce-id", "e-6")).await;
    accepted(&server, publish("application/json; charset=utf-8", money)).await;

    let events = fake.events("grants");
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|event| event.data == money));
    assert!((0..7).all(|n| events[n].id == format!("e-{n}")));
}

#[actix_web::test]
async fn the_same_event_is_a_duplicate_and_another_of_its_id_a_conflict() {
    let (server, fake) = start();
    accepted(&server, publish(STRUCTURED, event("e-1", "{\"a\":1}"))).await;
    let again = accepted(&server, publish(STRUCTURED, event("e-1", "{ \"a\": 1 }"))).await;
    let expected = serde_json::json!({"accepted":0,"duplicates":1,"events":[{"id":"e-1","offset":0}]});
    assert_eq!(again, expected);

    let lines = format!("{}\n{}", event("e-2", "{}"), event("e-1", "{\"a\":2}"));
    let conflict = problem(&send(&server, publish(NDJSON, lines)).await, 409);
    assert_eq!((&conflict["id"], &conflict["offset"]), (&"e-1".into(), &0.into()));
    assert!(conflict["detail"].as_str().unwrap().contains("`e-1`"));
    assert_eq!(fake.events("grants").len(), 1, "a request is taken whole or not at all");
}

/// What is sent, the status, and words that the problem's detail must hold.
type Bad = (Request, u16, &'static str);

fn bad_bodies() -> Vec<Bad> {
    let deep = format!("{}{{}}{}", "{\"a\":".repeat(64), "}".repeat(64));
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "line 1, column 1, byte 0: expected a JSON value, found the end of the text"),
        (b"{".to_vec(), "expected a key in double quotes, found the end"),
        (b"{\"a\":1".to_vec(), "expected `,` or `}`, found the end"),
        (b"{\n  \"a\": 1,\n}".to_vec(), "line 3, column 1, byte 12: expected a key in double quotes, found `}`"),
        (b"{'a':1}".to_vec(), "expected a key in double quotes, found `'`"),
        (b"{a:1}".to_vec(), "expected a key in double quotes, found `a`"),
        (b"{} {}".to_vec(), "expected the end after the JSON value, found `{`"),
        (b"{\"a\":NaN}".to_vec(), "expected a JSON value, found `N`"),
        (b"{\"a\":01}".to_vec(), "a number can't begin with 0"),
        (b"{\"a\":+1}".to_vec(), "expected a JSON value, found `+`"),
        (b"{\"a\":\"\xff\"}".to_vec(), "line 1, column 7, byte 6: this byte is not valid UTF-8"),
        (b"{\"a\":\"\t\"}".to_vec(), "a control character in a string"),
        (b"{\"a\":\"\\ud800\"}".to_vec(), "half of a surrogate pair"),
        (b"{\"a\":1,\"a\":2}".to_vec(), "the key `a` is there twice"),
        (b"{\"o\":[{\"a\":1,\"\\u0061\":2}]}".to_vec(), "the key `a` is there twice"),
        (deep.into_bytes(), "at most 64 levels"),
        ("[".repeat(60_000).into_bytes(), "at most 64 levels"),
        (b"[{}]".to_vec(), "the data must be a JSON object, found an array"),
        (b"\"text\"".to_vec(), "the data must be a JSON object, found a string"),
        (b"null".to_vec(), "the data must be a JSON object, found null"),
        (b"17".to_vec(), "the data must be a JSON object, found a number"),
    ];
    bodies.into_iter().map(|(body, words)| (publish(JSON, body), 400, words)).collect()
}

fn bad_events() -> Vec<Bad> {
    let long_id = event(&"x".repeat(257), "{}");
    let events = [
        (r#"{"id":"e","source":"s","type":"t","data":{}}"#, "`specversion` is missing: send `1.0`"),
        (r#"{"specversion":"0.3","id":"e","source":"s","type":"t","data":{}}"#, "must be `1.0`, found `0.3`"),
        (r#"{"specversion":1.0,"id":"e","source":"s","type":"t","data":{}}"#, "must be a string, found a number"),
        (r#"{"specversion":"1.0","source":"s","type":"t","data":{}}"#, "attribute `id` is missing"),
        (r#"{"specversion":"1.0","id":"e","type":"t","data":{}}"#, "attribute `source` is missing"),
        (r#"{"specversion":"1.0","id":"e","source":"s","data":{}}"#, "attribute `type` is missing"),
        (r#"{"specversion":"1.0","id":"","source":"s","type":"t","data":{}}"#, "`id` is empty"),
        (r#"{"specversion":"1.0","id":null,"source":"s","type":"t","data":{}}"#, "attribute `id` is missing"),
        (r#"{"specversion":"1.0","id":"a\nb","source":"s","type":"t","data":{}}"#, "control character U+000A"),
        (long_id.as_str(), "`id` is 257 bytes long: at most 256"),
        (r#"{"specversion":"1.0","id":"e","source":"s","type":"t","time":"today","data":{}}"#, "RFC 3339"),
        (r#"{"specversion":"1.0","id":"e","source":"s","type":"t","eventType":"x","data":{}}"#, "a-z and 0-9 only"),
        (r#"{"specversion":"1.0","id":"e","source":"s","type":"t","ext":[1],"data":{}}"#, "found an array"),
        (r#"{"specversion":"1.0","id":"e","source":"s","type":"t","ext":1.5,"data":{}}"#, "an integer or a boolean"),
        (
            r#"{"specversion":"1.0","id":"e","source":"s","type":"t","data_base64":"e30="}"#,
            "`data_base64` is not taken",
        ),
        (r#"{"specversion":"1.0","id":"e","source":"s","type":"t"}"#, "`data` is missing"),
        (
            r#"{"specversion":"1.0","id":"e","source":"s","type":"t","data":"{}"}"#,
            "must be a JSON object, found a string",
        ),
        (
            r#"{"specversion":"1.0","id":"e","source":"s","type":"t","datacontenttype":"text/xml","data":{}}"#,
            "`datacontenttype` must be `application/json`",
        ),
        ("[]", "an event must be a JSON object with CloudEvents attributes, found an array"),
    ];
    events.map(|(body, words)| (publish(STRUCTURED, body), 400, words)).into()
}

fn bad_requests() -> Vec<Bad> {
    let good = event("e", "{}");
    let no_type = Request::new("POST", PATH);
    vec![
        (no_type, 415, "content type (none) is not taken: send one of application/cloudevents+json"),
        (publish("text/plain", "{}"), 415, "content type `text/plain` is not taken"),
        (publish("application/x-www-form-urlencoded", "a=1"), 415, "application/x-ndjson"),
        (publish("application/cloudevents+avro", "{}"), 415, "is not taken"),
        (publish("application/json; charset=latin1", "{}"), 415, "charset=latin1"),
        (publish(JSON, "{}").header("Content-Type", "text/plain"), 415, "given twice"),
        (publish(BATCH, good.clone()), 400, "a batch must be a JSON array of events, found an object"),
        (publish(BATCH, format!("[{good},7]")), 400, "event 2: an event must be a JSON object"),
        (publish(NDJSON, format!("{good}\n{{\"a\"")), 400, "line 2, column 5, byte"),
        (publish(NDJSON, format!("{good}\n[]")), 400, "line 2: an event must be a JSON object"),
        (publish(NDJSON, "\n \n"), 400, "the body holds no event"),
        (publish(JSON, "{}").header("ce-type", "t"), 400, "`ce-specversion` is missing"),
        (publish(JSON, "{}").header("ce-id", ""), 400, "`id` is empty"),
        (publish(JSON, "{}").header("ce-id", "a%00b"), 400, "control character U+0000"),
        (publish(JSON, "{}").header("ce-id", "a").header("ce-id", "b"), 400, "header `ce-id` is there twice"),
        (publish(JSON, "{}").header("ce-specversion", "1.0").header("ce-id", "e"), 400, "`source` is missing"),
        (Request::new("POST", "/v1/feeds/..%2fx/events").body(JSON, "{}"), 400, "`../x` is not a name"),
        (Request::new("POST", "/v1/feeds/Grants/events").body(JSON, "{}"), 400, "`Grants` is not a name"),
        (Request::new("POST", "/v1/feeds/../x/events").body(JSON, "{}"), 404, "there is nothing at"),
    ]
}

#[actix_web::test]
async fn a_bad_publish_is_refused_with_words_and_nothing_of_it_is_taken() {
    let (server, fake) = start();
    let table = [bad_bodies(), bad_events(), bad_requests()].concat();
    assert!(table.len() >= 40);
    for (request, status, words) in table {
        let answer = send(&server, request).await;
        let refused = problem(&answer, status);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(words), "expected “{words}” in “{detail}”");
    }
    assert!(fake.feeds.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_problem_says_for_programs_too_where_it_is() {
    let (server, _) = start();
    let syntax = problem(&send(&server, publish(JSON, "{\n \"é\": x}")).await, 400);
    assert_eq!((&syntax["line"], &syntax["column"], &syntax["byte"]), (&2.into(), &7.into(), &9.into()));
    let batch = format!("[{},{{}}]", event("e", "{}"));
    assert_eq!(problem(&send(&server, publish(BATCH, batch)).await, 400)["event"], 2);
}
