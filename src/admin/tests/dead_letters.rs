//! Dead letters: pages, the event of each, replays with each of their ends, and giving up.

use super::*;

fn started_with(letters: impl IntoIterator<Item = (u64, &'static str)>) -> (Server, Arc<Fake>) {
    let (server, fake) = start();
    *fake.letters.lock().unwrap() = letters.into_iter().map(|(number, id)| fake::dead_letter(number, id)).collect();
    (server, fake)
}

fn replay(number: u64) -> Request {
    Request::new("POST", format!("/v1/dead-letters/{number}/replay"))
}

fn forced(number: u64) -> Request {
    replay(number).body("application/json", r#"{"force":true}"#)
}

#[actix_web::test]
async fn the_list_comes_in_pages_that_name_the_next_one() {
    let (server, fake) = started_with([(3, "a"), (4, "b"), (9, "c")]);
    fake.letters.lock().unwrap()[1].target = "cobol".to_owned();
    for (query, numbers, next) in [
        ("", &[3, 4, 9][..], None),
        ("?limit=2", &[3, 4], Some(9)),
        ("?limit=2&from=9", &[9], None),
        ("?limit=1&from=4", &[4], Some(9)),
        ("?from=10", &[], None),
        ("?target=vdot_gis&limit=1", &[3], Some(9)),
        ("?target=cobol", &[4], None),
        ("?recipe=other.sync", &[], None),
        ("?limit=18446744073709551615", &[3, 4, 9], None),
    ] {
        let page = send(&server, Request::get(format!("/v1/dead-letters{query}"))).await.json();
        let found: Vec<u64> =
            page["dead_letters"].as_array().unwrap().iter().map(|letter| letter["number"].as_u64().unwrap()).collect();
        assert_eq!((found.as_slice(), page["next"].as_u64()), (numbers, next), "{query}");
    }
}

#[actix_web::test]
async fn a_page_has_a_cap_however_many_are_asked_for() {
    let (server, _) = started_with((0..10_001).map(|number| (number, "a")));
    let page = send(&server, Request::get("/v1/dead-letters?limit=20000")).await.json();
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), &page["next"]), (10_000, &10_000.into()));
}

#[actix_web::test]
async fn one_is_shown_with_its_event_digit_for_digit_and_its_attempts() {
    let (server, _) = started_with([(7, "e-7")]);
    let answer = send(&server, Request::get("/v1/dead-letters/7")).await;
    assert!(answer.text().contains(fake::EVENT), "{}", answer.text());
    let letter = answer.json();
    assert_eq!((&letter["cause"], &letter["replaying"]), (&"refused".into(), &false.into()));
    assert_eq!(letter["history"][0]["error"], "422 no such grant");
}

#[actix_web::test]
async fn a_replay_says_how_it_ended_and_what_it_came_after() {
    let (server, fake) = started_with([(1, "good"), (2, "slow"), (3, "refused"), (4, "good"), (5, "good")]);
    fake.letters.lock().unwrap()[3].may_have_arrived = true;
    fake.letters.lock().unwrap()[4].replaying = true;

    let done = send(&server, replay(1)).await;
    let later = serde_json::json!([{"offset": 12, "id": "e-12"}]);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json(), serde_json::json!({"number": 1, "state": "delivered", "later": later}));
    problem(&send(&server, replay(1)).await, 404);

    let goes_on = send(&server, replay(2)).await;
    assert_eq!((goes_on.status, &goes_on.json()["state"]), (202, &"replaying".into()));
    let refused = problem(&send(&server, replay(3)).await, 422);
    assert_eq!(refused["detail"], "422 Unprocessable Entity: no such grant");
    assert_eq!(refused["type"], "urn:hms-sync:problem:partner-refused");

    problem(&send(&server, replay(4)).await, 409);
    problem(&send(&server, replay(4).body("application/json", "{}")).await, 409);
    assert_eq!(send(&server, forced(4)).await.status, 200);
    assert_eq!(problem(&send(&server, forced(5)).await, 409)["replaying"], true);
}

#[actix_web::test]
async fn a_bad_replay_is_refused_in_words() {
    let (server, fake) = started_with([(1, "good")]);
    for (request, status, words) in [
        (replay(1).body("application/json", r#"{"forced":true}"#), 400, "unknown field `forced`, expected `force`"),
        (replay(1).body("application/json", r#"{"force":"yes"}"#), 400, "invalid type"),
        (replay(1).body("text/plain", "{}"), 415, "application/json"),
        (Request::new("POST", "/v1/dead-letters/x/replay"), 400, "`x` is not a number"),
    ] {
        let refused = problem(&send(&server, request).await, status);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    assert_eq!(fake.letters.lock().unwrap().len(), 1);
}

#[actix_web::test]
async fn one_is_given_up_with_a_reason_if_one_is_given() {
    let (server, fake) = started_with([(1, "good")]);
    let delete = |query: &str| Request::new("DELETE", format!("/v1/dead-letters/1{query}"));
    let long = format!("?reason={}", "x".repeat(4_097));
    for (query, words) in [
        ("?reason=", "says why"),
        ("?reason=%20%09", "says why"),
        (&long, "1 to 4096 bytes"),
        ("?reason=x&force=true", "unknown field `force`"),
    ] {
        let refused = problem(&send(&server, delete(query)).await, 400);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    assert_eq!(fake.letters.lock().unwrap().len(), 1);
    let dropped = send(&server, delete("?reason=withdrawn%20by%20the%20county")).await;
    assert_eq!((dropped.status, &dropped.json()["state"]), (200, &"dropped".into()));
    problem(&send(&server, delete("?reason=x")).await, 404);
}
