//! TLS to partners: roots, versions, algorithms, and the certificate that we show where a partner asks for one.
//! What a partner's certificate is checked against is its name in the recipe, see [`super::client`].

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SignatureAlgorithm};
use secrecy::ExposeSecret;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use hms_actors::failure::Failure;
use hms_actors::id::TargetName;

use super::RestContext;
use super::auth::READ;
use super::negotiated::watched;
use crate::approved;
use crate::secrets::{Fingerprint, Secret};

/// TLS 1.2 and 1.3 with the system's roots and those of the configuration. Made once for all partners.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    approved_only: bool,
    /// For partners that ask for no certificate.
    plain: Arc<ClientConfig>,
}

impl Tls {
    /// `extra_roots` is a file in PEM. With `approved_only`, nothing else is offered (see [`approved`]).
    pub fn new(extra_roots: Option<&Path>, approved_only: bool) -> Result<Arc<Self>, Failure> {
        let provider = rustls::crypto::ring::default_provider();
        let provider = Arc::new(watched(if approved_only { approved::tls(provider) } else { provider }));
        let roots = Arc::new(roots(extra_roots)?);
        let mut plain = builder(&provider, &roots)?.with_no_client_auth();
        plain.require_ems = approved_only;
        Ok(Arc::new(Self { provider, roots, approved_only, plain: Arc::new(plain) }))
    }

    /// For whom asks for no certificate.
    pub fn plain(&self) -> Arc<ClientConfig> {
        self.plain.clone()
    }

    /// With the certificate and key that a secret holds.
    fn with(&self, secret: &Secret) -> Result<ClientConfig, Failure> {
        let wrong = |why: &str| Failure::configuration(format!("client_cert: secret `{}` {why}", secret.name));
        let pem = secret.value.expose_secret().as_bytes();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| wrong("holds a certificate that is not PEM"))?;
        if chain.is_empty() {
            return Err(wrong("holds no certificate: expected PEM with the certificate, its chain, and the key"));
        }
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| wrong("holds no private key: expected PEM with the certificate, its chain, and the key"))?;
        let signing = self.provider.key_provider.load_private_key(key.clone_key());
        let signing = signing.map_err(|_| wrong("holds a private key of a kind that can't be used"))?;
        if self.approved_only && signing.algorithm() == SignatureAlgorithm::ED25519 {
            return Err(wrong(
                "holds an Ed25519 key, which `fips: required` leaves out: use ECDSA (P-256, P-384) or RSA",
            ));
        }
        let config = builder(&self.provider, &self.roots)?.with_client_auth_cert(chain, key);
        let mut config = config.map_err(|error| wrong(&format!("can't be used: {error}")))?;
        config.require_ems = self.approved_only;
        Ok(config)
    }
}

/// A target's `client_cert`: read before each request, so that another one needs no restart.
pub(super) struct ClientCert {
    pub name: String,
    pub target: TargetName,
    /// The host that it is shown to.
    pub host: String,
    pub context: Arc<RestContext>,
    /// What it was made of, how many there were before, and TLS with it.
    pub kept: RefCell<Option<(Fingerprint, u64, Arc<ClientConfig>)>>,
}

impl ClientCert {
    /// TLS with today's certificate, and a number that changes with it.
    pub async fn current(&self) -> Result<(u64, Arc<ClientConfig>), Failure> {
        let secret = self.find().await?;
        let fingerprint = secret.fingerprint();
        if let Some((of, number, config)) = &*self.kept.borrow()
            && *of == fingerprint
        {
            return Ok((*number, config.clone()));
        }
        let config = Arc::new(self.context.tls.with(&secret)?);
        let mut kept = self.kept.borrow_mut();
        let number = kept.as_ref().map_or(1, |(_, number, _)| number + 1);
        *kept = Some((fingerprint, number, config.clone()));
        Ok((number, config))
    }

    async fn find(&self) -> Result<Secret, Failure> {
        let (context, target) = (self.context.clone(), self.target.clone());
        let (name, host) = (self.name.clone(), self.host.clone());
        let found = spawn_blocking(move || context.secrets.find(&target, "CERT", Some(&name), &host));
        match timeout(READ, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(Failure::node(format!("reading secrets: {error}"))),
            Err(_) => Err(Failure::configuration("secrets can't be read: the disk that they are on does not answer")),
        }
    }
}

impl std::fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCert({})", self.name)
    }
}

fn builder(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Failure> {
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Failure::node(format!("no TLS: {error}")))?;
    Ok(versions.with_root_certificates(roots.clone()))
}

fn roots(extra_roots: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_, unreadable) = roots.add_parsable_certificates(system.certs);
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates can't be read");
    }
    if unreadable > 0 {
        tracing::debug!(unreadable, "some of the system's root certificates are not usable");
    }
    if let Some(path) = extra_roots {
        add_roots(&mut roots, path)?;
    }
    Ok(roots)
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), Failure> {
    let wrong = |why: String| Failure::configuration(format!("tls_ca_file `{}`: {why}", path.display()));
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.len() == before { Err(wrong("it holds no certificate".to_owned())) } else { Ok(()) }
}
