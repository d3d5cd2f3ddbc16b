//! TLS as it is negotiated with real servers: our own certificate where one is asked for, and approved algorithms
//! where nothing else is wanted.

use std::path::Path;
use std::sync::Arc;

use hms_actors::failure::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::super::testing::*;
use super::super::*;

/// An authority that signs for servers and clients.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.0.pem()).unwrap();
        file
    }

    /// Certificate and key for `name`, as PEM in one text.
    fn pem(&self, name: &str, key: &KeyPair) -> String {
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(key, &self.0).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    fn client(&self, name: &str) -> String {
        self.pem(name, &KeyPair::generate().unwrap())
    }

    /// A server for gis.vdot.gov that takes only clients of this authority, if it takes only those of one.
    pub fn server(&self, provider: CryptoProvider, asks: bool) -> TlsAcceptor {
        self.server_of(provider, asks, rustls::ALL_VERSIONS)
    }

    pub fn server_of(
        &self,
        provider: CryptoProvider,
        asks: bool,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsAcceptor {
        let provider = Arc::new(provider);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["gis.vdot.gov".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &self.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = if asks { builder.with_client_cert_verifier(verifier) } else { builder.with_no_client_auth() };
        let chain = vec![certificate.der().clone()];
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key.serialize_der().try_into().unwrap()).unwrap()))
    }
}

async fn attempt(partner: &RestPartner) -> Result<Sent, Failure> {
    partner.send(&request(vec![event("e-1", "{}")])).await
}

fn with_cert() -> RestTarget {
    RestTarget { client_cert: Some("GIS_CERT".to_owned()), ..target("https://gis.vdot.gov/api") }
}

#[tokio::test]
async fn a_partner_that_asks_for_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server(ring::default_provider(), true), |_| answer(200, "", "")).await;
    let safe = Arc::new(Safe::default());
    safe.put("GIS_CERT", &authority.client("courier"));
    let roots = authority.file();
    let context = world(safe.clone(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
    attempt(&partner(&with_cert(), &context)).await.unwrap();
    assert_eq!(*safe.hosts.lock().unwrap(), ["gis.vdot.gov"], "`secret_hosts` is asked with the recipe's host");
    let nameless = target("https://gis.vdot.gov/api");
    assert_eq!(attempt(&partner(&nameless, &context)).await.unwrap_err().kind, FailureKind::Transient);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn another_certificate_is_used_without_a_restart_and_on_a_new_connection() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server(ring::default_provider(), true), |_| answer(200, "", "")).await;
    let safe = Arc::new(Safe::default());
    safe.put("GIS_CERT", &authority.client("courier"));
    let roots = authority.file();
    let context = world(safe.clone(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
    let partner = partner(&with_cert(), &context);
    for _ in 0..2 {
        attempt(&partner).await.unwrap();
    }
    safe.put("GIS_CERT", &authority.client("courier of next year"));
    attempt(&partner).await.unwrap();
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    safe.put("GIS_CERT", &Authority::new().client("stranger"));
    assert!(attempt(&partner).await.is_err(), "a certificate of another authority is refused by the partner");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_secret_that_is_no_certificate_with_its_key_is_refused_in_words_without_its_value() {
    let authority = Authority::new();
    let (one, other) = (authority.client("a"), authority.client("b"));
    let (certificate, _) = one.split_at(one.find("-----BEGIN PRIVATE").unwrap());
    let (_, key) = other.split_at(other.find("-----BEGIN PRIVATE").unwrap());
    let safe = Arc::new(Safe::default());
    let roots = authority.file();
    let context = world(safe.clone(), &[("gis.vdot.gov", 443, 1)], Some(roots.path()));
    for (secret, why) in [
        ("s3cret-canary".to_owned(), "holds no certificate"),
        (key.to_owned(), "holds no certificate"),
        (certificate.to_owned(), "holds no private key"),
        (format!("{certificate}{key}"), "can't be used"),
    ] {
        safe.put("GIS_CERT", &secret);
        let failure = attempt(&partner(&with_cert(), &context)).await.unwrap_err();
        assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true), "{failure}");
        assert!(failure.message.contains("`GIS_CERT`") && failure.message.contains(why), "{failure}");
        assert!(!failure.message.contains("s3cret-canary") && !failure.message.contains("BEGIN"), "{failure}");
    }
}

pub(super) fn approved_only(context: &Arc<RestContext>, roots: &Path) -> Arc<RestContext> {
    let RestContext { secrets, connect_to, egress, clock, .. } = &**context;
    let (secrets, connect_to, egress, clock) = (secrets.clone(), connect_to.clone(), egress.clone(), clock.clone());
    Arc::new(RestContext { secrets, connect_to, egress, tls: Tls::new(Some(roots), true).unwrap(), clock })
}

#[tokio::test]
async fn a_partner_without_approved_algorithms_is_sent_nothing_when_they_are_required() {
    let chacha = |mut provider: CryptoProvider| {
        provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        provider
    };
    let x25519 = |mut provider: CryptoProvider| {
        provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
        provider
    };
    let ordinary = ring::default_provider;
    let authority = Authority::new();
    let roots = authority.file();
    for (provider, approved) in [(ordinary(), true), (chacha(ordinary()), false), (x25519(ordinary()), false)] {
        let server = Server::start_tls(authority.server(provider, false), |_| answer(200, "", "")).await;
        let open = world(Arc::default(), &[("gis.vdot.gov", 443, server.port)], Some(roots.path()));
        let url = target("https://gis.vdot.gov/api");
        let strict = attempt(&partner(&url, &approved_only(&open, roots.path()))).await;
        assert_eq!(strict.is_ok(), approved, "{strict:?}");
        assert_eq!(server.seen().len(), usize::from(approved));
        assert!(attempt(&partner(&url, &open)).await.is_ok(), "the server is fine for who requires nothing");
    }
}

#[tokio::test]
async fn our_own_certificate_is_approved_too_when_that_is_required() {
    let authority = Authority::new();
    let safe = Arc::new(Safe::default());
    safe.put("GIS_CERT", &authority.pem("courier", &KeyPair::generate_for(&PKCS_ED25519).unwrap()));
    let roots = authority.file();
    let context = approved_only(&world(safe, &[("gis.vdot.gov", 443, 1)], Some(roots.path())), roots.path());
    let failure = attempt(&partner(&with_cert(), &context)).await.unwrap_err();
    assert!(failure.message.contains("Ed25519 key, which `fips: required` leaves out"), "{failure}");
}

#[tokio::test]
async fn with_approved_algorithms_the_extended_master_secret_is_required_too() {
    let authority = Authority::new();
    let safe = Arc::new(Safe::default());
    safe.put("GIS_CERT", &authority.client("courier"));
    let roots = authority.file();
    let open = world(safe, &[], Some(roots.path()));
    let strict = approved_only(&open, roots.path());
    for (context, required) in [(open, false), (strict, true)] {
        assert_eq!(context.tls.plain().require_ems, required);
        let (name, host) = ("GIS_CERT".to_owned(), "gis.vdot.gov".to_owned());
        let ours = ClientCert { name, target: key().target, host, context, kept: RefCell::default() };
        assert_eq!(ours.current().await.unwrap().1.require_ems, required);
    }
}
