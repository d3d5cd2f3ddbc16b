//! JSON in the canonical form of RFC 8785, for values whose numbers are whole. No general JSON writer:
//! fractions are refused, so that no rule for printing them is needed.

use hms_actors::failure::Failure;
use serde::Serialize;
use serde_json::{Map, Value};

/// RFC 8785 prints numbers as doubles; above this a whole number would change.
pub const MAX_WHOLE: u64 = (1 << 53) - 1;

/// The canonical bytes of `value`.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let value = serde_json::to_value(value).map_err(|e| not_canonical(&e.to_string()))?;
    let mut out = Vec::with_capacity(512);
    write(&value, &mut out)?;
    Ok(out)
}

/// A whole number that is not negative, for who writes the canonical form himself.
pub fn whole(number: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
    if number > MAX_WHOLE {
        return Err(beyond(&number));
    }
    write_scalar(&number, out)
}

/// A string, as [`whole`].
pub fn text(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        write_scalar(&text, out).expect("a string into memory");
    }
}

/// A digest as a string of its digits, as [`whole`].
pub fn hex(digest: &[u8; 32], out: &mut Vec<u8>) {
    let mut digits = [b'"'; 66];
    hex::encode_to_slice(digest, &mut digits[1..65]).expect("there are two digits for each byte");
    out.extend_from_slice(&digits);
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
    match value {
        Value::Object(map) => write_object(map, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
            Ok(())
        }
        Value::Number(number) if number.as_i64().is_none_or(|n| n.unsigned_abs() > MAX_WHOLE) => Err(beyond(number)),
        // serde_json prints whole numbers, words and strings (its escapes are those of ECMAScript) as RFC 8785 wants.
        scalar => write_scalar(scalar, out),
    }
}

fn write_object(map: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut members: Vec<_> = map.iter().collect();
    // Sorted by UTF-16 code units, which differs from bytes above U+FFFF.
    members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
    out.push(b'{');
    for (i, (name, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_scalar(name, out)?;
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_scalar(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer(out, value).map_err(|e| not_canonical(&e.to_string()))
}

fn beyond(number: &dyn std::fmt::Display) -> Failure {
    not_canonical(&format!("{number} is not a whole number within ±(2^53 - 1)"))
}

fn not_canonical(why: &str) -> Failure {
    Failure::node(format!("a record can't be written as canonical JSON: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: Value) -> String {
        String::from_utf8(to_vec(&value).unwrap()).unwrap()
    }

    #[test]
    fn names_are_sorted_as_in_the_example_of_rfc_8785() {
        // Section 3.2.3 of the RFC; the numbers tell the expected order.
        let value = json!({"\u{20ac}": 5, "\r": 1, "\u{fb33}": 7, "1": 2, "\u{1f600}": 6, "\u{80}": 3, "\u{f6}": 4});
        let expected = "{\"\\r\":1,\"1\":2,\"\u{80}\":3,\"\u{f6}\":4,\"\u{20ac}\":5,\"\u{1f600}\":6,\"\u{fb33}\":7}";
        assert_eq!(text(value), expected);
    }

    #[test]
    fn strings_are_escaped_as_in_the_example_of_rfc_8785() {
        // Section 3.2.2, with its numbers left out.
        let value = json!({"string": "\u{20ac}$\u{0f}\nA'B\"\\\\\"/", "literals": [null, true, false]});
        let expected = "{\"literals\":[null,true,false],\"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(text(value), expected);
    }

    #[test]
    fn every_control_character_has_the_escape_of_ecmascript() {
        let all: String = (0u8..0x20).map(char::from).chain(['\u{7f}', '\u{2028}']).collect();
        let expected = concat!(
            r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f"#,
            r#"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"#,
            "\u{7f}\u{2028}\""
        );
        assert_eq!(text(json!(all)), expected);
    }

    #[test]
    fn numbers_that_a_double_would_change_are_refused() {
        assert_eq!(text(json!([0, -1, MAX_WHOLE])), "[0,-1,9007199254740991]");
        for value in [json!(MAX_WHOLE + 1), json!(u64::MAX), json!(i64::MIN), json!(1.5)] {
            assert!(to_vec(&value).is_err(), "{value}");
        }
    }
}
