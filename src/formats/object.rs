//! The top level of an event's data: names, and values as the bytes that were published.
//! Not a JSON tree, and not a check: a feed has read the text from end to end when it took it, so that here it is only
//! walked over. What is inside a value stays unread.

use std::borrow::Cow;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use memchr::memchr2;
use serde::Deserialize;

/// The fields of a JSON object in published order, borrowed from the data.
#[derive(Debug)]
pub(super) struct Object<'a>(pub Vec<(Cow<'a, str>, Value<'a>)>);

/// One value, exactly as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a>(&'a str);

impl<'a> Object<'a> {
    /// A feed takes only objects, so a failure here means that the feed's bytes are not what it promised.
    pub fn of(event: &'a Event) -> Result<Self, Failure> {
        let refused = || Failure::refused(format!("event `{}`: its data is not a JSON object", event.id));
        let text = str::from_utf8(&event.data).map_err(|_| refused())?;
        let mut fields = Vec::with_capacity(8);
        walk(text, |name, value| fields.push((name, value))).ok_or_else(refused)?;
        Ok(Self(fields))
    }

    /// The field of this name; the last one if the publisher gave it twice.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }
}

impl<'a> Value<'a> {
    /// The value of one field; the last one if the publisher gave it twice. Nothing if the data is no object.
    pub fn of(event: &'a Event, field: &str) -> Option<Self> {
        let mut found = None;
        walk(str::from_utf8(&event.data).ok()?, |name, value| {
            if name == field {
                found = Some(value);
            }
        })?;
        found
    }

    /// The published bytes.
    pub fn raw(self) -> &'a str {
        self.0
    }

    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The value for use outside JSON: a string without quotes and escapes, all else as published.
    /// An error is a string that Unicode has no text for (half of a surrogate pair).
    pub fn text(self) -> Result<Cow<'a, str>, serde_json::Error> {
        if self.0.starts_with('"') { unquoted(self.0) } else { Ok(Cow::Borrowed(self.0)) }
    }
}

/// What a JSON string says. It is copied only if it holds escapes.
fn unquoted(string: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    match string.get(1..string.len() - 1) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<Text<'_>>(string).map(|text| text.0),
    }
}

/// Tells each field of the object that the text is. `None` if it is none.
fn walk<'a>(text: &'a str, mut field: impl FnMut(Cow<'a, str>, Value<'a>)) -> Option<()> {
    let mut walker = Walker { text, at: 0 };
    if !walker.take(b'{') {
        return None;
    }
    if !walker.take(b'}') {
        loop {
            walker.space();
            let name = unquoted(walker.string()?).ok()?;
            if !walker.take(b':') {
                return None;
            }
            walker.space();
            field(name, Value(walker.value()?));
            if walker.take(b'}') {
                break;
            }
            if !walker.take(b',') {
                return None;
            }
        }
    }
    walker.space();
    (walker.at == text.len()).then_some(())
}

/// A place in JSON text.
struct Walker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walker<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over a sign, and the space before it.
    fn take(&mut self, sign: u8) -> bool {
        self.space();
        let is_there = self.peek() == Some(sign);
        self.at += usize::from(is_there);
        is_there
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let sign = memchr2(b'"', b'\\', rest)?;
            self.at += sign + 1;
            if rest[sign] == b'"' {
                return self.text.get(start..self.at);
            }
            // What is escaped ends nothing.
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        match self.peek()? {
            b'"' => return self.string(),
            b'{' | b'[' => self.nested()?,
            _ => {
                let rest = &self.text.as_bytes()[start..];
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                self.at += rest.iter().position(ends)?;
            }
        }
        self.text.get(start..self.at).filter(|value| !value.is_empty())
    }

    /// Passes over an object or an array.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let text = "[a\"\\\\{}\\[\\],:é\u{1f}\u{1f600} ]{0,6}";
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            text.prop_map(Into::into),
        ];
        let object = move |value| btree_map(text, value, 0..5).prop_map(|map| map.into_iter().collect());
        leaf.prop_recursive(4, 24, 5, move |value| {
            prop_oneof![vec(value.clone(), 0..5).prop_map(serde_json::Value::Array), object(value)]
        })
    }

    fn walked(text: &str) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        walk(text, |name, value| fields.push((name.into_owned(), value.raw().to_owned())))?;
        Some(fields)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_parser_finds(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let parsed = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&text).ok();
            let mut parsed: Option<Vec<_>> =
                parsed.map(|map| map.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect());
            let mut found = walked(&text);
            parsed.iter_mut().chain(&mut found).for_each(|fields| fields.sort());
            prop_assert_eq!(found, parsed);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\]\":,\\\\a1é ]{0,30}") {
            let _ = walked(&text);
        }
    }

    #[test]
    fn what_is_no_object_or_ends_too_early_or_late_is_refused() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            r#"{"a""#,
            r#"{"a":"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"a":"\"}"#,
        ] {
            assert_eq!(walked(text), None, "{text}");
        }
        assert_eq!(walked(" { } "), Some(Vec::new()));
    }
}
