//! How the HTTP partner fails, and what it says of that afterwards.

use std::time::{Duration, SystemTime};

use chaos_tests::authority::Authority;
use chaos_tests::http::builder;
use chaos_tests::partners::https::{Answer, HttpPartner, On};
use chaos_tests::wait;
use reqwest::blocking::Response;
use reqwest::header::RETRY_AFTER;

/// For answers that never come: how long a client waits for them.
const PATIENCE: Duration = Duration::from_millis(500);

fn post(partner: &HttpPartner, path: &str, event: Option<&str>, body: &str) -> Result<Response, reqwest::Error> {
    post_within(wait::DEADLINE, partner, path, event, body)
}

fn post_within(
    timeout: Duration,
    partner: &HttpPartner,
    path: &str,
    event: Option<&str>,
    body: &str,
) -> Result<Response, reqwest::Error> {
    let key = event.map_or("batch".to_owned(), |id| format!("r/t/{id}"));
    let client = builder().no_proxy().timeout(timeout).build().expect("the settings are plain");
    let request = client.post(partner.url(path)).header("idempotency-key", key);
    let request = event.into_iter().fold(request, |request, id| request.header("ce-id", id));
    request.body(body.to_owned()).send()
}

fn status(partner: &HttpPartner, path: &str, event: Option<&str>, body: &str) -> u16 {
    post(partner, path, event, body).expect("an answer").status().as_u16()
}

/// Per request, whether it had its effect.
fn effects(partner: &HttpPartner) -> Vec<bool> {
    partner.received().iter().map(|request| request.effect).collect()
}

