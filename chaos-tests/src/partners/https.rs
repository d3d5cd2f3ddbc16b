//! A partner that takes HTTP requests, with or without TLS. It records every request and answers by a
//! rule that the test can change at any time. It knows nothing of hms.

use std::any::Any;
use std::collections::HashSet;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::rt::System;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustls::ServerConfig;

use crate::port::Port;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: SystemTime,
    /// The status that was sent back; `None` if the connection was closed instead.
    pub answered: Option<u16>,
}

impl Received {
    /// A header's value; the first, if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the partner does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    Json(u16, String),
    WithHeader(u16, &'static str, String),
    /// Answers with the status, after the delay.
    After(Duration, u16),
    /// Closes the connection without a word. The request counts as having had its effect.
    Close,
}

impl Answer {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) | Self::Json(status, _) | Self::WithHeader(status, ..) | Self::After(_, status) => {
                Some(*status)
            }
            Self::Close => None,
        }
    }
}

type Rule = Box<dyn FnMut(&Received) -> Answer + Send>;

struct State {
    received: Vec<Received>,
    rule: Rule,
}

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
        let state = State { received: Vec::new(), rule: Box::new(|_| Answer::Status(200)) };
        let mut partner = Self { port: Port::reserve(), tls, state: Arc::new(Mutex::new(state)), running: None };
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

    /// From now on `rule` decides.
    pub fn rule(&self, rule: impl FnMut(&Received) -> Answer + Send + 'static) {
        lock(&self.state).rule = Box::new(rule);
    }

    /// Every request so far, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// The requests that had an effect at a partner that honours `Idempotency-Key`: accepted (or broken off
    /// after it was carried out), and the first with its key.
    pub fn effects(&self) -> Vec<Received> {
        let mut seen = HashSet::new();
        let took_effect = |request: &Received| request.answered.is_none_or(|status| (200..300).contains(&status));
        let is_first =
            |request: &Received| request.header("idempotency-key").is_none_or(|key| seen.insert(key.to_owned()));
        self.received().into_iter().filter(took_effect).filter(is_first).collect()
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
    let answer = record(&request, &body, &state);
    match answer {
        Answer::Status(code) => status(code).finish(),
        Answer::Json(code, text) => status(code).content_type("application/json").body(text),
        Answer::WithHeader(code, name, value) => status(code).insert_header((name, value)).finish(),
        Answer::After(delay, code) => {
            actix_web::rt::time::sleep(delay).await;
            status(code).finish()
        }
        Answer::Close => {
            let socket = request.conn_data::<TcpStream>().expect("each connection has its socket");
            let _ = socket.shutdown(Shutdown::Both);
            HttpResponse::Ok().finish()
        }
    }
}

fn status(code: u16) -> actix_web::HttpResponseBuilder {
    HttpResponse::build(StatusCode::from_u16(code).expect("a status of HTTP"))
}

fn record(request: &HttpRequest, body: &[u8], state: &Mutex<State>) -> Answer {
    let text = |value: &actix_web::http::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut received = Received {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_vec(),
        at: SystemTime::now(),
        answered: None,
    };
    let mut state = lock(state);
    let answer = (state.rule)(&received);
    received.answered = answer.status();
    state.received.push(received);
    answer
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
