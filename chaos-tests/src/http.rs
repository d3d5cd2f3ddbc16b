//! A blocking HTTP client for the admin endpoint, with the shape of answers that assertions want.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::wait;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?} {}", self.text()))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The problem details (RFC 9457) of a refusal that must have this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.content_type, "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no `{member}` in {problem}");
        }
        problem
    }
}

/// Talks to one node.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::blocking::Client,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::over(builder(), format!("http://{address}"))
    }

    /// With settings of its own, such as certificates.
    pub fn over(builder: reqwest::blocking::ClientBuilder, base: String) -> Self {
        // A proxy of the machine has no business between a test and its node.
        let http = builder.no_proxy().timeout(wait::DEADLINE).build().expect("the settings are plain");
        Self { base, http }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        self.send("POST", path, headers, body.into()).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// One request; an error if the node is not there or dies before it answers.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let method = method.parse().expect("a method of HTTP");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send()?;
        let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = answer.headers().iter().map(text).collect();
        Ok(Answer { status: answer.status().as_u16(), content_type, headers, body: answer.bytes()?.to_vec() })
    }
}

/// A client builder with this crate's TLS provider in place.
pub fn builder() -> reqwest::blocking::ClientBuilder {
    // The second to install it finds it there: that is what it wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
}

/// Sends exactly `head` and then zeros, until the server has had `length` of them or hangs up; gives the
/// beginning of what it answered. For requests that no client library would send.
pub fn raw(address: SocketAddr, head: &[u8], length: u64) -> String {
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout above zero");
    stream.set_write_timeout(Some(wait::DEADLINE)).expect("a timeout above zero");
    let mut reading = stream.try_clone().expect("a socket can be shared");
    let answer = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        let length = reading.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    });
    if stream.write_all(head).is_ok() {
        let _ = std::io::copy(&mut std::io::repeat(b'0').take(length), &mut stream);
    }
    answer.join().expect("reading a socket does not panic")
}
