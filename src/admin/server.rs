//! The HTTP server: its threads, bounds and end. What it answers is in the table of routes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::backend::Backend;
use super::call::Node;
use super::dispatch;
use super::door::Door;
use super::tls::{Tls, note_client};
use crate::config::Limits;

/// Connections a worker holds; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;

/// How many bodies of the largest size may be in memory at once.
const FULL_BODIES: usize = 8;

/// Room for bodies where the largest one is small: recipes have to fit too.
const MIN_ROOM: usize = 2 << 20;

/// A server that listens.
pub struct Server {
    /// With the port that was found, when 0 was asked for.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
    drain: Duration,
}

/// Who may reach the endpoint, and how.
#[derive(Default)]
pub struct Access {
    /// No token is asked for.
    pub insecure_loopback: bool,
    pub tls: Option<Arc<Tls>>,
}

/// Listens and serves from threads of its own, until stopped. Must be called within a tokio runtime.
/// `drain` is how long requests in flight are waited for at the end.
pub fn serve(
    backend: Arc<dyn Backend>,
    listen: SocketAddr,
    limits: Limits,
    drain: Duration,
    access: Access,
) -> io::Result<Server> {
    let body_limit = usize::try_from(limits.body).unwrap_or(usize::MAX);
    let room = body_limit.saturating_mul(FULL_BODIES).clamp(MIN_ROOM, Semaphore::MAX_PERMITS);
    let node = Data::new(Node {
        backend,
        door: Door::new(access.insecure_loopback),
        body_limit,
        room: Arc::new(Semaphore::new(room)),
    });
    let secure = access.tls.is_some();
    let app = move || App::new().app_data(node.clone()).wrap(headers(secure)).configure(dispatch::register);
    let server = HttpServer::new(app)
        .workers(2)
        .disable_signals()
        .max_connections(MAX_CONNECTIONS)
        .keep_alive(Duration::from_secs(15))
        .client_request_timeout(Duration::from_secs(5))
        .client_disconnect_timeout(Duration::from_secs(5))
        .shutdown_timeout(drain.as_secs().max(1));
    let server = match access.tls {
        Some(tls) => {
            let config = tls.config().map_err(io::Error::other)?;
            server.on_connect(note_client).bind_rustls_0_23(listen, config)?
        }
        None => server.bind(listen)?,
    };
    let address = server.addrs().first().copied().unwrap_or(listen);
    let server = server.run();
    let handle = server.handle();
    Ok(Server { address, handle, task: tokio::spawn(server), drain })
}

/// Of every answer: it is no page, nobody keeps it, and nobody shows it in a frame.
fn headers(secure: bool) -> DefaultHeaders {
    let headers = DefaultHeaders::new()
        .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((CACHE_CONTROL, "no-store"))
        .add((CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .add((REFERRER_POLICY, "no-referrer"))
        .add((HeaderName::from_static("cross-origin-resource-policy"), "same-origin"));
    if secure { headers.add((STRICT_TRANSPORT_SECURITY, "max-age=31536000")) } else { headers }
}

impl Server {
    /// Takes no more connections, lets requests in flight end, and cuts what is left at the deadline.
    pub async fn stop(self) {
        // The workers keep the deadline themselves; this one is for a worker that no longer answers.
        let graceful = tokio::time::timeout(self.drain + Duration::from_secs(2), self.handle.stop(true)).await;
        if graceful.is_err() {
            self.task.abort();
        }
    }
}
