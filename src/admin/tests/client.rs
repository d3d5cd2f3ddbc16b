//! An HTTP/1.1 client that sends exactly what it is told, one request a connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            host: "localhost".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            chunked: false,
        }
    }
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    pub fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.header("Content-Type", content_type) }
    }
    pub fn chunked(self) -> Self {
        Self { chunked: true, ..self }
    }

    fn head(&self) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.method, self.path, self.host);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.chunked {
            true => head += "Transfer-Encoding: chunked\r\n",
            false => head += &format!("Content-Length: {}\r\n", self.body.len()),
        }
        head + "\r\n"
    }

    fn framed(&self) -> Vec<u8> {
        if !self.chunked {
            return self.body.clone();
        }
        let mut framed = Vec::new();
        for chunk in self.body.chunks(16 << 10) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }

    pub async fn send(&self, to: SocketAddr) -> Answer {
        let (mut reader, mut writer) = TcpStream::connect(to).await.unwrap().into_split();
        let (head, body) = (self.head(), self.framed());
        let writing = tokio::spawn(async move {
            writer.write_all(head.as_bytes()).await.unwrap();
            // The server may answer, and close, before it has read all of it.
            let _ = writer.write_all(&body).await;
            writer
        });
        let mut bytes = Vec::new();
        let answer = loop {
            let more = reader.read_buf(&mut bytes).await.unwrap();
            assert!(more > 0, "the connection ended before the answer: {}", String::from_utf8_lossy(&bytes));
            if let Some(answer) = Answer::parse(&bytes).filter(|answer| answer.is_whole(self.method)) {
                break answer;
            }
        };
        writing.abort();
        answer
    }
}

impl Answer {
    /// `None` while the head isn't there yet.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Some(Self { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() })
    }
    /// Servers keep a connection for a while after an early answer: its length says when it is whole.
    fn is_whole(&self, method: &str) -> bool {
        let length = self.header("content-length").expect("all answers say how long they are");
        method == "HEAD" || self.body.len() == length.parse::<usize>().unwrap()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}
