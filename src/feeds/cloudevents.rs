//! The envelope: from a publisher's HTTP request to checked events, for the content types of the admin endpoint.
//! It follows CloudEvents 1.0 (JSON format, JSON batch format, HTTP binding). Not here: whether an id is known
//! already, which is the log's affair.
//!
//! Decided here, where the specification leaves it open:
//! - A plain JSON body is an event of source `/hms-sync/publish`, whose type is the feed's name and whose id is
//!   `ce-id` or a new UUIDv7. Any other `ce-*` header means binary mode, which needs `ce-specversion`.
//! - `dataschema` travels as an extension. `datacontenttype` has to be JSON and is not kept: what partners get
//!   is the projection, which is `application/json`.
//! - Blank lines of NDJSON are passed over; a body with nothing else is refused. An empty batch is taken.
//! - In the structured types `ce-*` headers are not looked at: the body says it all.

mod attributes;
mod binary;
mod error;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use hms_actors::id::FeedName;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::attributes::Attributes;
pub use self::error::{EnvelopeError, Place};
use super::NewEvent;
use super::json::{self, MAX_DEPTH};

/// The content types that are taken.
pub const CONTENT_TYPES: [&str; 4] =
    [STRUCTURED, BATCH, NDJSON, "application/json (plain, or with ce-* headers in binary mode)"];

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const NDJSON: &str = "application/x-ndjson";

/// The headers of a request that say something about events: `content-type` and `ce-*`, names in lower case,
/// in the order in which they came.
pub type Headers = [(String, Vec<u8>)];

/// The events of a request, all of them or none.
pub fn read(feed: &FeedName, headers: &Headers, body: &[u8]) -> Result<Vec<NewEvent>, EnvelopeError> {
    let content_type = binary::content_type(headers)?;
    match content_type.as_str() {
        STRUCTURED => Ok(vec![structured(body)?]),
        BATCH => batch(body),
        NDJSON => lines(body),
        other if attributes::is_json(other) => {
            let attributes = binary::attributes(headers, feed).map_err(EnvelopeError::request)?;
            Ok(vec![attributes.into_event(data(body)?).map_err(EnvelopeError::request)?])
        }
        other => Err(EnvelopeError::content_type(other)),
    }
}

/// A body that is the data.
fn data(body: &[u8]) -> Result<Bytes, EnvelopeError> {
    let compacted = json::compact(body, MAX_DEPTH).map_err(|error| EnvelopeError::json(body, 1, 0, error))?;
    object(Bytes::from(compacted)).map_err(EnvelopeError::request)
}

fn structured(body: &[u8]) -> Result<NewEvent, EnvelopeError> {
    let text = json::compact(body, MAX_DEPTH + 1).map_err(|error| EnvelopeError::json(body, 1, 0, error))?;
    event(&text).map_err(EnvelopeError::request)
}

fn batch(body: &[u8]) -> Result<Vec<NewEvent>, EnvelopeError> {
    let text = json::compact(body, MAX_DEPTH + 2).map_err(|error| EnvelopeError::json(body, 1, 0, error))?;
    let events: Vec<&RawValue> = serde_json::from_slice(&text).map_err(|_| {
        EnvelopeError::request(format!("a batch must be a JSON array of events, found {}", json::kind(&text)))
    })?;
    let numbered = events.iter().zip(1..);
    numbered.map(|(raw, n)| event(raw.get().as_bytes()).map_err(|message| EnvelopeError::event(n, message))).collect()
}

fn lines(body: &[u8]) -> Result<Vec<NewEvent>, EnvelopeError> {
    let mut events = Vec::new();
    let mut start = 0;
    for (line, number) in body.split(|&byte| byte == b'\n').zip(1..) {
        let byte = start;
        start += line.len() + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let text =
            json::compact(line, MAX_DEPTH + 1).map_err(|error| EnvelopeError::json(line, number, byte, error))?;
        events.push(event(&text).map_err(|message| EnvelopeError::line(number, message))?);
    }
    if events.is_empty() {
        return Err(EnvelopeError::request("the body holds no event: send one JSON object a line"));
    }
    Ok(events)
}

/// An event in the JSON format, compacted.
fn event(text: &[u8]) -> Result<NewEvent, String> {
    let Members(members) = serde_json::from_slice(text).map_err(|_| {
        format!("an event must be a JSON object with CloudEvents attributes, found {}", json::kind(text))
    })?;
    let mut attributes = Attributes::default();
    let mut data = None;
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(value),
            "data_base64" => return Err("`data_base64` is not taken: send a JSON object as `data`".to_owned()),
            _ => attributes.set_json(&name, value.get())?,
        }
    }
    attributes.need_specversion("`specversion`")?;
    let data = data.ok_or("`data` is missing: send a JSON object")?;
    attributes.into_event(object(Bytes::copy_from_slice(data.get().as_bytes()))?)
}

fn object(data: Bytes) -> Result<Bytes, String> {
    match json::kind(&data) {
        "an object" => Ok(data),
        other => Err(format!("the data must be a JSON object, found {other}")),
    }
}

/// The members of an object, in order, their values as written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
