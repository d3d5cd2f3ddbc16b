//! The key that an event's order is kept by. It is compared and forgotten: never sent, never stored.

use sha2::{Digest, Sha256};

use hms_actors::event::{Event, Key};

use super::object::Value;

/// Longer keys are kept as their hash: a delivery holds the keys of all its events in memory.
const LONGEST: usize = 64;

/// The value of `field`, else the subject, else the event itself.
pub(super) fn of(event: &Event, field: Option<&str>) -> Key {
    field
        .and_then(|field| of_field(event, field))
        .or_else(|| event.subject.as_deref().map(|subject| value(TEXT, subject)))
        .unwrap_or(Key::Own(event.offset))
}

fn of_field(event: &Event, field: &str) -> Option<Key> {
    let found = Value::of(event, field)?;
    (!found.is_null()).then(|| from_value(found))
}

/// The string "7" and the number 7 are different keys; `"\u0041"` and `"A"` are the same one.
fn from_value(found: Value<'_>) -> Key {
    match found.text() {
        Ok(text) if found.raw().starts_with('"') => value(TEXT, &text),
        _ => value(JSON, found.raw()),
    }
}

const TEXT: u8 = b't';
const JSON: u8 = b'j';

fn value(kind: u8, text: &str) -> Key {
    let mut bytes = vec![kind];
    if text.len() > LONGEST {
        bytes.extend_from_slice(&Sha256::digest(text));
    } else {
        bytes.extend_from_slice(text.as_bytes());
    }
    Key::Value(bytes.into())
}
