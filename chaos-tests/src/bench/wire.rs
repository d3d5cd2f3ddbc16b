//! A publisher that costs next to nothing: requests made before the clock runs, over a connection that is kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;

use crate::wait;

/// One connection to a node.
pub struct Wire {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = connected(address).expect("the node listens");
        Self { address, stream, buffer: vec![0; 64 << 10] }
    }

    /// Sends a whole request and gives status and body of its answer.
    pub fn send(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request)?;
        self.answer()
    }

    /// Until it is acknowledged; gives the answer's body.
    pub fn publish(&mut self, request: &[u8]) -> Vec<u8> {
        loop {
            match self.send(request) {
                Ok((202, body)) => return body,
                // Too much at once: asked again, as a publisher must.
                Ok((429 | 503, _)) => std::thread::sleep(Duration::from_millis(1)),
                Ok((status, body)) => panic!("{status} to a publisher: {}", String::from_utf8_lossy(&body)),
                // The node may close a connection that it has kept for long.
                Err(_) => self.stream = connected(self.address).expect("the node listens"),
            }
        }
    }

    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let mut read = 0;
        loop {
            if read == self.buffer.len() {
                self.buffer.resize(2 * read, 0);
            }
            match self.stream.read(&mut self.buffer[read..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => read += length,
            }
            if let Some((status, body, end)) = framed(&self.buffer[..read]) {
                return Ok((status, self.buffer[body..end].to_vec()));
            }
        }
    }
}

fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait::DEADLINE))?;
    Ok(stream)
}

/// Status, and where the body begins and ends, if all of it is there.
fn framed(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let body = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..body]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let end = body + lengths.next().map_or(0, |(_, length)| length.trim().parse().unwrap_or(0));
    (end <= bytes.len()).then_some((status, body, end))
}

/// The bytes of a request, head and all.
pub fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, content_type, body)
}

pub fn put(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    request("PUT", path, content_type, body)
}

fn request(method: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What a publisher was promised, read when the clock stands still.
#[derive(Deserialize)]
pub struct Promised {
    pub events: Vec<Event>,
}

#[derive(Deserialize)]
pub struct Event {
    pub id: String,
    pub offset: u64,
}
