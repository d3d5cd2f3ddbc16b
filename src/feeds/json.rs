//! JSON as bytes: checks a text strictly (RFC 8259) and takes the insignificant white space out of it.
//! It is no parser into values: numbers and strings stay the publisher's own bytes, digit for digit.

use std::borrow::Cow;
use std::collections::HashSet;

/// How many levels of objects and arrays an event's data may have.
pub const MAX_DEPTH: usize = 64;

/// Where a JSON text is not what it must be, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Offset in the text, from 0.
    pub byte: usize,
    pub message: String,
}

/// The same JSON without insignificant white space. Refused: what RFC 8259 does not allow, bytes that are not
/// UTF-8, duplicate keys at any level, strings that no UTF-8 can hold, and more than `max_depth` levels
/// ([`MAX_DEPTH`] and those of the envelope around the data).
pub fn compact(text: &[u8], max_depth: usize) -> Result<Vec<u8>, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| JsonError {
        byte: error.valid_up_to(),
        message: "this byte is not valid UTF-8: send the text as UTF-8".to_owned(),
    })?;
    let mut scanner = Scanner { text, at: 0, out: Vec::with_capacity(text.len()), levels: max_depth };
    scanner.space();
    scanner.value()?;
    scanner.space();
    match scanner.peek() {
        None => Ok(scanner.out),
        Some(_) => Err(scanner.expected("the end after the JSON value")),
    }
}

/// What a JSON text holds, for a message.
pub fn kind(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    out: Vec<u8>,
    /// How many more levels may be opened.
    levels: usize,
}

impl<'a> Scanner<'a> {
    fn value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.expected("a JSON value")),
        }
    }

    fn nested(&mut self, body: fn(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        if self.levels == 0 {
            return Err(self.error(format!("the data is nested too deep: at most {MAX_DEPTH} levels are taken")));
        }
        self.levels -= 1;
        self.keep(1);
        self.space();
        body(self)?;
        self.levels += 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), JsonError> {
        if self.take(b'}') {
            return Ok(());
        }
        let mut seen = HashSet::new();
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key = self.string()?;
            if let Some(twice) = seen.replace(key) {
                let message = format!("the key `{}` is there twice: give it once", shown(&twice));
                return Err(JsonError { byte: start, message });
            }
            self.space();
            if !self.take(b':') {
                return Err(self.expected("`:` after the key"));
            }
            self.space();
            self.value()?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `}`"));
            }
            self.space();
        }
    }

    fn array(&mut self) -> Result<(), JsonError> {
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value()?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.expected("`,` or `]`"));
            }
            self.space();
        }
    }

    /// A string, as it is written; answers what it means, because `"a"` and `"\u0061"` are one key.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0..=0x1f) => return Err(self.error("a control character in a string: escape it, as in \\n")),
                Some(_) => self.at += 1,
                None => return Err(self.expected("the closing `\"` of the string that began before")),
            }
        }
        self.at += 1;
        let written = &self.text[start..self.at];
        self.out.extend_from_slice(written.as_bytes());
        if !escaped {
            return Ok(Cow::Borrowed(&written[1..written.len() - 1]));
        }
        serde_json::from_str(written).map(Cow::Owned).map_err(|_| JsonError {
            byte: start,
            message: "this string holds an escape that is none, or half of a surrogate pair".to_owned(),
        })
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading = self.at;
        self.digits()?;
        if self.at - leading > 1 && self.text.as_bytes()[leading] == b'0' {
            self.at = leading;
            return Err(self.error("a number can't begin with 0: leave it out, or send a string"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.out.extend_from_slice(&self.text.as_bytes()[start..self.at]);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.expected("a JSON value"));
        }
        self.keep(word.len());
        Ok(())
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.keep(1);
        }
        found
    }

    fn keep(&mut self, length: usize) {
        self.out.extend_from_slice(&self.text.as_bytes()[self.at..self.at + length]);
        self.at += length;
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expected(&self, what: &str) -> JsonError {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(quote @ ('"' | '\'')) => format!("`{quote}`"),
            Some(found) => format!("`{}`", found.escape_debug()),
            None => "the end of the text".to_owned(),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn error(&self, message: impl Into<String>) -> JsonError {
        JsonError { byte: self.at.min(self.text.len()), message: message.into() }
    }
}

/// A publisher's text for a message: short and on one line.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() { short + "…" } else { short }
}

#[cfg(test)]
mod tests;
