//! The admin endpoint: HTTP and JSON around a [`Backend`]. It knows routes, content types, limits and how errors
//! look; what is done is the backend's affair.

mod audit;
pub mod backend;
mod feeds;
mod node;
mod openapi;
pub mod problem;
mod recipes;
mod routes;
mod tickets;
pub mod views;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use backend::Backend;
use problem::Problem;

/// How long a client may take to send the head of a request, and how long an idle connection is kept.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long requests under way may take when the endpoint stops.
const STOP: Duration = Duration::from_secs(5);

/// What handlers are given.
#[derive(Clone)]
pub(crate) struct State {
    backend: Arc<dyn Backend>,
    /// Largest body of a request, in bytes.
    max_body: u64,
}

type Shared = web::Data<State>;

/// What a handler returns.
type Answer = Result<HttpResponse, Problem>;

/// A running endpoint.
pub struct Server {
    handle: ServerHandle,
    address: SocketAddr,
}

/// Listens and serves. Must be called within an actix system.
pub fn serve(backend: Arc<dyn Backend>, listen: SocketAddr, max_body: u64) -> io::Result<Server> {
    let state = web::Data::new(State { backend, max_body });
    let app = move || {
        App::new()
            .app_data(state.clone())
            .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")).add(("Cache-Control", "no-store")))
            .configure(routes::register)
            .default_service(web::to(nothing_here))
    };
    let server = HttpServer::new(app)
        .workers(2)
        .disable_signals()
        .client_request_timeout(PATIENCE)
        .keep_alive(PATIENCE)
        .shutdown_timeout(STOP.as_secs())
        .bind(listen)?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    let running = server.run();
    let handle = running.handle();
    actix_rt::spawn(running);
    Ok(Server { handle, address })
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and lets those under way end.
    pub async fn stop(&self) {
        if tokio::time::timeout(2 * STOP, self.handle.stop(true)).await.is_err() {
            self.handle.stop(false).await;
        }
    }
}

async fn nothing_here(request: HttpRequest) -> Answer {
    let path = request.path();
    let allowed = routes::methods_of(path);
    if allowed.is_empty() {
        return Err(
            Problem::new(404, "not found").detail(format!("there is no `{path}`; /openapi.json lists all routes"))
        );
    }
    if request.method() == Method::OPTIONS {
        return Ok(HttpResponse::NoContent().insert_header(("Allow", allowed.join(", "))).finish());
    }
    let detail = format!("`{path}` takes {}, not {}", allowed.join(", "), request.method());
    Err(Problem::new(405, "method not allowed").detail(detail).header("Allow", allowed.join(", ")))
}

/// Who asks. Until there are tokens, whoever reaches the endpoint is the operator.
fn subject(_: &HttpRequest) -> &'static str {
    "operator"
}
