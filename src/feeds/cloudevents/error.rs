//! Why a publisher's request was refused: where, what, and what instead. Not here: what HTTP answers,
//! except for the one distinction that matters to it (415 or 400).

use std::fmt;

use super::CONTENT_TYPES;
use crate::feeds::json::JsonError;

/// A request that holds no acceptable events. Nothing of it was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another content type has to be used (HTTP 415).
    #[error("content type {found} is not taken: send one of {}", CONTENT_TYPES.join(", "))]
    ContentType { found: String },
    /// The request has to be changed (HTTP 400).
    #[error("{place}{message}")]
    Invalid { place: Place, message: String },
}

/// Where in the request, as far as it is known. All counted from 1, except `byte`, which counts from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Which event of a batch.
    pub event: Option<usize>,
    pub line: Option<usize>,
    /// In characters.
    pub column: Option<usize>,
    pub byte: Option<usize>,
}

impl Place {
    /// The parts that are known, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let parts = [("event", self.event), ("line", self.line), ("column", self.column), ("byte", self.byte)];
        parts.into_iter().filter_map(|(name, part)| part.map(|part| (name, part)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.parts();
        if let Some((name, part)) = parts.next() {
            write!(f, "{name} {part}")?;
            parts.try_for_each(|(name, part)| write!(f, ", {name} {part}"))?;
            f.write_str(": ")?;
        }
        Ok(())
    }
}

impl EnvelopeError {
    pub(super) fn content_type(found: &str) -> Self {
        Self::ContentType { found: format!("`{}`", crate::feeds::json::shown(found)) }
    }

    /// The request as a whole, or a header that the message names.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::Invalid { place: Place::default(), message: message.into() }
    }

    pub(super) fn event(number: usize, message: String) -> Self {
        Self::Invalid { place: Place { event: Some(number), ..Place::default() }, message }
    }

    pub(super) fn line(number: usize, message: String) -> Self {
        Self::Invalid { place: Place { line: Some(number), ..Place::default() }, message }
    }

    /// `part` is the part of the body that `error` speaks of; `line` and `byte` say where it begins.
    pub(super) fn json(part: &[u8], line: usize, byte: usize, error: JsonError) -> Self {
        let before = &part[..error.byte];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let place = Place {
            event: None,
            line: Some(line + before.iter().filter(|&&byte| byte == b'\n').count()),
            column: Some(1 + String::from_utf8_lossy(&before[line_start..]).chars().count()),
            byte: Some(byte + error.byte),
        };
        Self::Invalid { place, message: error.message }
    }
}
