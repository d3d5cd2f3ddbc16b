//! Formats: from an event's data to a partner's bytes. Projection and renaming are compiled once, from the
//! recipe; values are carried as published, digit for digit.

use hms_actors::event::{Event, Key};
use hms_actors::failure::Failure;
use hms_actors::settings::LineEnd;

use crate::recipe::model::Source;

/// A recipe's projection (`fields`, `required`) and a target's renaming (`map`), compiled.
#[derive(Debug, Clone)]
pub struct Shape {}

impl Shape {
    pub fn new(_source: &Source, _map: &[(String, String)]) -> Self {
        Self {}
    }
    /// What the order of events is kept by: the `key` field, else the subject, else the event itself.
    pub fn key(&self, event: &Event) -> Key {
        Key::Own(event.offset)
    }
    /// The projected, renamed object as compact JSON. An absent field is absent.
    pub fn json(&self, _event: &Event, _out: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }
    /// One CSV record (RFC 4180) with its line end. Null and absent are empty, nested values are JSON text.
    pub fn csv(&self, _event: &Event, _end: LineEnd, _out: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }
    /// The CSV header record with its line end.
    pub fn csv_header(&self, _end: LineEnd, _out: &mut Vec<u8>) {}
    /// The text of a top-level field for use in a url: strings without quotes, the rest as published.
    /// `None` if it is absent or null.
    pub fn text(&self, _event: &Event, _field: &str) -> Option<String> {
        None
    }
}
