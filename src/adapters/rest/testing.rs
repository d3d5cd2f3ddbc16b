//! What the tests of this adapter share: events, targets, secrets that can change, and a partner that answers
//! over a real socket as it is told and keeps the bytes that it saw.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::recipe::model::{self, Batch, BatchFormat, From, Source};
use crate::secrets::{Secret, Secrets};
use hms_actors::id::{FeedName, Offset, RecipeId, TargetName, Timestamp};

pub fn event(id: &str, data: &str) -> Event {
    Event {
        offset: 7,
        published: Timestamp(1_793_865_600_250), // 2026-11-05T08:00:00.250Z
        id: id.into(),
        source: "/grants/é".into(),
        kind: "grant.updated".into(),
        subject: Some("private".into()),
        time: None,
        extensions: vec![("tenant".into(), "private".into())],
        data: data.as_bytes().to_vec().into(),
    }
}

pub fn at(offset: Offset, data: &str) -> Event {
    Event { offset, ..event(&format!("e-{offset}"), data) }
}

pub fn source() -> Source {
    Source {
        feed: FeedName::parse("grants").unwrap(),
        fields: None,
        key: None,
        from: From::Now,
        required: Vec::new(),
        labels: Vec::new(),
    }
}

pub fn target(url: &str) -> RestTarget {
    RestTarget {
        url: url.into(),
        method: model::Method::Post,
        auth: None,
        headers: Vec::new(),
        batch: Batch { max_events: 1, format: BatchFormat::Object },
        timeout: Duration::from_secs(10),
        concurrency: 8,
        idempotency_honoured: false,
        client_cert: None,
    }
}

pub fn key() -> TargetKey {
    TargetKey { recipe: RecipeId::parse("bridge.sync").unwrap(), target: TargetName::parse("gis").unwrap() }
}

pub fn request(events: Vec<Event>) -> Request {
    Request { target: key(), feed: source().feed, events: events.into(), body: None, replay: false, seal: 0 }
}

/// Secrets in memory. Keeps which host asked for which.
#[derive(Default)]
pub struct Safe {
    pub values: Mutex<HashMap<String, String>>,
    pub hosts: Mutex<Vec<String>>,
}

impl Safe {
    pub fn put(&self, name: &str, value: &str) {
        self.values.lock().unwrap().insert(name.into(), value.into());
    }
}

impl FindSecret for Safe {
    fn find(&self, target: &TargetName, suffix: &str, explicit: Option<&str>, host: &str) -> Result<Secret, Failure> {
        let names = explicit.map_or_else(|| Secrets::names(target, suffix), |name| vec![name.to_owned()]);
        self.hosts.lock().unwrap().push(host.into());
        let values = self.values.lock().unwrap();
        let found =
            names.iter().find_map(|name| Some(Secret { name: name.clone(), value: values.get(name)?.as_str().into() }));
        found.ok_or_else(|| Failure::configuration("no such secret"))
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(784_111_777_000) // Sun, 06 Nov 1994 08:49:37 GMT
    }
}

/// A world in which each `(host, port)` of a recipe is at a port of this machine.
pub fn world(safe: Arc<Safe>, places: &[(&str, u16, u16)], roots: Option<&Path>) -> Arc<RestContext> {
    let moved = |&(host, port, to): &(&str, u16, u16)| ((host.to_owned(), port), ("127.0.0.1".to_owned(), to));
    Arc::new(RestContext {
        secrets: safe,
        connect_to: ConnectTo(places.iter().map(moved).collect()),
        egress: Egress::new(None, true, Arc::default()),
        tls: Tls::new(roots, false).unwrap(),
        clock: Arc::new(Fixed),
    })
}

pub fn partner(target: &RestTarget, context: &Arc<RestContext>) -> RestPartner {
    RestPartner::new(key(), Shape::new(&source(), &[]), target, context.clone()).unwrap()
}

/// What a server saw of one request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a server does with a request.
#[derive(Clone)]
pub enum Reply {
    Answer(String),
    /// Says so much, and then nothing for ever.
    Hang(String),
    Close,
}

/// An answer with a body and more headers, each with its line end.
pub fn answer(status: u16, headers: &str, body: &str) -> Reply {
    Reply::Answer(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A partner on a port of this machine. It ends with the test's runtime.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Vec::new(), script).await
    }

    pub async fn start_tls(tls: TlsAcceptor, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(vec![tls], script).await
    }

    /// The connections take turns.
    pub async fn start_each(tls: Vec<TlsAcceptor>, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(tls, script).await
    }

    /// The answers in order, the last one again and again.
    pub async fn answering(replies: Vec<Reply>) -> Self {
        let next = Mutex::new(0);
        Self::start(move |_| {
            let mut next = next.lock().unwrap();
            let reply = replies[(*next).min(replies.len() - 1)].clone();
            *next += 1;
            reply
        })
        .await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn serve(tls: Vec<TlsAcceptor>, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, script): (_, Arc<Script>) = (seen.clone(), Arc::new(script));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let tls = (!tls.is_empty()).then(|| tls[connection % tls.len()].clone());
                let (kept, script) = (kept.clone(), script.clone());
                tokio::spawn(async move {
                    match tls {
                        None => talk(stream, connection, &kept, &*script).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => talk(stream, connection, &kept, &*script).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { port, seen }
    }
}

/// Requests of one connection, until it ends.
async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    kept: &Mutex<Vec<Seen>>,
    script: &Script,
) -> Option<()> {
    loop {
        let seen = read(&mut stream, connection).await?;
        kept.lock().unwrap().push(seen.clone());
        match script(&seen) {
            Reply::Answer(text) => stream.write_all(text.as_bytes()).await.ok()?,
            Reply::Hang(text) => {
                stream.write_all(text.as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
                std::future::pending::<()>().await;
            }
            Reply::Close => return None,
        }
        stream.flush().await.ok()?;
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<_> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into())).collect();
    let mut seen = Seen { line, headers, body: String::new(), connection };
    let mut body = vec![0; seen.header("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
