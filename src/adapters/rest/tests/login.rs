//! Secrets and tokens: the right header, to the right host, and never in words.

use std::sync::Arc;
use std::time::Duration;

use super::super::testing::*;
use super::super::*;
use crate::recipe::model;
use hms_actors::failure::FailureKind;

const SECRET: &str = "s3cret/\"value";

fn safe() -> Arc<Safe> {
    let safe = Arc::new(Safe::default());
    safe.put("THE_SECRET", SECRET);
    safe
}

fn secret() -> Option<String> {
    Some("THE_SECRET".into())
}

fn oauth(token_url: &str) -> model::Auth {
    model::Auth::OAuth2ClientCredentials {
        token_url: token_url.into(),
        client_id: "the:client".into(),
        scope: Some("grants write".into()),
        audience: None,
        secret: secret(),
    }
}

fn with(auth: model::Auth, url: &str) -> RestTarget {
    RestTarget { auth: Some(auth), ..target(url) }
}

fn one() -> Request {
    request(vec![event("e-1", "{}")])
}

fn token(text: &str, expires_in: &str) -> Reply {
    answer(200, "", &format!(r#"{{"access_token":"{text}","token_type":"Bearer","expires_in":{expires_in}}}"#))
}

#[tokio::test]
async fn each_scheme_has_its_header() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let schemes = [
        (model::Auth::ApiKey { header: "X-Key".into(), secret: secret() }, "x-key", SECRET),
        (model::Auth::Bearer { secret: secret() }, "authorization", "Bearer s3cret/\"value"),
        (
            model::Auth::Basic { username: "me".into(), secret: secret() },
            "authorization",
            "Basic bWU6czNjcmV0LyJ2YWx1ZQ==",
        ),
    ];
    for (place, (auth, header, value)) in schemes.into_iter().enumerate() {
        let safe = safe();
        partner(&with(auth, &server.url("/")), &world(safe.clone(), &[], None)).send(&one()).await.unwrap();
        assert_eq!(server.seen()[place].header(header), Some(value));
        assert_eq!(*safe.hosts.lock().unwrap(), ["127.0.0.1"]);
    }
}

#[tokio::test]
async fn a_missing_or_unusable_secret_sends_nothing() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let safe = Arc::new(Safe::default());
    let partner =
        partner(&with(model::Auth::Bearer { secret: secret() }, &server.url("/")), &world(safe.clone(), &[], None));
    assert_eq!(partner.send(&one()).await.unwrap_err().kind, FailureKind::Configuration);
    safe.put("THE_SECRET", "two\nlines");
    let failure = partner.send(&one()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.message.contains("THE_SECRET") && !failure.message.contains("two"), "{failure}");
    assert!(server.seen().is_empty());
    safe.put("THE_SECRET", "mended");
    partner.send(&one()).await.unwrap();
}

#[tokio::test]
async fn a_changed_secret_is_used_at_once_on_a_new_connection() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let safe = safe();
    let partner =
        partner(&with(model::Auth::Bearer { secret: secret() }, &server.url("/")), &world(safe.clone(), &[], None));
    partner.send(&one()).await.unwrap();
    partner.send(&one()).await.unwrap();
    safe.put("THE_SECRET", "new");
    partner.send(&one()).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(seen[2].header("authorization"), Some("Bearer new"));
}

