//! The envelope: from the body of a publish request to events. CloudEvents 1.0 in structured, batch and binary
//! mode, a structured event a line, or plain data. Not here: HTTP itself, and what becomes of the events.
//!
//! What plain data does not say is filled in: `id` a UUID version 7, `source` `/hms-sync/<feed>`, `type` the feed's name.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::{NewEvent, json};

/// Names of content types that can be published.
pub const CONTENT_TYPES: [&str; 4] =
    ["application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson", "application/json"];

/// Longest id, in bytes.
const MAX_ID: usize = 256;
/// Longest other attribute, in bytes.
const MAX_ATTRIBUTE: usize = 4096;

/// Why a body is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("content type `{found}` can't be published: use one of {}", CONTENT_TYPES.join(", "))]
    Unsupported { found: String },
    #[error("{place}{what}")]
    Invalid { place: String, what: String },
}

/// The events of a request. `headers` are all its headers, names in lower case.
pub fn parse(
    feed: &str,
    content_type: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Vec<NewEvent>, EnvelopeError> {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let binary = headers.iter().any(|(name, _)| name == "ce-specversion");
    match media.as_str() {
        "application/cloudevents+json" => Ok(vec![structured(body).map_err(invalid(""))?]),
        "application/cloudevents-batch+json" => batch(body),
        "application/x-ndjson" => lines(body),
        "application/json" if binary => Ok(vec![from_headers(headers, body).map_err(invalid(""))?]),
        "application/json" => Ok(vec![plain(feed, headers, body).map_err(invalid(""))?]),
        _ if binary => {
            Err(invalid("")(format!("binary mode with content type `{media}`: the data must be application/json")))
        }
        _ => Err(EnvelopeError::Unsupported { found: content_type.chars().take(200).collect() }),
    }
}

fn invalid(place: &str) -> impl Fn(String) -> EnvelopeError + use<> {
    let place = place.to_owned();
    move |what| EnvelopeError::Invalid { place: place.clone(), what }
}

fn batch(body: &[u8]) -> Result<Vec<NewEvent>, EnvelopeError> {
    let items: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| invalid("")(format!("expected a JSON array of events: {error}")))?;
    let parse = |(index, item): (usize, &&RawValue)| {
        structured(item.get().as_bytes()).map_err(invalid(&format!("event {index} (counted from 0): ")))
    };
    not_empty(items.iter().enumerate().map(parse).collect::<Result<_, _>>()?)
}

fn lines(body: &[u8]) -> Result<Vec<NewEvent>, EnvelopeError> {
    let parse = |(index, line): (usize, &[u8])| structured(line).map_err(invalid(&format!("line {}: ", index + 1)));
    let lines = body.split(|&byte| byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    not_empty(lines.map(parse).collect::<Result<_, _>>()?)
}

fn not_empty(events: Vec<NewEvent>) -> Result<Vec<NewEvent>, EnvelopeError> {
    if events.is_empty() { Err(invalid("")("there is no event in the body".to_owned())) } else { Ok(events) }
}

/// One event with its envelope in JSON.
fn structured(bytes: &[u8]) -> Result<NewEvent, String> {
    let envelope = json::object(bytes)?;
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(&envelope).map_err(|error| error.to_string())?;
    let mut attributes = Attributes::default();
    let mut data = None;
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(json::object(value.get().as_bytes()).map_err(|error| format!("`data`: {error}"))?),
            "data_base64" => {
                return Err("`data_base64` is not supported: give the data as a JSON object in `data`".into());
            }
            // An attribute that is null is absent.
            _ if value.get() == "null" => {}
            _ => attributes.set(&name, attribute_text(&name, value.get())?)?,
        }
    }
    attributes.event(data.ok_or("`data` is missing: expected a JSON object")?)
}

fn attribute_text(name: &str, raw: &str) -> Result<String, String> {
    match json::describe(raw) {
        "a string" => serde_json::from_str(raw).map_err(|error| format!("`{name}`: {error}")),
        "a boolean" | "a number" => Ok(raw.to_owned()),
        other => Err(format!("`{name}` is {other}: expected a string, a number or a boolean")),
    }
}

/// Binary mode: the envelope in `ce-` headers, the body is the data.
fn from_headers(headers: &[(String, String)], body: &[u8]) -> Result<NewEvent, String> {
    let mut attributes = Attributes::default();
    for (name, value) in headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("ce-")?, value))) {
        attributes.set(name, decoded(name, value)?)?;
    }
    attributes.event(json::object(body).map_err(|error| format!("the body: {error}"))?)
}

/// Header values are percent-encoded, as the HTTP binding has it.
fn decoded(name: &str, value: &str) -> Result<String, String> {
    let text = percent_decode_str(value).decode_utf8().map_err(|_| format!("header `ce-{name}` is not UTF-8"))?;
    Ok(text.into_owned())
}

fn plain(feed: &str, headers: &[(String, String)], body: &[u8]) -> Result<NewEvent, String> {
    let mut attributes = Attributes::default();
    let given = |name: &str| headers.iter().find(|(header, _)| header.strip_prefix("ce-") == Some(name));
    for name in ["id", "source", "type", "subject", "time"] {
        if let Some((_, value)) = given(name) {
            attributes.set(name, decoded(name, value)?)?;
        }
    }
    let filled_in = [
        ("specversion", "1.0".to_owned()),
        ("id", uuid::Uuid::now_v7().to_string()),
        ("source", format!("/hms-sync/{feed}")),
        ("type", feed.to_owned()),
    ];
    for (name, value) in filled_in {
        attributes.0.entry(name.to_owned()).or_insert(value);
    }
    attributes.event(json::object(body).map_err(|error| format!("the body: {error}"))?)
}

