//! The map department's server: real HTTPS on loopback, with a certificate for its public name from a throw-away
//! authority. It asks for its API key and, as good partners do, takes a repeated Idempotency-Key for what it is.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

/// How long it thinks about a request.
const THINKS: Duration = Duration::from_millis(5);

/// The server and what it has seen.
pub(crate) struct HttpPartner {
    address: SocketAddr,
    server: ServerHandle,
    /// The certificate authority to trust, in PEM.
    authority: String,
    state: web::Data<State>,
}

struct State {
    api_key: String,
    seen: Mutex<Seen>,
    /// Follows `Seen::requests`.
    requests: watch::Sender<usize>,
}

/// What has arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Requests with the right key, repetitions included.
    pub requests: usize,
    /// Repetitions of a request that was applied before.
    pub repeated: usize,
    /// Bodies by arrival, without repetitions.
    pub applied: Vec<Applied>,
    /// Their idempotency keys.
    keys: HashSet<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub key: String,
    pub body: String,
}

impl HttpPartner {
    /// Starts it on a free port of loopback, within an actix System.
    pub fn start(host: &str, api_key: &str) -> io::Result<Self> {
        let (authority, tls) = certificate(host).map_err(io::Error::other)?;
        let (requests, _) = watch::channel(0);
        let state = web::Data::new(State { api_key: api_key.to_owned(), seen: Mutex::default(), requests });
        let shared = state.clone();
        let server =
            HttpServer::new(move || App::new().app_data(shared.clone()).route("/api/bridge", web::post().to(take)))
                .workers(1)
                .disable_signals()
                .bind_rustls_0_23(("127.0.0.1", 0), tls)?;
        let address = server.addrs().first().copied().ok_or_else(|| io::Error::other("no address"))?;
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(Self { address, server: handle, authority, state })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    pub fn seen(&self) -> Seen {
        self.state.seen().clone()
    }

    /// Waits until so many requests have come in all.
    pub async fn wait_for(&self, requests: usize) {
        let mut count = self.state.requests.subscribe();
        // The sender lives as long as `self`.
        let _ = count.wait_for(|seen| *seen >= requests).await;
    }

    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

impl State {
    /// A panic elsewhere does not make what was counted wrong.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, key: String, body: String) {
        let mut seen = self.seen();
        seen.requests += 1;
        if seen.keys.insert(key.clone()) {
            seen.applied.push(Applied { key, body });
        } else {
            seen.repeated += 1;
        }
        self.requests.send_replace(seen.requests);
    }
}

async fn take(request: HttpRequest, body: String, state: web::Data<State>) -> HttpResponse {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-api-key") != state.api_key {
        return HttpResponse::Unauthorized().finish();
    }
    state.apply(header("idempotency-key").to_owned(), body);
    tokio::time::sleep(THINKS).await;
    HttpResponse::Ok().content_type("application/json").body(r#"{"ok":true}"#)
}

/// An authority, and a server's settings with a certificate of it for `host`.
fn certificate(host: &str) -> Result<(String, ServerConfig), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "hms demo");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((authority.pem(), tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(partner: &HttpPartner, api_key: &str, key: &str) -> u16 {
        let authority = reqwest::Certificate::from_pem(partner.authority().as_bytes()).expect("PEM");
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .resolve("gis.vdot.gov", partner.address())
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("https://gis.vdot.gov:{}/api/bridge", partner.address().port());
        let request = client.post(url).header("X-API-Key", api_key).header("Idempotency-Key", key).body("{}");
        request.send().await.expect("an answer").status().as_u16()
    }

    #[actix_rt::test]
    async fn a_repeated_key_is_applied_once_and_a_wrong_one_not_at_all() {
        let partner = HttpPartner::start("gis.vdot.gov", "right").expect("starts");
        assert_eq!(post(&partner, "wrong", "a").await, 401);
        for key in ["a", "b", "a"] {
            assert_eq!(post(&partner, "right", key).await, 200);
        }
        partner.wait_for(3).await;
        let seen = partner.seen();
        assert_eq!((seen.requests, seen.repeated, seen.applied.len()), (3, 1, 2));
        partner.stop().await;
    }
}
