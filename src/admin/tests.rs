//! The endpoint over a real socket, with a backend in memory and a client that can also misbehave.

mod circuits;
mod client;
mod dead_letters;
mod door;
mod fake;
mod limits;
mod openapi;
mod publish;
mod resources;

use std::sync::Arc;
use std::time::Duration;

use self::client::{Answer, Request};
use self::fake::Fake;
use super::server::{Access, Server, serve};
use crate::config::Limits;

/// Small, so that tests reach it.
const BODY_LIMIT: u64 = 64 << 10;

fn start() -> (Server, Arc<Fake>) {
    serve_with(true)
}

fn serve_with(insecure_loopback: bool) -> (Server, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let limits = Limits { body: BODY_LIMIT, disk: 0, feed_disk: 0 };
    let access = Access { insecure_loopback, tls: None };
    let listen = ([127, 0, 0, 1], 0).into();
    let server = serve(fake.clone(), listen, limits, Duration::from_secs(5), access).unwrap();
    (server, fake)
}

async fn send(server: &Server, request: Request) -> Answer {
    request.send(server.address).await
}

/// The body of a problem, after a look at what all problems have.
fn problem(answer: &Answer, status: u16) -> serde_json::Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().unwrap().starts_with("urn:hms-sync:problem:"));
    assert!(!problem["title"].as_str().unwrap().is_empty());
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    problem
}