/// Context attributes by name, each checked.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !plain {
            return Err(format!("`{name}` is not the name of an attribute: expected a-z and 0-9 only"));
        }
        let longest = if name == "id" { MAX_ID } else { MAX_ATTRIBUTE };
        if value.len() > longest {
            return Err(format!("`{name}` has {} bytes: expected at most {longest}", value.len()));
        }
        if value.chars().any(char::is_control) {
            return Err(format!("`{name}` holds a control character"));
        }
        if self.0.insert(name.to_owned(), value).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
        Ok(())
    }

    fn event(mut self, data: Bytes) -> Result<NewEvent, String> {
        match self.0.remove("specversion").as_deref() {
            Some("1.0") => {}
            Some(other) => return Err(format!("`specversion` is `{other}`: expected 1.0")),
            None => return Err("`specversion` is missing: expected 1.0".to_owned()),
        }
        if let Some(media) = self.0.remove("datacontenttype") {
            let json = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if json != "application/json" && !json.ends_with("+json") {
                return Err(format!("`datacontenttype` is `{media}`: expected application/json"));
            }
        }
        let mut required = |name: &str| match self.0.remove(name) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) => Err(format!("`{name}` is empty")),
            None => Err(format!("`{name}` is missing")),
        };
        let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
        let time = self.0.remove("time");
        if let Some(time) = &time
            && chrono::DateTime::parse_from_rfc3339(time).is_err()
        {
            return Err(format!("`time` is `{time}`: expected RFC 3339, such as 2024-04-30T09:00:00Z"));
        }
        let subject = self.0.remove("subject").filter(|subject| !subject.is_empty());
        Ok(NewEvent { id, source, kind, subject, time, extensions: self.0.into_iter().collect(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"e1","source":"/hms","type":"grant.updated","subject":"GR-42",
        "time":"2024-04-30T09:00:00Z","datacontenttype":"application/json","priority":7,"data":{"amount_usd":1250.10}}"#;

    fn one(content_type: &str, headers: &[(&str, &str)], body: &str) -> Result<NewEvent, EnvelopeError> {
        let headers: Vec<(String, String)> = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        parse("grants", content_type, &headers, body.as_bytes()).map(|mut events| events.remove(0))
    }

    fn why(content_type: &str, headers: &[(&str, &str)], body: &str) -> String {
        one(content_type, headers, body).unwrap_err().to_string()
    }

    #[test]
    fn all_modes_give_the_same_event() {
        let structured = one("application/cloudevents+json; charset=utf-8", &[], EVENT).unwrap();
        assert_eq!(structured.data, r#"{"amount_usd":1250.10}"#);
        assert_eq!(structured.extensions, [("priority".to_owned(), "7".to_owned())]);
        assert_eq!(one("application/cloudevents-batch+json", &[], &format!("[{EVENT}]")).unwrap(), structured);
        assert_eq!(one("application/x-ndjson", &[], &EVENT.replace('\n', " ")).unwrap(), structured);
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "e1"),
            ("ce-source", "/hms"),
            ("ce-type", "grant.updated"),
            ("ce-subject", "GR%2D42"),
            ("ce-time", "2024-04-30T09:00:00Z"),
            ("ce-priority", "7"),
        ];
        assert_eq!(one("application/json", &headers, r#"{"amount_usd": 1250.10}"#).unwrap(), structured);
    }

    #[test]
    fn plain_data_gets_an_envelope_and_may_bring_its_id() {
        let event = one("application/json", &[("ce-id", "mine")], "{}").unwrap();
        assert_eq!((&*event.id, &*event.source, &*event.kind), ("mine", "/hms-sync/grants", "grants"));
        let a = one("application/json", &[], "{}").unwrap();
        let b = one("application/json", &[], "{}").unwrap();
        assert_ne!(a.id, b.id);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let ce = "application/cloudevents+json";
        let with = |from: &str, to: &str| why(ce, &[], &EVENT.replace(from, to));
        assert_eq!(with(r#""1.0""#, r#""0.3""#), "`specversion` is `0.3`: expected 1.0");
        assert_eq!(with(r#""id":"e1","#, ""), "`id` is missing");
        assert_eq!(with(r#""e1""#, r#""""#), "`id` is empty");
        assert_eq!(with(r#""e1""#, r#""a\nb""#), "`id` holds a control character");
        assert_eq!(with("e1", &"x".repeat(257)), "`id` has 257 bytes: expected at most 256");
        assert_eq!(
            with("priority", "Priority"),
            "`Priority` is not the name of an attribute: expected a-z and 0-9 only"
        );
        assert_eq!(
            with(r#""priority":7"#, r#""priority":[]"#),
            "`priority` is an array: expected a string, a number or a boolean"
        );
        assert_eq!(
            with("2024-04-30T09", "2024-04-30 at 9"),
            "`time` is `2024-04-30 at 9:00:00Z`: expected RFC 3339, such as 2024-04-30T09:00:00Z"
        );
        assert_eq!(with(r#"{"amount_usd":1250.10}"#, "[1]"), "`data`: expected a JSON object, found an array");
        assert_eq!(with("application/json", "text/xml"), "`datacontenttype` is `text/xml`: expected application/json");
        assert_eq!(why("application/x-ndjson", &[], "\n{}\n"), "line 2: `data` is missing: expected a JSON object");
        assert_eq!(why("application/cloudevents-batch+json", &[], "[]"), "there is no event in the body");
        assert!(why("application/cloudevents-batch+json", &[], "[{}]").starts_with("event 0 (counted from 0): "));
        assert!(why("text/plain", &[], "x").starts_with("content type `text/plain` can't be published: use one of "));
    }
}