#[test]
fn what_came_is_told_as_the_judge_needs_it() {
    let partner = HttpPartner::plain();
    status(&partner, "/in/t7?x=1", Some("e1"), "{}");
    let request = &partner.received()[0];
    assert_eq!((request.target(), request.event(), request.key()), ("t7", Some("e1"), Some("r/t/e1")));
    assert_eq!(request.sha256(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_eq!((request.answered, request.effect, partner.count()), (Some(200), true, 1));
}

#[test]
fn a_key_has_its_effect_once_unless_the_partner_does_not_look_at_keys() {
    let partner = HttpPartner::plain();
    partner.script([Answer::Status(503)]);
    let statuses: Vec<_> = (0..3).map(|_| status(&partner, "/a", Some("e1"), "{}")).collect();
    assert_eq!(statuses, [503, 200, 200]);
    assert_eq!(effects(&partner), [false, true, false]);
    partner.honours_keys(false);
    status(&partner, "/a", Some("e1"), "{}");
    assert_eq!(partner.effects().len(), 2);
}

#[test]
fn one_event_is_refused_alone_and_in_a_batch_until_it_is_not() {
    let partner = HttpPartner::plain();
    let bad = On::Event("e5".into());
    partner.on(bad.clone(), Answer::Status(422));
    assert_eq!(status(&partner, "/a", Some("e5"), "{}"), 422);
    assert_eq!(status(&partner, "/a", Some("e55"), r#"{"after":"e5"}"#), 200);
    assert_eq!(status(&partner, "/a", None, r#"[{"id":"e4"},{"id":"e5"}]"#), 422);
    assert_eq!(status(&partner, "/a", None, r#"[{"id":"e4"},{"id":"e55"}]"#), 200);
    partner.off(&bad);
    assert_eq!(status(&partner, "/a", Some("e5"), "{}"), 200);
}

#[test]
fn a_key_goes_before_an_event_and_that_before_a_target() {
    let partner = HttpPartner::plain();
    partner.on(On::Target("t".into()), Answer::Status(500));
    partner.on(On::Event("e2".into()), Answer::Status(422));
    partner.on(On::Key("r/t/e3".into()), Answer::Status(409));
    let all = ["e1", "e2", "e3"].map(|id| status(&partner, "/in/t", Some(id), "{}"));
    assert_eq!((all, status(&partner, "/in/u", Some("e1"), "{}")), ([500, 422, 409], 200));
}

#[test]
fn it_says_when_to_come_back_in_both_forms() {
    let partner = HttpPartner::plain();
    partner.script([
        Answer::retry_after(429, 7),
        Answer::retry_at(503, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
    ]);
    let said = || {
        let answer = post(&partner, "/a", Some("e1"), "{}").expect("an answer");
        (answer.status().as_u16(), answer.headers()[RETRY_AFTER].to_str().expect("text").to_owned())
    };
    assert_eq!(said(), (429, "7".to_owned()));
    assert_eq!(said(), (503, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()));
}

#[test]
fn silence_and_resets_come_before_or_after_the_effect() {
    let partner = HttpPartner::plain();
    let silent = [Answer::Hang { effect: false }, Answer::Hang { effect: true }];
    let broken = [Answer::Reset { effect: false }, Answer::Reset { effect: true }, Answer::Close];
    partner.script(silent.into_iter().chain(broken));
    for number in 0..2 {
        let sent = post_within(PATIENCE, &partner, "/a", Some(&format!("e{number}")), "{}");
        let error = sent.expect_err("no answer");
        assert!(error.is_timeout(), "{error:?}");
    }
    for (number, expected) in [(2, "ConnectionReset"), (3, "ConnectionReset"), (4, "IncompleteMessage")] {
        let error = post(&partner, "/a", Some(&format!("e{number}")), "{}").expect_err("no answer");
        assert!(format!("{error:?}").contains(expected), "{error:?}");
    }
    assert_eq!(effects(&partner), [false, true, false, true, true]);
}

#[test]
fn a_tarpit_answers_and_never_ends() {
    let partner = HttpPartner::plain();
    partner.answer(Answer::Tarpit(200, Duration::from_millis(10)));
    let answer = post_within(PATIENCE, &partner, "/a", Some("e1"), "{}").expect("a status");
    assert!(answer.bytes().expect_err("no end").is_timeout());
}

#[test]
fn a_flapping_partner_is_good_and_bad_in_turns() {
    let partner = HttpPartner::plain();
    partner.flap(2, 1, Answer::Status(503));
    let all: Vec<_> = (0..6).map(|id| status(&partner, "/a", Some(&format!("e{id}")), "{}")).collect();
    assert_eq!(all, [200, 200, 503, 200, 200, 503]);
}

#[test]
fn faults_are_the_same_behind_tls() {
    let authority = Authority::new();
    let partner = HttpPartner::tls(authority.server("gis.vdot.gov"));
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("a certificate");
    let address = ([127, 0, 0, 1], partner.port()).into();
    let client = builder().tls_certs_only([root]).resolve("gis.vdot.gov", address).build();
    let client = client.expect("the settings are plain");
    let url = format!("https://gis.vdot.gov:{}/t", partner.port());
    let send = |timeout: Duration| client.post(&url).timeout(timeout).body("{}").send();
    partner.script([Answer::Reset { effect: true }, Answer::Hang { effect: false }, Answer::Status(201)]);
    assert!(!send(wait::DEADLINE).expect_err("a reset").is_timeout());
    assert!(send(PATIENCE).expect_err("silence").is_timeout());
    assert_eq!(send(wait::DEADLINE).expect("an answer").status(), 201);
    assert_eq!(effects(&partner), [true, false, true]);
}

#[test]
fn half_of_a_thousand_targets_hang_and_the_others_do_not_notice() {
    let partner = HttpPartner::plain();
    for number in (0..1_000).step_by(2) {
        partner.on(On::Target(format!("t{number}")), Answer::Hang { effect: false });
    }
    drop(builder()); // the TLS provider
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("the settings are plain");
        let send = |number: usize| client.post(partner.url(&format!("/t{number}"))).body("{}").send();
        let hanging: Vec<_> = (0..1_000).step_by(2).map(|number| tokio::spawn(send(number))).collect();
        for _ in 0..4 {
            let all: Vec<_> = (1..1_000).step_by(2).map(|number| tokio::spawn(send(number))).collect();
            for answer in all {
                assert_eq!(answer.await.expect("no panic").expect("an answer").status(), 200);
            }
        }
        let all_came = async {
            while partner.count() < 2_500 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(wait::DEADLINE, all_came).await.expect("every request reaches the partner");
        assert!(hanging.iter().all(|answer| !answer.is_finished()));
    });
    assert_eq!(partner.effects().len(), 2_000);
}
