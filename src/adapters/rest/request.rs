//! From events to one HTTP request: method, url, headers, body. The only place that does it: what is sent and
//! what `hms sync check` shows are the same. Not here: the auth header, and how a request travels.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use url::Url;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{TargetKey, Timestamp};
use hms_actors::ports::Body;

use super::cloudevents::{self, Envelope};
use super::template::Template;
use crate::formats::{Shape, Writer};
use crate::recipe::model::{self, Batch, BatchFormat, RestTarget};

const USER_AGENT: &str = concat!("hms-sync/", env!("CARGO_PKG_VERSION"));

/// One request. The same events give the same one, over every retry and restart.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub method: Method,
    /// The recipe's url, whatever `connect_to` says.
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What becomes of events in a body. Shared with the thread that makes bodies ahead.
#[derive(Debug)]
pub(super) struct Content {
    shape: Shape,
    batch: Batch,
}

/// A recipe's target, compiled: what makes requests of events.
#[derive(Debug)]
pub(super) struct Encoder {
    /// What every key begins with.
    prefix: String,
    content: Arc<Content>,
    url: Template,
    method: Method,
    /// Those of every request, in their order; where they differ there is room for the value.
    headers: HeaderMap,
    source: Kept<Arc<str>>,
    kind: Kept<Arc<str>>,
    time: Kept<(Option<String>, Timestamp)>,
}

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
static CE_ID: HeaderName = HeaderName::from_static("ce-id");
static CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
static CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
static CE_TIME: HeaderName = HeaderName::from_static("ce-time");

/// The header of an attribute that is mostly the one of the event before.
#[derive(Debug)]
struct Kept<T>(RefCell<Option<(T, HeaderValue)>>);

