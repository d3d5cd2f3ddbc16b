//! On the way: silence, resets, redirects, other addresses, certificates.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::client::ANSWER;
use super::super::testing::*;
use super::super::*;
use hms_actors::failure::FailureKind;

fn nowhere_else() -> Arc<RestContext> {
    world(Arc::default(), &[], None)
}

async fn attempt(target: &RestTarget, context: &Arc<RestContext>) -> Result<Sent, Failure> {
    partner(target, context).send(&request(vec![event("e-1", r#"{"a":1}"#)])).await
}

async fn failure_of(reply: Reply) -> Failure {
    let server = Server::answering(vec![reply]).await;
    let target = RestTarget { timeout: Duration::from_millis(300), ..target(&server.url("/")) };
    let failure = attempt(&target, &nowhere_else()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "one attempt is one request");
    failure
}

#[tokio::test]
async fn a_partner_that_says_nothing_leaves_it_open() {
    for said in ["", "HTTP/1.1 200 O"] {
        let failure = failure_of(Reply::Hang(said.into())).await;
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, false));
        assert!(failure.message.starts_with("no answer from 127.0.0.1:"), "{failure}");
        assert!(failure.message.ends_with("within 300ms"), "{failure}");
    }
}

#[tokio::test]
async fn a_partner_that_breaks_off_leaves_it_open() {
    for reply in [Reply::Close, Reply::Answer("not HTTP at all\r\n\r\n".into())] {
        let failure = failure_of(reply).await;
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, false));
        assert!(failure.message.contains("broke off: "), "{failure}");
    }
}

#[tokio::test]
async fn a_partner_that_is_not_there_got_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let failure = attempt(&target(&format!("http://127.0.0.1:{port}/")), &nowhere_else()).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, true));
    assert!(failure.message.starts_with(&format!("no connection to 127.0.0.1:{port}: ")), "{failure}");
}

#[tokio::test]
async fn the_status_counts_even_if_the_body_never_comes() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let server = Server::answering(vec![Reply::Hang(half.into())]).await;
    let target = RestTarget { timeout: Duration::from_millis(300), ..target(&server.url("/")) };
    let Receipt::Rest { status, response_sha256, .. } = attempt(&target, &nowhere_else()).await.unwrap().receipt else {
        panic!()
    };
    assert_eq!((status, response_sha256), (200, Sha256::digest("half").into()));
}

#[tokio::test]
async fn no_more_of_a_body_is_read_than_64_kib() {
    let server = Server::answering(vec![answer(200, "", &"x".repeat(10 * ANSWER))]).await;
    let Receipt::Rest { response_sha256, .. } =
        attempt(&target(&server.url("/")), &nowhere_else()).await.unwrap().receipt
    else {
        panic!()
    };
    assert_eq!(response_sha256, <[u8; 32]>::from(Sha256::digest("x".repeat(ANSWER))));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_never_followed() {
    let elsewhere = Server::answering(vec![answer(200, "", "")]).await;
    for status in [301, 302, 303, 307, 308] {
        let failure = failure_of(answer(status, &format!("location: {}\r\n", elsewhere.url("/")), "")).await;
        assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true));
        assert!(failure.message.starts_with(&status.to_string()));
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_partner_may_ask_for_time_in_seconds_or_until_a_date() {
    for wish in ["30", "Sun, 06 Nov 1994 08:50:07 GMT"] {
        for status in [429, 503] {
            let failure = failure_of(answer(status, &format!("retry-after: {wish}\r\n"), "slow down")).await;
            assert_eq!(failure.kind, FailureKind::Throttled);
            assert_eq!(failure.retry_after, Some(Duration::from_secs(30)));
            assert!(failure.message.ends_with(": slow down"));
        }
    }
    assert_eq!(failure_of(answer(429, "", "")).await.retry_after, None);
}

#[tokio::test]
async fn a_missing_page_is_the_events_fault_only_if_the_url_holds_a_field() {
    let server = Server::answering(vec![answer(404, "", "")]).await;
    for (path, kind) in [("/b", FailureKind::Configuration), ("/{a}", FailureKind::Refused)] {
        let failure = attempt(&target(&server.url(path)), &nowhere_else()).await.unwrap_err();
        assert_eq!(failure.kind, kind);
    }
}

#[tokio::test]
async fn connections_are_kept() {
    let server = Server::answering(vec![answer(200, "", "ok")]).await;
    let partner = partner(&target(&server.url("/")), &nowhere_else());
    for _ in 0..3 {
        partner.send(&request(vec![event("e-1", "{}")])).await.unwrap();
    }
    assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test]
async fn connect_to_changes_the_way_and_nothing_else() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let port = server.port;
    let hosts = [
        ("http://partner.example/x", ("partner.example", 80), "partner.example"),
        ("http://Partner.example:8080/x", ("partner.example", 8080), "partner.example:8080"),
        ("http://192.0.2.1:81/x", ("192.0.2.1", 81), "192.0.2.1:81"),
        ("http://[2001:db8::1]/x", ("2001:db8::1", 80), "[2001:db8::1]"),
    ];
    for (place, (url, (host, from), authority)) in hosts.into_iter().enumerate() {
        let context = world(Arc::default(), &[(host, from, port)], None);
        let Receipt::Rest { url: written, .. } = attempt(&target(url), &context).await.unwrap().receipt else {
            panic!()
        };
        assert_eq!(&*written, url.to_lowercase());
        let seen = server.seen().remove(place);
        assert_eq!(seen.line, "POST /x HTTP/1.1");
        assert_eq!(seen.header("host"), Some(authority));
    }
}

