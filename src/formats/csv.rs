//! CSV records as RFC 4180 describes them, in UTF-8. Not which columns there are: that is shape.rs.
//!
//! Text is carried as published. A cell with a comma, a quote or a line break is quoted, so a record can span
//! lines. Other control characters pass; NUL does not, because readers in C would end the file's text there.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::settings::LineEnd;

use super::shape::Sent;
use crate::privacy::Cover;

/// A value as the text of a cell; null, absent and redacted are empty.
pub(super) fn cell<'a>(event: &Event, name: &str, sent: Option<&'a Sent<'a>>) -> Result<Cow<'a, str>, Failure> {
    let value = match sent {
        Some(Sent::Clear(value)) if !value.is_null() => value,
        Some(Sent::Covered(Cover::Text(text))) => return Ok(Cow::Borrowed(text)),
        Some(Sent::Clear(_) | Sent::Covered(Cover::Nothing)) | None => return Ok(Cow::Borrowed("")),
    };
    let refused = |why| Failure::refused(format!("event `{}`, field `{name}`: {why}", event.id));
    let text = value.text().map_err(|_| refused("the string holds half of a surrogate pair, which is no text"))?;
    if text.contains('\0') {
        return Err(refused("the string holds a NUL character, which a CSV file can't carry"));
    }
    Ok(text)
}

/// Records, one after the other, each with its line end.
pub struct Records(csv::Writer<Vec<u8>>);

impl Records {
    pub fn new(end: LineEnd) -> Self {
        let terminator = match end {
            LineEnd::Lf => Terminator::Any(b'\n'),
            LineEnd::CrLf => Terminator::CRLF,
        };
        // Without `fields` each event has columns of its own.
        Self(WriterBuilder::new().terminator(terminator).flexible(true).from_writer(Vec::new()))
    }

    pub(super) fn push<'a>(&mut self, cells: impl Iterator<Item = &'a str>) {
        let written = self.0.write_record(cells).and_then(|()| Ok(self.0.flush()?));
        written.expect("one record of any width, into memory");
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.0.get_ref().len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("all of it is flushed, into memory")
    }
}
