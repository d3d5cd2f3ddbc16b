//! What differs between two events of the same id. Not about bytes: the order of keys in JSON says
//! nothing. Numbers are compared as they are written: it is money, and `1.10` may be meant.

use std::collections::BTreeMap;

use hms_actors::event::Event;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::draft::Draft;
use super::record::View;

/// Data nested deeper is compared byte for byte.
const DEPTH: u32 = 64;

/// What a repeat must share with the event that it repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    source: &'a str,
    kind: &'a str,
    subject: Option<&'a str>,
    data: &'a [u8],
}

impl<'a> From<&View<'a>> for Content<'a> {
    fn from(view: &View<'a>) -> Self {
        Self { source: view.source, kind: view.kind, subject: view.subject, data: view.data }
    }
}

impl<'a> From<&'a Draft<'_>> for Content<'a> {
    fn from(event: &'a Draft<'_>) -> Self {
        Self { source: &event.source, kind: &event.kind, subject: event.subject.as_deref(), data: &event.data }
    }
}

impl<'a> From<&'a Event> for Content<'a> {
    fn from(event: &'a Event) -> Self {
        Self { source: &event.source, kind: &event.kind, subject: event.subject.as_deref(), data: &event.data }
    }
}

impl Content<'_> {
    /// Tells it from every other. It says more than `difference`: the order of keys too.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let subject = self.subject.map_or(["", ""], |subject| ["=", subject]);
        for [mark, text] in [["", self.source], ["", self.kind], subject] {
            hash.update(((mark.len() + text.len()) as u64).to_le_bytes());
            hash.update(mark);
            hash.update(text);
        }
        hash.update(self.data);
        hash.finalize().into()
    }
}

/// The first attribute that tells the events apart.
pub(super) fn difference(one: Content<'_>, other: Content<'_>) -> Option<&'static str> {
    if one.source != other.source {
        Some("source")
    } else if one.kind != other.kind {
        Some("type")
    } else if one.subject != other.subject {
        Some("subject")
    } else if !same_bytes(one.data, other.data) {
        Some("data")
    } else {
        None
    }
}

fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    let text = std::str::from_utf8;
    one == other || matches!((text(one), text(other)), (Ok(one), Ok(other)) if same_json(one, other, DEPTH))
}

fn same_json(one: &str, other: &str, depth: u32) -> bool {
    let (one, other) = (one.trim(), other.trim());
    if one == other {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let same = |one: &RawValue, other: &RawValue| same_json(one.get(), other.get(), depth - 1);
    match (one.as_bytes().first(), other.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => both::<BTreeMap<String, &RawValue>>(one, other).is_some_and(|(one, other)| {
            one.len() == other.len()
                && one.iter().zip(&other).all(|((key, one), (other_key, other))| key == other_key && same(one, other))
        }),
        (Some(b'['), Some(b'[')) => both::<Vec<&RawValue>>(one, other).is_some_and(|(one, other)| {
            one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| same(one, other))
        }),
        (Some(b'"'), Some(b'"')) => both::<String>(one, other).is_some_and(|(one, other)| one == other),
        _ => false,
    }
}

fn both<'a, T: serde::Deserialize<'a>>(one: &'a str, other: &'a str) -> Option<(T, T)> {
    Some((serde_json::from_str(one).ok()?, serde_json::from_str(other).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_and_escapes_do_not_matter_but_digits_do() {
        let same = |one: &str, other: &str| same_bytes(one.as_bytes(), other.as_bytes());
        assert!(same(
            r#"{"a":1,"b":{"c":[1,{"x":1,"y":2}],"d":"é"}}"#,
            r#"{"b":{"d":"\u00e9","c":[1,{"y":2,"x":1}]},"a":1}"#
        ));
        assert!(!same(r#"{"a":1.10}"#, r#"{"a":1.1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":"1"}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(!same(r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#));
        assert!(!same(r#"{"a":null}"#, r#"{"a":false}"#));
    }

    #[test]
    fn json_of_any_depth_is_compared_without_harm() {
        let deep = |n: usize, leaf: &str| format!("{}{leaf}{}", "[".repeat(n), "]".repeat(n));
        let (one, other) = (deep(100_000, "1"), deep(100_000, "2"));
        assert!(same_bytes(one.as_bytes(), one.as_bytes()));
        assert!(!same_bytes(one.as_bytes(), other.as_bytes()));
    }
}
