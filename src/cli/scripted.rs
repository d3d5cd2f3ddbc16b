//! A node that answers as a test tells it to, over real HTTP on loopback. For tests of what a command makes of answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use url::Url;

use super::client::Client;

/// A client of a node that gives these answers, one a request, and what it was asked. `None` breaks off without an answer.
pub(crate) fn node(answers: Vec<Option<(u16, &'static str)>>) -> (Client, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("is bound");
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = sender.send(request(&mut stream));
            if let Some((status, body)) = answer {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: {length}");
                let _ = write!(stream, "{head}\r\n\r\n{body}");
            }
        }
    });
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let node = Url::parse(&format!("http://{address}")).expect("is a URL");
    (Client::new(node).expect("can be built"), requests)
}

/// The request line and the body.
fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let got = stream.read(&mut piece).unwrap_or(0);
        text.extend_from_slice(&piece[..got]);
        let text = String::from_utf8_lossy(&text);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if got == 0 || body.len() >= length.unwrap_or(0) {
                return format!("{}\n{body}", head.lines().next().unwrap_or_default());
            }
        } else if got == 0 {
            return text.into_owned();
        }
    }
}
