//! JSON as publishers write it: checked and compacted, with every value's bytes untouched.
//! Numbers keep their digits, strings their escapes; only insignificant white space goes.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep objects and arrays may stand in each other.
pub const MAX_DEPTH: usize = 64;

/// Checks that `bytes` is one JSON object (UTF-8, no key twice in any object, not deeper than [`MAX_DEPTH`]) and
/// returns it compacted. The error says where and what.
pub fn object(bytes: &[u8]) -> Result<Bytes, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: the first bad byte is at offset {}", error.valid_up_to()))?;
    check_depth(text)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if !raw.get().starts_with('{') {
        return Err(format!("expected a JSON object, found {}", describe(raw.get())));
    }
    serde_json::from_str::<Unique>(text).map_err(|error| error.to_string())?;
    Ok(compact(raw.get()))
}

/// What kind of value a JSON text is, in words.
pub fn describe(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Before any parser that calls itself sees the text.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH} levels at byte {at}"));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Removes white space outside strings of a valid JSON text.
fn compact(text: &str) -> Bytes {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' => return in_string,
            _ => {}
        }
        true
    };
    text.bytes().filter(keep).collect()
}

/// Any JSON value in which no object has a key twice: two values for one amount are not an amount.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice in one object")));
            }
            entries.next_value::<Unique>()?;
            seen.insert(key);
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_escapes_and_order_stay_and_white_space_goes() {
        let text = "{ \"b\" : 1250.10 ,\n\t\"a\":[ 12345678901234567890, 1E5, -0 ], \"s\":\"a \\\" b\\u00e9\" }";
        let expected = r#"{"b":1250.10,"a":[12345678901234567890,1E5,-0],"s":"a \" b\u00e9"}"#;
        assert_eq!(object(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let deep = format!("{}{}", "{\"a\":".repeat(100), "1");
        for (bytes, expected) in [
            (&b"[1]"[..], "expected a JSON object, found an array"),
            (b"7", "expected a JSON object, found a number"),
            (b"{\"a\":1,\"a\":2}", "the key `a` stands twice in one object"),
            (b"{\"x\":{\"a\":1,\"a\":2}}", "the key `a` stands twice in one object"),
            (b"{\"a\":\xff}", "not UTF-8: the first bad byte is at offset 5"),
            (b"{\"a\":}", "not JSON: expected value at line 1 column 6"),
            (b"{} {}", "not JSON: trailing characters at line 1 column 4"),
            (deep.as_bytes(), "nested deeper than 64 levels at byte 320"),
        ] {
            let error = object(bytes).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn compacting_keeps_the_meaning(key in "[a-z \\\\\"]{0,6}", number in any::<i64>(), text in ".{0,12}") {
            let value = serde_json::json!({ key: [number, { "t": text }] });
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let compacted = object(&pretty).unwrap();
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&compacted).unwrap(), value.clone());
            prop_assert_eq!(compacted, serde_json::to_vec(&value).unwrap());
        }
    }
}
