//! CloudEvents 1.0 on the wire: the `ce-*` headers of one event, the envelope of a batch, and the trace that a
//! request belongs to. Subject and extensions stay at home, unless the shape tells them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use hms_actors::event::Event;

/// What the HTTP binding (3.1.3.2) wants encoded, beside all that isn't ASCII.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// An attribute as a header value.
pub(super) fn encoded(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, HEADER).into()
}

/// An id as one part of an idempotency key, whose parts are divided by `/`.
pub(super) fn key_part(id: &str) -> Cow<'_, str> {
    const KEY: &AsciiSet = &HEADER.add(b'/');
    utf8_percent_encode(id, KEY).into()
}

/// Subject and extensions, as far as the target may be told of them.
pub(super) fn told<'a>(
    event: &'a Event,
    tells: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let subject = event.subject.as_deref().map(|subject| ("subject", subject));
    let extensions = event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    subject.into_iter().chain(extensions).filter(move |(name, _)| tells(name))
}

/// The JSON envelope of an event, around data that is written already.
#[derive(Serialize)]
pub(super) struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Cow<'a, str>,
    #[serde(flatten)]
    told: BTreeMap<&'a str, &'a str>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

impl<'a> Envelope<'a> {
    pub fn new(event: &'a Event, tells: impl Fn(&str) -> bool + 'a, data: &'a RawValue) -> Self {
        Self {
            specversion: "1.0",
            id: &event.id,
            source: &event.source,
            kind: &event.kind,
            time: time(event),
            told: told(event, tells).collect(),
            datacontenttype: "application/json",
            data,
        }
    }
}

/// The publisher's time, else the moment at which this node accepted the event.
pub(super) fn time(event: &Event) -> Cow<'_, str> {
    match &event.time {
        Some(time) => Cow::Borrowed(time),
        None => {
            let moment = DateTime::from_timestamp_millis(event.published.0).unwrap_or_default();
            Cow::Owned(moment.to_rfc3339_opts(SecondsFormat::Millis, true))
        }
    }
}

/// The trace of a request: the one that a single event brings along, else one that is made from the first event
/// (the trace) and the request's key (the span), so that every retry belongs to the same.
pub(super) fn traceparent(events: &[Event], idempotency_key: &str) -> String {
    if let [event] = events
        && let Some((_, found)) = event.extensions.iter().find(|(name, _)| name == "traceparent")
        && is_traceparent(found)
    {
        return found.clone();
    }
    let mut trace = Sha256::new();
    if let Some(event) = events.first() {
        trace.update(&*event.source);
        trace.update([0]);
        trace.update(&event.id);
    }
    // Not sampled: this node records no spans.
    let mut made = String::with_capacity(55);
    made.push_str("00-");
    made.extend(hex_of(&trace.finalize()[..16]));
    made.push('-');
    made.extend(hex_of(&Sha256::digest(idempotency_key)[..8]));
    made.push_str("-00");
    made
}

fn hex_of(bytes: &[u8]) -> impl Iterator<Item = char> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(DIGITS[usize::from(half)]))
}

/// `version-trace-parent-flags` in lower-case hex, as W3C Trace Context wants it; ids are not all zero.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    };
    let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|b| b != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        [version, trace, parent, flags] => {
            is_hex(version, 2) && version != "ff" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::rest::testing::event;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with_trace(trace: &str) -> Event {
        Event { extensions: vec![("traceparent".into(), trace.into())], ..event("e-1", "{}") }
    }

    #[test]
    fn attributes_are_encoded_as_the_http_binding_says() {
        assert_eq!(encoded("Euro € 😀 \"x\" 50%\u{7f}"), "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22x%22%2050%25%7F");
        assert_eq!(encoded("a/b:c~!'()"), "a/b:c~!'()");
    }

    proptest! {
        #[test]
        fn any_attribute_makes_a_header_and_comes_back(text: String) {
            let header = encoded(&text);
            prop_assert!(reqwest::header::HeaderValue::from_str(&header).is_ok());
            prop_assert_eq!(percent_decode_str(&header).decode_utf8().unwrap(), &*text);
        }
    }

    #[test]
    fn the_time_is_the_publishers_else_that_of_acceptance() {
        assert_eq!(time(&event("e-1", "{}")), "2026-11-05T08:00:00.250Z");
        assert_eq!(
            time(&Event { time: Some("2026-01-01T00:00:00Z".into()), ..event("e-1", "{}") }),
            "2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_valid_trace_is_handed_on_and_a_bad_one_is_replaced() {
        assert_eq!(traceparent(&[with_trace(GIVEN)], "k"), GIVEN);
        let bad = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
        ];
        for trace in bad {
            let made = traceparent(&[with_trace(trace)], "k");
            assert!(is_traceparent(&made) && made != trace, "{trace}");
        }
    }

    #[test]
    fn a_made_trace_is_that_of_the_event_and_its_span_that_of_the_request() {
        let made = |id: &str, key: &str| traceparent(&[event(id, "{}")], key);
        assert_eq!(made("e-1", "r/a/e-1"), made("e-1", "r/a/e-1"));
        assert_eq!(made("e-1", "r/a/e-1")[..36], made("e-1", "r/b/e-1")[..36]);
        assert_ne!(made("e-1", "r/a/e-1"), made("e-1", "r/b/e-1"));
        assert_ne!(made("e-1", "k")[..36], made("e-2", "k")[..36]);
    }
}
