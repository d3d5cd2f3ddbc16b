//! A partner that takes HTTP requests, with or without TLS: the server and its life. It records every request and
//! answers as it is told (`answer.rs`), which a test can change at any time. It knows nothing of hms.

use std::any::Any;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::rt::System;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustls::ServerConfig;

pub use super::answer::Answer;
use super::log::State;
pub use super::log::{On, Received};
use crate::port::Port;

/// Longer than clients keep theirs: a connection that is closed while a request is on its way is a fault of its own.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// The partner. It is up from the start and goes down when dropped.
pub struct HttpPartner {
    port: Port,
    tls: Option<ServerConfig>,
    state: Arc<Mutex<State>>,
    running: Option<(ServerHandle, JoinHandle<()>)>,
}

impl HttpPartner {
    pub fn plain() -> Self {
        Self::new(None)
    }

    pub fn tls(config: ServerConfig) -> Self {
        Self::new(Some(config))
    }

    fn new(tls: Option<ServerConfig>) -> Self {
        let mut partner = Self { port: Port::reserve(), tls, state: Arc::default(), running: None };
        partner.up();
        partner
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address of a plain partner.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// From now on every request is answered so.
    pub fn answer(&self, answer: Answer) {
        self.rule(move |_| answer.clone());
    }

    /// The next requests are answered so, one after the other; later ones with 200.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut answers = answers.into_iter().collect::<Vec<_>>().into_iter();
        self.rule(move |_| answers.next().unwrap_or(Answer::Status(200)));
    }

    /// From now on so many requests are answered with 200, so many as given, and so on.
    pub fn flap(&self, good: u32, bad: u32, answer: Answer) {
        let mut turn = (0..good + bad).cycle();
        self.rule(move |_| if turn.next() < Some(good) { Answer::Status(200) } else { answer.clone() });
    }

    /// From now on `rule` decides.
    pub fn rule(&self, rule: impl FnMut(&Received) -> Answer + Send + 'static) {
        lock(&self.state).rule = Box::new(rule);
    }

    /// From now on these requests are answered so, whatever the rule says.
    pub fn on(&self, which: On, answer: Answer) {
        lock(&self.state).orders.insert(which, answer);
    }

    /// Ends what [`HttpPartner::on`] began.
    pub fn off(&self, which: &On) {
        lock(&self.state).orders.remove(which);
    }

    /// Whether a request has no second effect if its `Idempotency-Key` had one: so it is from the start.
    pub fn honours_keys(&self, honours: bool) {
        lock(&self.state).honours = honours;
    }

    /// Requests are not recorded: only the rule sees them.
    pub fn forgets(&self) {
        lock(&self.state).forgets = true;
    }

    /// Every request so far, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        lock(&self.state).received.len()
    }

    /// The requests that had an effect.
    pub fn effects(&self) -> Vec<Received> {
        lock(&self.state).received.iter().filter(|request| request.effect).cloned().collect()
    }

    /// Comes up with another certificate.
    pub fn present(&mut self, tls: ServerConfig) {
        self.tls = Some(tls);
        self.up();
    }

    /// Goes down: connections are cut, new ones refused.
    pub fn down(&mut self) {
        if let Some((handle, thread)) = self.running.take() {
            System::new().block_on(handle.stop(false));
            thread.join().expect("the partner's server does not panic");
        }
    }

    /// Comes up again, on the same port.
    pub fn up(&mut self) {
        self.down();
        let (listener, tls, state) = (self.port.listen(), self.tls.clone(), self.state.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            System::new().block_on(async move {
                let app = move || App::new().app_data(web::Data::from(state.clone())).default_service(web::to(take));
                let server = HttpServer::new(app).workers(1).disable_signals().on_connect(keep_socket);
                // Who gives up on an answer that never comes is not kept; who waits between two requests is.
                let server = server.h1_allow_half_closed(false).keep_alive(KEEP_ALIVE);
                let server = match tls {
                    Some(config) => server.listen_rustls_0_23(listener, config),
                    None => server.listen(listener),
                };
                let server = server.expect("the socket listens").run();
                tell.send(server.handle()).expect("the test waits for it");
                server.await.expect("an actix server ends in order");
            });
        });
        self.running = Some((told.recv().expect("the server starts"), thread));
    }
}

impl Drop for HttpPartner {
    fn drop(&mut self) {
        self.down();
    }
}

async fn take(request: HttpRequest, body: web::Bytes, state: web::Data<Mutex<State>>) -> HttpResponse {
    let answer = lock(&state).take(&request, &body);
    let socket = request.conn_data::<TcpStream>().expect("each connection has its socket");
    answer.give(socket).await
}

/// Keeps a second handle to the connection's socket, for answers that are none.
fn keep_socket(connection: &dyn Any, data: &mut Extensions) {
    let socket = match connection.downcast_ref::<TlsStream<actix_web::rt::net::TcpStream>>() {
        Some(stream) => Some(stream.get_ref().0),
        None => connection.downcast_ref::<actix_web::rt::net::TcpStream>(),
    };
    let socket = socket.expect("connections are TCP, with or without TLS");
    data.insert(TcpStream::from(socket.as_fd().try_clone_to_owned().expect("a socket can be shared")));
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no rule of a test panics")
}