#[tokio::test]
async fn connect_to_may_name_a_host() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let context = RestContext {
        secrets: Arc::new(Safe::default()),
        connect_to: ConnectTo([(("partner.example".into(), 80), ("localhost".into(), server.port))].into()),
        egress: Egress::new(None, true, Arc::default()),
        tls: Tls::new(None, false).unwrap(),
        clock: nowhere_else().clock.clone(),
    };
    attempt(&target("http://partner.example/"), &Arc::new(context)).await.unwrap();
}

/// A CA of the test's own, in a file, and a server's side of TLS with a certificate for `host`.
fn certified(host: &str) -> (tempfile::NamedTempFile, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_recipes_host() {
    for (url, port) in [("https://gis.vdot.gov/api", 443), ("https://gis.vdot.gov:8443/api", 8443)] {
        let (roots, acceptor) = certified("gis.vdot.gov");
        let server = Server::start_tls(acceptor, |_| answer(200, "", "")).await;
        let context = world(Arc::default(), &[("gis.vdot.gov", port, server.port)], Some(roots.path()));
        let Receipt::Rest { url: written, .. } = attempt(&target(url), &context).await.unwrap().receipt else {
            panic!()
        };
        assert_eq!(&*written, url);
        assert_eq!(server.seen()[0].header("host"), Some(url.split('/').nth(2).unwrap()));
    }
}

#[tokio::test]
async fn a_wrong_certificate_gets_nothing() {
    let (roots, wrong_name) = certified("localhost");
    let (_, wrong_ca) = certified("gis.vdot.gov");
    for (acceptor, why) in [(wrong_name, "not valid for name"), (wrong_ca, "BadSignature")] {
        let server = Server::start_tls(acceptor, |_| answer(200, "", "")).await;
        let context = world(Arc::default(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
        let failure = attempt(&target("https://gis.vdot.gov/"), &context).await.unwrap_err();
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, true));
        assert!(failure.message.starts_with("no connection to gis.vdot.gov:443 (at 127.0.0.1:"), "{failure}");
        assert!(failure.message.contains(why), "{failure}");
        assert!(server.seen().is_empty());
    }
}

#[test]
fn an_address_cannot_be_checked_at_another_address() {
    let context = world(Arc::default(), &[("192.0.2.1", 443, 1)], None);
    let made = RestPartner::new(key(), Shape::new(&source(), &[]), &target("https://192.0.2.1/"), context);
    let failure = made.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.message.starts_with("connect_to: `192.0.2.1` is an address"), "{failure}");
}

#[test]
fn a_file_of_roots_that_holds_none_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure = Tls::new(Some(file.path()), false).unwrap_err();
    assert!(failure.message.ends_with("it holds no certificate"), "{failure}");
    assert_eq!(Tls::new(Some("gone.pem".as_ref()), false).unwrap_err().kind, FailureKind::Configuration);
}
