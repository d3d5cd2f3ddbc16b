//! The cheapest partner that can be: HTTP/1.1 with keep-alive on one thread, which reads `Content-Length` and nothing
//! else, counts the events and keeps the bytes. What they say is read when the clock stands still.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::judge::Request;
use crate::port::Port;
use crate::wait;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// What is kept is kept in blocks, so that none is copied when there is more.
const BLOCK: usize = 16 << 20;
const READ: usize = 256 << 10;
/// The listeners have the first numbers among the connections'.
const LISTENERS: u64 = 64;

/// The partner. It is up until it is dropped.
pub struct Sink {
    ports: Vec<Port>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    events: AtomicU64,
    hangs: AtomicBool,
    ends: AtomicBool,
    thread: AtomicU64,
    kept: Mutex<Kept>,
}

/// All requests, one behind the other.
#[derive(Default)]
struct Kept {
    blocks: Vec<Vec<u8>>,
    requests: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    block: usize,
    start: usize,
    body: usize,
    end: usize,
    at: Instant,
    answered: bool,
}

/// A request that came.
pub struct Arrival {
    pub at: Instant,
    pub path: String,
    pub request: Request,
}

impl Sink {
    pub fn new() -> Self {
        Self::on(Port::reserve())
    }

    /// On a port that was reserved before: until now nobody was there.
    pub fn on(port: Port) -> Self {
        Self::on_all(vec![port])
    }

    /// In the place of many partners, at as many addresses as it can have. To one address there are only so many
    /// connections, and the kernel looks longer for a free port of the client's the more there are.
    pub fn of_many() -> Self {
        Self::on_all((0..LISTENERS).map(|_| Port::reserve()).collect())
    }

    fn on_all(ports: Vec<Port>) -> Self {
        let listeners = ports.iter().map(Port::listen).collect();
        let shared = Arc::new(Shared::default());
        let mine = shared.clone();
        let thread = std::thread::spawn(move || Loop::new(listeners, mine).run());
        Self { ports, shared, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.ports[0].address()
    }

    pub fn url(&self, path: &str) -> String {
        self.url_of(0, path)
    }

    /// That of one of many partners.
    pub fn url_of(&self, partner: usize, path: &str) -> String {
        format!("http://{}{path}", self.ports[partner % self.ports.len()].address())
    }

    /// Whether it takes requests and never answers them. What hangs stays so.
    pub fn hang(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::Relaxed);
    }

    /// How many events came and were answered.
    pub fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Acquire)
    }

    /// CPU seconds of its thread.
    pub fn cpu(&self) -> f64 {
        let thread = self.shared.thread.load(Ordering::Relaxed);
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
        nanoseconds.map_or(0.0, |nanoseconds| nanoseconds as f64 / 1e9)
    }

    /// When each request came that was answered, and what was in it, in their order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let kept = lock(&self.shared.kept);
        kept.requests.iter().map(|place| arrival(&kept.blocks[place.block], place)).collect()
    }

    /// Until so many requests came, answered or not.
    pub fn wait_for_requests(&self, count: usize) {
        wait::until("requests", || (lock(&self.shared.kept).requests.len() >= count).then_some(()));
    }

    /// Only the moments, of those that were answered.
    pub fn moments(&self) -> Vec<Instant> {
        lock(&self.shared.kept).requests.iter().filter(|place| place.answered).map(|place| place.at).collect()
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().expect("no holder of this lock panics")
}

