//! TLS of the endpoint: its certificate, and whom it asks for one. Both can be replaced while it serves; what is not valid is
//! not taken. Sessions are not resumed, so that each connection is judged by what is there now.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme};

use crate::approved;
use crate::config::TlsFiles;

/// What the files hold, checked: the key is that of the certificate.
#[derive(Debug)]
pub struct Material {
    key: Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Material {
    /// Blocks on the disk. Errors name the file. With `approved_only` nothing else is offered (see [`approved`]).
    pub fn read(files: &TlsFiles, approved_only: bool) -> Result<Self, String> {
        let provider = rustls::crypto::ring::default_provider();
        let provider = Arc::new(if approved_only { approved::tls(provider) } else { provider });
        let chain = certificates("tls.cert", &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong("tls.key", &files.key, error))?;
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| wrong("tls.key", &files.key, error))?;
        let clients = files.client_ca.as_deref().map(|file| verifier(file, provider.clone())).transpose()?;
        Ok(Self { key: Arc::new(key), clients, provider })
    }
}

fn verifier(file: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.client_ca", file)? {
        roots.add(certificate).map_err(|error| wrong("tls.client_ca", file, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(|error| wrong("tls.client_ca", file, error))
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(file).map_err(|error| wrong(key, file, error))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(key, file, error))?;
    if all.is_empty() { Err(wrong(key, file, "it holds no certificate in PEM")) } else { Ok(all) }
}

fn wrong(key: &str, file: &Path, why: impl fmt::Display) -> String {
    format!("{key} `{}`: {why}", file.display())
}

/// What connections are made with from now on.
#[derive(Debug)]
pub struct Tls {
    now: RwLock<Material>,
    asks_clients: bool,
}

impl Tls {
    pub fn new(material: Material) -> Arc<Self> {
        let asks_clients = material.clients.is_some();
        Arc::new(Self { now: RwLock::new(material), asks_clients })
    }

    /// Whether clients are asked for certificates is decided at the start: nobody gets in by a line that is gone.
    pub fn can_become(&self, material: &Material) -> Result<(), String> {
        if material.clients.is_some() == self.asks_clients {
            return Ok(());
        }
        Err("`tls.client_ca` comes and goes only with a restart".to_owned())
    }

    /// From the next connection on.
    pub fn replace(&self, material: Material) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = material;
    }

    /// TLS 1.2 and 1.3.
    pub fn config(self: &Arc<Self>) -> Result<ServerConfig, Error> {
        let provider = self.now.read().unwrap_or_else(PoisonError::into_inner).provider.clone();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = match self.asks_clients {
            true => builder.with_client_cert_verifier(Arc::new(Clients(self.clone()))),
            false => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Own(self.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn key(&self) -> Arc<CertifiedKey> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).key.clone()
    }

    fn clients(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let clients = self.now.read().unwrap_or_else(PoisonError::into_inner).clients.clone();
        clients.ok_or_else(|| Error::General("nobody vouches for clients".to_owned()))
    }
}

/// Who the certificate of a connection's client says that it is: its subject, or its serial number if it has none.
#[derive(Debug, Clone)]
pub struct ClientSubject(pub String);

/// A name may be long, and may hold anything.
const LONGEST_SUBJECT: usize = 256;

/// Notes it for the requests of the connection, which was let in.
pub fn note_client(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return };
    let subject = match x509_parser::parse_x509_certificate(certificate) {
        Ok((_, parsed)) if parsed.subject().iter().next().is_some() => parsed.subject().to_string(),
        Ok((_, parsed)) => format!("serial {}", parsed.raw_serial_as_string()),
        Err(_) => "a certificate that can't be read".to_owned(),
    };
    let subject = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_SUBJECT).collect();
    data.insert(ClientSubject(subject));
}

#[derive(Debug)]
struct Own(Arc<Tls>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.key())
    }
}

/// The verifier of the moment; each connection asks the one that is there.
#[derive(Debug)]
struct Clients(Arc<Tls>);

impl ClientCertVerifier for Clients {
    /// No names are suggested: they would be those of the start.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.clients()?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.clients()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.clients()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clients().map(|clients| clients.supported_verify_schemes()).unwrap_or_default()
    }
}
