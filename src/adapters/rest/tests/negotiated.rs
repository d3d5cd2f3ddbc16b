//! What TLS agreed on, as receipts tell it, beside servers that can agree on one thing only.

use futures_util::future::join_all;
use hms_actors::receipt::Transport;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::super::testing::*;
use super::super::*;
use super::mutual::{Authority, approved_only};

/// A provider with nothing but these two.
fn only(suite: CipherSuite, group: NamedGroup) -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    provider.kx_groups.retain(|offered| offered.name() == group);
    provider
}

async fn agreed(partner: &RestPartner, id: &str) -> (String, [u8; 32]) {
    let sent = partner.send(&request(vec![event(id, "{}")])).await.unwrap();
    let Receipt::Rest { transport, response_sha256, .. } = sent.receipt else { panic!() };
    let Transport { protocol, algorithms } = transport.expect("it was TLS");
    assert_eq!(protocol, "tls");
    (algorithms.to_string(), response_sha256)
}

struct Case(&'static SupportedProtocolVersion, CipherSuite, NamedGroup, &'static str);

/// The certificates of these tests are ECDSA.
const APPROVED: [Case; 4] = [
    Case(
        &TLS13,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        NamedGroup::secp256r1,
        "TLSv1.3 TLS_AES_256_GCM_SHA384 secp256r1",
    ),
    Case(
        &TLS13,
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        NamedGroup::secp384r1,
        "TLSv1.3 TLS_AES_128_GCM_SHA256 secp384r1",
    ),
    Case(
        &TLS12,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        NamedGroup::secp256r1,
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 secp256r1",
    ),
    Case(
        &TLS12,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        NamedGroup::secp384r1,
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 secp384r1",
    ),
];

const OTHERS: [Case; 2] = [
    Case(
        &TLS13,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        NamedGroup::X25519,
        "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256 X25519",
    ),
    Case(
        &TLS12,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        NamedGroup::X25519,
        "TLSv1.2 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 X25519",
    ),
];

#[tokio::test]
async fn a_receipt_names_what_its_connection_agreed_on() {
    let authority = Authority::new();
    let roots = authority.file();
    for (approved, Case(version, suite, group, expected)) in
        APPROVED.iter().map(|case| (true, case)).chain(OTHERS.iter().map(|case| (false, case)))
    {
        let tls = authority.server_of(only(*suite, *group), false, &[version]);
        let server = Server::start_tls(tls, |_| answer(200, "", "")).await;
        let open = world(Arc::default(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
        let strict = approved_only(&open, roots.path());
        for context in [Some(&open), approved.then_some(&strict)].into_iter().flatten() {
            let partner = partner(&target("https://gis.vdot.gov/api"), context);
            for id in ["e-1", "e-2"] {
                assert_eq!(agreed(&partner, id).await.0, *expected);
            }
        }
    }
}

#[tokio::test]
async fn connections_that_agreed_on_different_things_are_told_apart() {
    let authority = Authority::new();
    let roots = authority.file();
    let acceptor = |Case(version, suite, group, _): &Case| -> TlsAcceptor {
        authority.server_of(only(*suite, *group), false, &[version])
    };
    let cases = [&APPROVED[0], &APPROVED[2], &OTHERS[0]];
    let tls = cases.map(acceptor).into();
    let server = Server::start_each(tls, |seen| answer(200, "", &(seen.connection % 3).to_string())).await;
    let context = world(Arc::default(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
    let partner = partner(&target("https://gis.vdot.gov/api"), &context);
    // Three requests at once use three connections, as soon as there are as many.
    let mut told = [0; 3];
    while told.contains(&0) {
        assert!(told.iter().sum::<u32>() < 1_000, "{told:?}");
        for (algorithms, body) in join_all(["a", "b", "c"].map(|id| agreed(&partner, id))).await {
            let which = (0..3).find(|which| body == *Sha256::digest(which.to_string())).unwrap();
            assert_eq!(algorithms, cases[which].3);
            told[which] += 1;
        }
    }
}

#[tokio::test]
async fn a_session_that_is_resumed_exchanges_no_keys_and_a_receipt_says_so() {
    let authority = Authority::new();
    let roots = authority.file();
    let Case(version, suite, group, expected) = &APPROVED[2];
    let tls = authority.server_of(only(*suite, *group), false, &[version]);
    let server = Server::start_tls(tls, |_| answer(200, "connection: close\r\n", "")).await;
    let context = world(Arc::default(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
    let partner = partner(&target("https://gis.vdot.gov/api"), &context);
    assert_eq!(agreed(&partner, "e-1").await.0, *expected);
    assert_eq!(agreed(&partner, "e-2").await.0, expected.replace("secp256r1", "resumed"));
    assert_eq!(server.seen()[1].connection, 1);
}

#[tokio::test]
async fn without_tls_a_receipt_says_nothing_of_it() {
    let server = Server::start(|_| answer(200, "", "")).await;
    let context = world(Arc::default(), &[], None);
    let sent = partner(&target(&server.url("/")), &context).send(&request(vec![event("e-1", "{}")])).await.unwrap();
    assert!(matches!(sent.receipt, Receipt::Rest { transport: None, .. }), "{sent:?}");
}