#[tokio::test]
async fn what_a_partner_repeats_of_a_secret_is_not_repeated() {
    let server = Server::start(|seen| {
        let header = seen.header("authorization").unwrap().replace('"', "\\\"");
        answer(401, "", &format!("{{\"bad\":\"{header}\",\"or\":\"{}\"}}", header.replace('/', "\\/")))
    })
    .await;
    for auth in
        [model::Auth::Bearer { secret: secret() }, model::Auth::Basic { username: "me".into(), secret: secret() }]
    {
        let partner = partner(&with(auth, &server.url("/")), &world(safe(), &[], None));
        let failure = partner.send(&one()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Configuration);
        assert!(failure.message.contains("<secret THE_SECRET>"), "{failure}");
        for spelled in ["s3cret", "bWU6"] {
            assert!(!format!("{failure:?}").contains(spelled), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_for_many() {
    let tokens = Server::answering(vec![token("t-1", "3600")]).await;
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let safe = safe();
    let context = world(safe.clone(), &[("login.example", 80, tokens.port)], None);
    let partner = partner(&with(oauth("http://login.example/token"), &server.url("/")), &context);
    let (one, two) = (one(), one());
    let (first, second) = tokio::join!(partner.send(&one), partner.send(&two));
    first.unwrap();
    second.unwrap();

    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /token HTTP/1.1");
    assert_eq!(asked[0].header("host"), Some("login.example"));
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked[0].body, "grant_type=client_credentials&scope=grants+write");
    // `the%3Aclient:s3cret%2F%22value`, as RFC 6749 (2.3.1) wants the two encoded.
    assert_eq!(asked[0].header("authorization"), Some("Basic dGhlJTNBY2xpZW50OnMzY3JldCUyRiUyMnZhbHVl"));
    assert!(server.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer t-1")));
    assert!(safe.hosts.lock().unwrap().iter().all(|host| host == "login.example"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let tokens = Server::answering(vec![token("t-1", "3600"), token("t-2", "3600")]).await;
    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Bearer t-2") => answer(200, "", ""),
        _ => answer(401, "", "expired"),
    })
    .await;
    let target = with(oauth(&tokens.url("/")), &server.url("/"));
    partner(&target, &world(safe(), &[], None)).send(&one()).await.unwrap();
    assert_eq!((tokens.seen().len(), server.seen().len()), (2, 2));
    let key = |place: usize| server.seen()[place].header("idempotency-key").map(str::to_owned);
    assert_eq!(key(0), key(1));

    let never = Server::answering(vec![answer(401, "", "no")]).await;
    let target = with(oauth(&tokens.url("/")), &never.url("/"));
    let failure = partner(&target, &world(safe(), &[], None)).send(&one()).await.unwrap_err();
    assert_eq!(failure.message, "401 Unauthorized: no");
    assert_eq!(never.seen().len(), 2);
}

#[tokio::test]
async fn a_token_is_not_kept_beyond_its_life_or_its_secret() {
    let tokens = Server::answering(vec![token("t-1", "0"), token("t-2", "\"3600\""), token("t-3", "3600")]).await;
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let safe = safe();
    let partner = partner(&with(oauth(&tokens.url("/")), &server.url("/")), &world(safe.clone(), &[], None));
    for _ in 0..3 {
        partner.send(&one()).await.unwrap();
    }
    safe.put("THE_SECRET", "new");
    partner.send(&one()).await.unwrap();
    let used: Vec<_> = server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(used, ["Bearer t-1", "Bearer t-2", "Bearer t-2", "Bearer t-3"]);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_blames_no_event_and_tells_no_secret() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let cases = [
        (
            answer(400, "", &format!("{{\"error\":\"invalid_client {}\"}}", SECRET.replace('"', "\\\""))),
            FailureKind::Configuration,
        ),
        (answer(401, "", ""), FailureKind::Configuration),
        (answer(500, "", ""), FailureKind::Transient),
        (answer(429, "retry-after: 7\r\n", ""), FailureKind::Throttled),
        (answer(200, "", "<html>s3cret"), FailureKind::Configuration),
        (Reply::Close, FailureKind::Transient),
        (Reply::Hang(String::new()), FailureKind::Transient),
    ];
    for (reply, kind) in cases {
        let tokens = Server::answering(vec![reply]).await;
        let target =
            RestTarget { timeout: Duration::from_millis(300), ..with(oauth(&tokens.url("/")), &server.url("/")) };
        let failure = partner(&target, &world(safe(), &[], None)).send(&one()).await.unwrap_err();
        assert_eq!((failure.kind, failure.definite), (kind, true), "{failure}");
        assert!(failure.message.starts_with("token: ") && !failure.message.contains("s3cret"), "{failure}");
    }
    assert!(server.seen().is_empty());
}