fn arrival(block: &[u8], place: &Place) -> Arrival {
    let head = String::from_utf8_lossy(&block[place.start..place.body]);
    let header = |name: &str| {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (key, event) = (header("idempotency-key"), header("ce-id"));
    let request = Request { key, event, body: block[place.body..place.end].to_vec(), effect: place.answered };
    Arrival { at: place.at, path, request }
}

struct Loop {
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
    epoll: std::os::fd::OwnedFd,
    connections: HashMap<u64, Connection>,
    next: u64,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a request of which not all has come.
    rest: Vec<u8>,
}

impl Loop {
    fn new(listeners: Vec<TcpListener>, shared: Arc<Shared>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("Linux has epoll");
        for (number, listener) in (0..LISTENERS).zip(&listeners) {
            listener.set_nonblocking(true).expect("a socket can be made not to block");
            let token = epoll::EventData::new_u64(number);
            epoll::add(&epoll, listener.as_fd(), token, epoll::EventFlags::IN).expect("a socket can be waited for");
        }
        Self { shared, listeners, epoll, connections: HashMap::new(), next: LISTENERS, buffer: vec![0; READ] }
    }

    fn run(mut self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.shared.thread.store(u64::try_from(thread).unwrap_or_default(), Ordering::Relaxed);
        let mut ready = Vec::with_capacity(1024);
        let often = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !self.shared.ends.load(Ordering::Relaxed) {
            ready.clear();
            if epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&often)).is_err() {
                continue; // interrupted by a signal
            }
            let tokens: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
            for token in tokens {
                match token {
                    ..LISTENERS => self.accept(token as usize),
                    token => self.serve(token),
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        while let Ok((stream, _)) = self.listeners[listener].accept() {
            let _ = stream.set_nodelay(true);
            let token = epoll::EventData::new_u64(self.next);
            // The sockets block: there is something to read when they are asked.
            if epoll::add(&self.epoll, stream.as_fd(), token, epoll::EventFlags::IN).is_ok() {
                self.connections.insert(self.next, Connection { stream, rest: Vec::new() });
                self.next += 1;
            }
        }
    }

    /// One read, and an answer for each request that is whole now.
    fn serve(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let at = Instant::now();
        let (read, hangs) = (connection.stream.read(&mut self.buffer), self.shared.hangs.load(Ordering::Relaxed));
        let Some(length) = read.ok().filter(|&length| length > 0) else {
            self.connections.remove(&token); // closing takes it out of epoll
            return;
        };
        let mut rest = std::mem::take(&mut connection.rest);
        let mut bytes = &self.buffer[..length];
        if !rest.is_empty() {
            rest.extend_from_slice(bytes);
            bytes = &rest;
        }
        let (mut whole, mut events) = (0, 0);
        let mut kept = lock(&self.shared.kept);
        while let Some((body, end)) = framed(bytes) {
            kept.keep(&bytes[..end], body, at, !hangs);
            events += count(&bytes[body..end]);
            whole += 1;
            bytes = &bytes[end..];
        }
        drop(kept);
        connection.rest = bytes.to_vec();
        if whole == 0 || hangs {
            return;
        }
        // Who has an answer finds it counted.
        self.shared.events.fetch_add(events, Ordering::Release);
        if connection.stream.write_all(&ANSWER.repeat(whole)).is_err() {
            self.connections.remove(&token);
        }
    }
}

impl Kept {
    fn keep(&mut self, request: &[u8], body: usize, at: Instant, answered: bool) {
        if self.blocks.last().is_none_or(|block| block.capacity() - block.len() < request.len()) {
            self.blocks.push(Vec::with_capacity(BLOCK.max(request.len())));
        }
        let block = self.blocks.len() - 1;
        let start = self.blocks[block].len();
        self.blocks[block].extend_from_slice(request);
        self.requests.push(Place { block, start, body: start + body, end: start + request.len(), at, answered });
    }
}

/// Where the body of the first request begins and ends, if all of it is there.
fn framed(bytes: &[u8]) -> Option<(usize, usize)> {
    const LENGTH: &[u8] = b"content-length:";
    let (mut at, mut length) = (0, 0);
    loop {
        let line = &bytes[at..at + bytes[at..].iter().position(|&byte| byte == b'\n')?];
        at += line.len() + 1;
        if line.len() <= 1 {
            break;
        }
        if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
            let value = std::str::from_utf8(&line[LENGTH.len()..]).ok()?;
            length = value.trim().parse().expect("a length is a number");
        }
    }
    let end = at + length;
    (end <= bytes.len()).then_some((at, end))
}

/// The events of a body: each is one object without others in it.
fn count(body: &[u8]) -> u64 {
    body.iter().map(|&byte| u64::from(byte == b'{')).sum()
}

/// Until so many events came; gives up when none came for long.
pub fn wait_for(sinks: &[&Sink], events: u64) {
    let patience = Duration::from_secs(300);
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let came: u64 = sinks.iter().map(|sink| sink.events()).sum();
        if came >= events {
            return;
        }
        if came > seen {
            (seen, since) = (came, Instant::now());
        }
        assert!(since.elapsed() < patience, "{came} of {events} events came, and none for {patience:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let request = b"POST /a HTTP/1.1\r\nhost: b\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(framed(&request[..request.len() - 1]), None);
        assert_eq!(framed(&request[..20]), None);
        assert_eq!(framed(&[&request[..], b"POST"].concat()), Some((request.len() - 4, request.len())));
    }

    #[test]
    fn what_came_is_counted_kept_and_answered() {
        let sink = Sink::new();
        let mut stream = TcpStream::connect(sink.address()).expect("the sink listens");
        let request = b"POST /a HTTP/1.1\r\nIdempotency-Key: k\r\ncontent-length: 8\r\n\r\n[{},{ }]";
        stream.write_all(&request.repeat(2)).expect("the sink reads");
        let mut answers = vec![0; 2 * ANSWER.len()];
        stream.read_exact(&mut answers).expect("the sink answers");
        assert_eq!(answers, ANSWER.repeat(2));
        assert_eq!(sink.events(), 4);
        let arrivals = sink.arrivals();
        assert_eq!(arrivals.len(), 2);
        assert_eq!(arrivals[1].path, "/a");
        assert_eq!(arrivals[1].request.key.as_deref(), Some("k"));
        assert_eq!(arrivals[1].request.body, b"[{},{ }]");
    }
}
