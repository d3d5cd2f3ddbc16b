//! A scheduling service as the seed has one: a token endpoint (OAuth 2.0 client credentials) and a
//! resource that takes only the newest token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::ServerConfig;

use super::https::{Answer, HttpPartner, Received};

pub const CLIENT_SECRET: &str = "s3cret-of-the-crew";

/// The service; tokens are `token-1`, `token-2`, … and each new one ends the one before.
pub struct SchedulingService {
    pub http: HttpPartner,
    newest: Arc<AtomicU32>,
}

impl SchedulingService {
    pub fn new(tls: ServerConfig) -> Self {
        let http = HttpPartner::tls(tls);
        let newest = Arc::new(AtomicU32::new(0));
        let tokens = newest.clone();
        http.rule(move |request| match request.path.as_str() {
            "/oauth/token" => grant(request, &tokens),
            _ => resource(request, &tokens),
        });
        Self { http, newest }
    }

    /// The newest token is no longer good, though its time isn't over.
    pub fn revoke(&self) {
        self.newest.fetch_add(1, Ordering::SeqCst);
    }

    pub fn token_requests(&self) -> Vec<Received> {
        self.http.received().into_iter().filter(|request| request.path == "/oauth/token").collect()
    }

    /// What the resource accepted.
    pub fn tasks(&self) -> Vec<Received> {
        let accepted = |request: &Received| request.path != "/oauth/token" && request.answered == Some(200);
        self.http.received().into_iter().filter(accepted).collect()
    }
}

fn grant(request: &Received, newest: &AtomicU32) -> Answer {
    if !request.text().contains("grant_type=client_credentials") {
        return Answer::Json(400, r#"{"error":"unsupported_grant_type"}"#.to_owned());
    }
    let number = newest.fetch_add(1, Ordering::SeqCst) + 1;
    Answer::Json(200, format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#))
}

fn resource(request: &Received, newest: &AtomicU32) -> Answer {
    let wanted = format!("Bearer token-{}", newest.load(Ordering::SeqCst));
    Answer::Status(if request.header("authorization") == Some(wanted.as_str()) { 200 } else { 401 })
}
