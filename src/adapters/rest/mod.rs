//! The REST adapter: a partner that takes requests over HTTP/1.1 and answers with a status.
//!
//! request.rs makes the request, auth.rs and token.rs its auth header, client.rs carries it over tls.rs, negotiated.rs knows
//! what TLS agreed on, classify.rs says what came back. Here they meet in one attempt. Not here: when an attempt is made, and what follows from its outcome.

mod auth;
mod classify;
mod client;
mod cloudevents;
#[cfg(any(test, feature = "fuzzed"))]
pub(crate) mod fuzzed;
mod negotiated;
mod request;
mod template;
mod tls;
mod token;

use std::cell::RefCell;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::HeaderName;
use sha2::{Digest, Sha256};

use hms_actors::event::{Event, Key};
use hms_actors::failure::Failure;
use hms_actors::id::TargetKey;
use hms_actors::ports::{Body, Clock, Request, RequestPartner, Sent};
use hms_actors::receipt::{Receipt, Transport};

use self::auth::Auth;
pub use self::auth::FindSecret;
use self::client::{Answer, Endpoint};
use self::request::{Encoder, Prepared};
use self::tls::ClientCert;
pub use self::tls::Tls;
use crate::config::ConnectTo;
use crate::egress::Egress;
use crate::fault;
use crate::formats::Shape;
use crate::recipe::model::RestTarget;

/// So many events are made into bodies on a thread of their own. With fewer the change of threads costs more than they do.
const WORTH_A_THREAD: usize = 64;

/// What all REST partners of a node share.
pub struct RestContext {
    pub secrets: Arc<dyn FindSecret>,
    pub connect_to: ConnectTo,
    pub egress: Egress,
    pub tls: Arc<Tls>,
    pub clock: Arc<dyn Clock + Send + Sync>,
}

/// One target, on one arbiter: its connections and its token live as long as it does.
pub struct RestPartner {
    encoder: Encoder,
    auth: Option<Auth>,
    endpoint: Endpoint,
    context: Arc<RestContext>,
}

/// A request as it would be sent, with a placeholder for the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RestPartner {
    /// `key` and the rest are those of the recipe's revision that shapes the requests. Cheap: nothing is connected.
    pub fn new(key: TargetKey, shape: Shape, target: &RestTarget, context: Arc<RestContext>) -> Result<Self, Failure> {
        let name = key.target.clone();
        let encoder = encoder(key, shape, target)?;
        let url = encoder.url().base();
        let client_cert = target.client_cert.as_ref().map(|cert| ClientCert {
            name: cert.clone(),
            target: name.clone(),
            host: url.host_str().unwrap_or_default().to_owned(),
            context: context.clone(),
            kept: RefCell::default(),
        });
        let auth = target.auth.as_ref().map(|auth| Auth::new(&name, auth, url, target.timeout, context.clone()));
        let endpoint = Endpoint::new(url, target.timeout, &context)?.with_client_cert(client_cert);
        Ok(Self { auth: auth.transpose()?, endpoint, encoder, context })
    }

    /// One attempt. A token that is refused is replaced, once.
    async fn attempt(&self, prepared: Prepared) -> Result<Answer, Failure> {
        let Some(auth) = &self.auth else {
            let answer = self.endpoint.send(prepared, 0).await?;
            return self.judged(answer, str::to_owned);
        };
        let mut credential = auth.credential().await?;
        let mut answer = self.endpoint.send(credential.sign(&prepared), credential.generation).await?;
        if classify::is_unauthorized(&answer) && auth.forget(&credential).await {
            credential = auth.credential().await?;
            answer = self.endpoint.send(credential.sign(&prepared), credential.generation).await?;
        }
        self.judged(answer, |text| credential.mask.apply(text))
    }

    fn judged(&self, answer: Answer, clean: impl FnOnce(&str) -> String) -> Result<Answer, Failure> {
        let about_event = self.encoder.url().has_field();
        match classify::failure(&answer, clean, about_event, self.context.clock.now()) {
            Some(failure) => Err(failure),
            None => Ok(answer),
        }
    }
}

#[async_trait(?Send)]
impl RequestPartner for RestPartner {
    fn key(&self, event: &Event) -> Key {
        self.encoder.shape().key(event)
    }

    fn seal(&self) -> Result<u32, Failure> {
        self.encoder.shape().seal()
    }

    async fn render(&self, requests: Vec<Arc<[Event]>>, seal: u32) -> Vec<Option<Body>> {
        if requests.iter().map(|events| events.len()).sum::<usize>() < WORTH_A_THREAD {
            return Vec::new();
        }
        let content = self.encoder.content().clone();
        let rendering = tokio::task::spawn_blocking(move || content.bodies(&requests, seal));
        rendering.await.unwrap_or_default()
    }

    /// A token and each request have the target's timeout for themselves, so all ends within four of them.
    async fn send(&self, request: &Request) -> Result<Sent, Failure> {
        fault::adapter("adapter.rest", &request.target);
        let idempotency_key = self.encoder.idempotency_key(&request.events, request.replay);
        let body = request.body.clone();
        let (prepared, payload_sha256) = self.encoder.prepare(&request.events, &idempotency_key, request.seal, body)?;
        let url = self.encoder.url().text(&prepared.url);
        let answer = self.attempt(prepared).await.map_err(|failure| failure.of(payload_sha256))?;
        Ok(Sent {
            payload_sha256,
            receipt: Receipt::Rest {
                status: answer.status.as_u16(),
                url,
                idempotency_key,
                // Of what was read of the body: at most its first 64 KiB.
                response_sha256: Sha256::digest(&answer.body).into(),
                duration_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
                transport: answer.agreed.map(|algorithms| Transport { protocol: "tls", algorithms }),
            },
        })
    }
}

/// What would be sent for these events, without a node, a network or a secret.
pub fn preview(key: TargetKey, shape: Shape, target: &RestTarget, events: &[Event]) -> Result<Preview, Failure> {
    let name = key.target.clone();
    let encoder = encoder(key, shape, target)?;
    let (prepared, _) = encoder.prepare(events, &encoder.idempotency_key(events, false), 0, None)?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut headers: Vec<_> =
        prepared.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    if let Some(auth) = &target.auth {
        headers.push((auth::header(auth)?.to_string(), auth::shown(&name, auth)));
    }
    Ok(Preview { method: prepared.method.to_string(), url: prepared.url.into(), headers, body: prepared.body.into() })
}

fn encoder(key: TargetKey, shape: Shape, target: &RestTarget) -> Result<Encoder, Failure> {
    if let Some(auth) = &target.auth {
        let ours: HeaderName = auth::header(auth)?;
        if target.headers.iter().any(|(name, _)| ours.as_str().eq_ignore_ascii_case(name)) {
            return Err(Failure::configuration(format!("headers: `{ours}` is the header of `auth`")));
        }
    }
    Encoder::new(key, shape, target)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
