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
#[cfg(any(test, feature = "fuzzed"))]
pub fn compact(text: &[u8], max_depth: usize) -> Result<Cow<'_, [u8]>, JsonError> {
    let mut scanner = Scanner::new(text_of(text)?, max_depth);
    let value = scanner.document(|scanner| scanner.span(Scanner::value))?;
    Ok(value.tight())
}

/// The bytes as text.
pub fn text_of(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| not_utf8(error.valid_up_to()))
}

pub fn not_utf8(byte: usize) -> JsonError {
    JsonError { byte, message: "this byte is not valid UTF-8: send the text as UTF-8".to_owned() }
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

/// A value as it is written, checked.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    pub text: &'a str,
    /// There is insignificant white space in it.
    spaced: bool,
}

impl<'a> Span<'a> {
    /// Without insignificant white space.
    pub fn tight(self) -> Cow<'a, [u8]> {
        if !self.spaced {
            return Cow::Borrowed(self.text.as_bytes());
        }
        let mut out = Vec::with_capacity(self.text.len());
        let (mut in_string, mut escaped) = (false, false);
        for &byte in self.text.as_bytes() {
            if in_string {
                (in_string, escaped) = (byte != b'"' || escaped, byte == b'\\' && !escaped);
            } else if is_space(byte) {
                continue;
            } else {
                in_string = byte == b'"';
            }
            out.push(byte);
        }
        Cow::Owned(out)
    }
}

/// Objects of at most so many keys are looked through; more are hashed.
const FEW_KEYS: usize = 24;

/// Goes over a text once, and leaves it where it is.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// How many more levels may be opened.
    levels: usize,
    /// White space was passed over since this was reset.
    spaced: bool,
    /// Keys of the objects that are open, of the innermost last.
    keys: Vec<Cow<'a, str>>,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str, max_depth: usize) -> Self {
        Self { text, at: 0, levels: max_depth, spaced: false, keys: Vec::new() }
    }

    /// The next text, for a scanner that is done with the last one.
    pub fn restart(&mut self, text: &'a str, max_depth: usize) {
        (self.text, self.at, self.levels, self.spaced) = (text, 0, max_depth, false);
        self.keys.clear();
    }

    /// A text that is one value.
    pub fn document<T>(&mut self, value: impl FnOnce(&mut Self) -> Result<T, JsonError>) -> Result<T, JsonError> {
        self.space();
        let value = value(self)?;
        self.space();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(self.expected("the end after the JSON value")),
        }
    }

    /// What `value` passes over.
    pub fn span(&mut self, value: impl FnOnce(&mut Self) -> Result<(), JsonError>) -> Result<Span<'a>, JsonError> {
        let start = self.at;
        self.spaced = false;
        value(self)?;
        Ok(Span { text: &self.text[start..self.at], spaced: self.spaced })
    }

    pub fn value(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.object(|scanner, _| scanner.value()),
            Some(b'[') => self.array(Self::value),
            Some(b'"') => self.quoted().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.expected("a JSON value")),
        }
    }

    fn nested(&mut self, body: impl FnOnce(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        if self.levels == 0 {
            return Err(self.error(format!("the data is nested too deep: at most {MAX_DEPTH} levels are taken")));
        }
        self.levels -= 1;
        self.at += 1;
        self.space();
        body(self)?;
        self.levels += 1;
        Ok(())
    }

    /// An object; `member` is told each key and passes over its value.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let before = self.keys.len();
        self.nested(|scanner| {
            if scanner.take(b'}') {
                return Ok(());
            }
            let mut many = HashSet::new();
            loop {
                let start = scanner.at;
                if scanner.peek() != Some(b'"') {
                    return Err(scanner.expected("a key in double quotes"));
                }
                let key = scanner.string()?;
                if scanner.is_known(&key, before, &mut many) {
                    let message = format!("the key `{}` is there twice: give it once", shown(&key));
                    return Err(JsonError { byte: start, message });
                }
                scanner.space();
                if !scanner.take(b':') {
                    return Err(scanner.expected("`:` after the key"));
                }
                scanner.space();
                member(scanner, &key)?;
                scanner.keys.push(key);
                scanner.space();
                if scanner.take(b'}') {
                    return Ok(());
                }
                if !scanner.take(b',') {
                    return Err(scanner.expected("`,` or `}`"));
                }
                scanner.space();
            }
        })?;
        self.keys.truncate(before);
        Ok(())
    }

    /// Whether a key is there already in the object whose keys begin at `first`.
    fn is_known(&self, key: &str, first: usize, many: &mut HashSet<Cow<'a, str>>) -> bool {
        let keys = &self.keys[first..];
        if keys.len() < FEW_KEYS {
            return keys.iter().any(|known| known == key);
        }
        many.extend(keys[many.len()..].iter().cloned());
        many.contains(key)
    }

    /// An array; `item` passes over each of its values.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.nested(|scanner| {
            if scanner.take(b']') {
                return Ok(());
            }
            loop {
                item(scanner)?;
                scanner.space();
                if scanner.take(b']') {
                    return Ok(());
                }
                if !scanner.take(b',') {
                    return Err(scanner.expected("`,` or `]`"));
                }
                scanner.space();
            }
        })
    }

    /// What a string means: `"a"` and `"\u0061"` are one key.
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        let Quoted { written, escaped } = self.quoted()?;
        if !escaped {
            return Ok(Cow::Borrowed(&written[1..written.len() - 1]));
        }
        meant(written, start).map(Cow::Owned)
    }

    /// A string as it is written, checked.
    fn quoted(&mut self) -> Result<Quoted<'a>, JsonError> {
        let start = self.at;
        let (mut escaped, mut doubtful) = (false, false);
        self.at += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    let known = b"\"\\/bfnrt";
                    doubtful |= !self.text.as_bytes().get(self.at + 1).is_some_and(|next| known.contains(next));
                    self.at += 2;
                }
                Some(_) => return Err(self.error("a control character in a string: escape it, as in \\n")),
                None => return Err(self.expected("the closing `\"` of the string that began before")),
            }
        }
        self.at += 1;
        let written = &self.text[start..self.at];
        if doubtful {
            meant(written, start)?;
        }
        Ok(Quoted { written, escaped })
    }

    /// Passes over what means nothing but itself in a string, eight bytes at a time.
    fn plain(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH: u64 = ONES << 7;
        // The lowest bit that is set is that of the first byte that is meant; those above it may be borrowed ones.
        let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
        let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let bytes = self.text.as_bytes();
        while let Some(chunk) = bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*chunk);
            let special = below(word, 0x20) | is(word, b'"') | is(word, b'\\');
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
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
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected("a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.spaced = true;
            self.at += 1;
        }
    }

    pub fn peek(&self) -> Option<u8> {
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

/// A string with its quotes.
struct Quoted<'a> {
    written: &'a str,
    escaped: bool,
}

fn meant(written: &str, start: usize) -> Result<String, JsonError> {
    serde_json::from_str(written).map_err(|_| JsonError {
        byte: start,
        message: "this string holds an escape that is none, or half of a surrogate pair".to_owned(),
    })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A publisher's text for a message: short and on one line.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() { short + "…" } else { short }
}

#[cfg(test)]
mod tests;