impl<T> Kept<T> {
    fn of(&self, is: impl FnOnce(&T) -> bool, text: impl FnOnce() -> (T, HeaderValue)) -> HeaderValue {
        let mut kept = self.0.borrow_mut();
        match &*kept {
            Some((of, value)) if is(of) => value.clone(),
            _ => kept.insert(text()).1.clone(),
        }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl Encoder {
    pub fn new(key: TargetKey, shape: Shape, target: &RestTarget) -> Result<Self, Failure> {
        let method = match target.method {
            model::Method::Post => Method::POST,
            model::Method::Put => Method::PUT,
            model::Method::Patch => Method::PATCH,
        };
        let url = Template::parse(&target.url)?;
        let mut headers = request_headers(url.base(), 0, content_type(target.batch.format));
        for (name, value) in &target.headers {
            let (name, value) = own_header(name, value)?;
            headers.insert(name, value);
        }
        let room = HeaderValue::from_static("");
        let (prefix, content) = (format!("{key}/"), Arc::new(Content { shape, batch: target.batch }));
        let (source, kind, time) = Default::default();
        let mut encoder = Self { prefix, content, url, method, headers, source, kind, time };
        let single = [&CE_SPECVERSION, &CE_ID, &CE_TYPE, &CE_SOURCE, &CE_TIME];
        let single = single.into_iter().take(if encoder.is_single() { 5 } else { 0 });
        for name in [&TRACEPARENT, &IDEMPOTENCY_KEY].into_iter().chain(single) {
            encoder.headers.insert(name, room.clone());
        }
        Ok(encoder)
    }

    pub fn shape(&self) -> &Shape {
        &self.content.shape
    }

    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    pub fn url(&self) -> &Template {
        &self.url
    }

    /// The request for these events, in order, without its auth header. The same `seal` gives the same bytes.
    /// `key` is [`Self::idempotency_key`] of them, `body` what [`Content::bodies`] gave for them. With the hash of its body.
    pub fn prepare(
        &self,
        events: &[Event],
        key: &str,
        seal: u32,
        body: Option<Body>,
    ) -> Result<(Prepared, [u8; 32]), Failure> {
        let writer = self.content.shape.open(seal)?;
        let url = self.url_for(&writer, events)?;
        let Body { bytes: body, sha256 } = body.map_or_else(|| self.content.body(&writer, events), Ok)?;
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(&TRACEPARENT, value_of(&cloudevents::traceparent(events, key)));
        headers.insert(&IDEMPOTENCY_KEY, value_of(key));
        if let ([event], true) = (events, self.is_single()) {
            self.tell(event, &mut headers);
        }
        Ok((Prepared { method: self.method.clone(), url, headers, body }, sha256))
    }

    /// The `ce-*` headers of a single event.
    fn tell(&self, event: &Event, headers: &mut HeaderMap) {
        let made = |text: &str| value_of(&cloudevents::encoded(text));
        let same = |text: &Arc<str>| (text.clone(), made(text));
        let time = || ((event.time.clone(), event.published), made(&cloudevents::time(event)));
        headers.insert(&CE_SPECVERSION, HeaderValue::from_static("1.0"));
        headers.insert(&CE_ID, made(&event.id));
        headers.insert(&CE_TYPE, self.kind.of(|kind| *kind == event.kind, || same(&event.kind)));
        headers.insert(&CE_SOURCE, self.source.of(|source| *source == event.source, || same(&event.source)));
        headers.insert(&CE_TIME, self.time.of(|(time, at)| (time, *at) == (&event.time, event.published), time));
        for (name, value) in cloudevents::told(event, |name| self.content.shape.tells(name)) {
            let name = HeaderName::from_bytes(format!("ce-{name}").as_bytes());
            headers.insert(name.expect("an attribute's name is a-z 0-9"), made(value));
        }
    }

    /// `<recipe>/<target>/<event id>`, or of a batch `<recipe>/<target>/<first offset>-<last offset>`. A dead letter
    /// that is delivered goes under the key of a single event.
    pub fn idempotency_key(&self, events: &[Event], replay: bool) -> Arc<str> {
        let prefix = &self.prefix;
        match events {
            [event] if replay || self.content.batch.max_events == 1 => {
                [prefix.as_str(), &cloudevents::key_part(&event.id)].concat().into()
            }
            [first, .., last] => format!("{prefix}{}-{}", first.offset, last.offset).into(),
            [only] => format!("{prefix}{}-{}", only.offset, only.offset).into(),
            [] => prefix.trim_end_matches('/').into(),
        }
    }

    /// Whether a request is one event in CloudEvents' binary mode, with its attributes in headers.
    fn is_single(&self) -> bool {
        let Batch { max_events, format } = self.content.batch;
        max_events == 1 && format != BatchFormat::CloudEventsBatch
    }

    /// Events whose url differs can't share a request: refused, a batch is split until they don't.
    fn url_for(&self, writer: &Writer<'_>, events: &[Event]) -> Result<Url, Failure> {
        let Some(first) = events.first() else { return Ok(self.url.base().clone()) };
        let url = self.url.fill(writer, first)?;
        if self.url.has_field() {
            for event in &events[1..] {
                if self.url.fill(writer, event)? != url {
                    let why = format!("events `{}` and `{}` of one batch have different urls", first.id, event.id);
                    return Err(Failure::refused(why));
                }
            }
        }
        Ok(url)
    }
}

impl Content {
    /// Those of several requests, each begun under `seal`; `None` for one that can't be made.
    pub fn bodies(&self, requests: &[Arc<[Event]>], seal: u32) -> Vec<Option<Body>> {
        let Ok(writer) = self.shape.open(seal) else { return Vec::new() };
        requests.iter().map(|events| self.body(&writer, events).ok()).collect()
    }

    fn body(&self, writer: &Writer<'_>, events: &[Event]) -> Result<Body, Failure> {
        // Mostly a projection is no longer than what it is of; brackets, commas and names at the partner are.
        let mut out = Vec::with_capacity(events.iter().map(|event| event.data.len() + 16).sum());
        match self.batch.format {
            BatchFormat::Object => match events {
                [event] => writer.json(event, &mut out)?,
                _ => return Err(Failure::configuration("batch format `object` holds one event a request")),
            },
            BatchFormat::JsonArray => array(events, &mut out, |event, out| writer.json(event, out))?,
            BatchFormat::Ndjson => {
                for event in events {
                    writer.json(event, &mut out)?;
                    out.push(b'\n');
                }
            }
            BatchFormat::CloudEventsBatch => array(events, &mut out, |event, out| self.envelope(writer, event, out))?,
        }
        Ok(Body { sha256: Sha256::digest(&out).into(), bytes: out.into() })
    }

    fn envelope(&self, writer: &Writer<'_>, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut data = Vec::new();
        writer.json(event, &mut data)?;
        let data: &RawValue = serde_json::from_slice(&data).expect("the shape writes JSON");
        serde_json::to_writer(out, &Envelope::new(event, |name| self.shape.tells(name), data))
            .expect("an envelope into memory");
        Ok(())
    }
}

fn content_type(format: BatchFormat) -> &'static str {
    match format {
        BatchFormat::Object | BatchFormat::JsonArray => "application/json",
        BatchFormat::Ndjson => "application/x-ndjson",
        BatchFormat::CloudEventsBatch => "application/cloudevents-batch+json",
    }
}

/// Host, agent, what comes and how long it is: all that goes out is in our hands, nothing is left to a library.
pub(super) fn request_headers(url: &Url, length: usize, content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, value_of(&authority(url)));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers
}

/// The host, with the port where it isn't the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn array(
    events: &[Event],
    out: &mut Vec<u8>,
    mut write: impl FnMut(&Event, &mut Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    out.push(b'[');
    for (place, event) in events.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(event, out)?;
    }
    out.push(b']');
    Ok(())
}

/// What is made here is ASCII without control characters: encoded names, ids and numbers.
fn value_of(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("encoded text is a header value")
}

fn own_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let wrong = |_| Failure::configuration(format!("header `{name}`: its value holds more than visible ASCII"));
    Ok((header_name(name)?, HeaderValue::from_str(value).map_err(wrong)?))
}

/// The name of a header that a recipe may set. What the courier itself says about a request can't be said otherwise.
pub(super) fn header_name(name: &str) -> Result<HeaderName, Failure> {
    const OURS: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let wrong = |why: &str| Failure::configuration(format!("header `{}`: {why}", name.escape_debug()));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("this is not the name of a header"))?;
    if OURS.contains(&parsed.as_str()) || parsed.as_str().starts_with("ce-") {
        return Err(wrong("the courier sets it itself"));
    }
    Ok(parsed)
}
