//! What stands in the place of a protected value. The same value gives the same text at one partner, in a body, a row
//! or a url: what is protected is the value as it was published, not its form on the wire.
//!
//! A value's canonical bytes are a kind and what follows it: `t` and the text of a string (without quotes and
//! escapes, UTF-8), or `j` and the JSON of anything else exactly as it was published, digit for digit. So the text
//! `"7"` and the number `7` have different tokens, `7` and `7.0` too, and `"\u0041"` and `"A"` have the same.

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fpe::ff1::{FF1, FlexibleNumeralString};
use hmac::Mac;

use super::keys::Key;
use crate::recipe::model::Protection;

/// FF1 is only sound where there are at least 10⁶ values.
const FEWEST_DIGITS: usize = 6;

/// No number that people write has more, and the work grows with the square.
const MOST_DIGITS: usize = 256;

/// Bytes of a token's MAC: 128 bits.
const TOKEN: usize = 16;

/// What is shown of a value, and how long it must be that this is at most a half.
const LAST: usize = 4;

/// In place of what is not shown.
const MASK: &str = "****";

/// What stands in the place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    Text(String),
    /// Nothing is told, but that there was a value.
    Nothing,
}

impl Cover {
    /// For places that can't be empty, such as a part of a url.
    pub fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Nothing => "redacted".to_owned(),
        }
    }
}

/// `json` is the value as it was published, and not null. An error says why this value can't be protected so;
/// it never holds the value.
pub fn cover(how: Protection, json: &str, key: Option<&Key>) -> Result<Cover, String> {
    let text = json.starts_with('"').then(|| serde_json::from_str::<String>(json).ok()).flatten();
    let no_key = || "there is no key to protect it with".to_owned();
    match how {
        Protection::Redact => Ok(Cover::Nothing),
        Protection::Token => Ok(Cover::Text(token(key.ok_or_else(no_key)?, json, text.as_deref()))),
        Protection::Last4 => Ok(plain(json, text.as_deref()).map_or(Cover::Nothing, last4)),
        Protection::Ff1 => {
            let why = "`ff1` takes digits and what stands between them; use `token`";
            ff1(key.ok_or_else(no_key)?, plain(json, text.as_deref()).ok_or(why)?).map(Cover::Text)
        }
    }
}

/// The text of a string or a number.
fn plain<'a>(json: &'a str, text: Option<&'a str>) -> Option<&'a str> {
    text.or_else(|| json.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(json))
}

fn token(key: &Key, json: &str, text: Option<&str>) -> String {
    let mut mac = key.mac();
    match text {
        Some(text) => {
            mac.update(b"t");
            mac.update(text.as_bytes());
        }
        None => {
            mac.update(b"j");
            mac.update(json.as_bytes());
        }
    }
    let mac = mac.finalize().into_bytes();
    format!("tok_v{}_{}", key.version(), URL_SAFE_NO_PAD.encode(&mac[..TOKEN]))
}

fn last4(text: &str) -> Cover {
    let length = text.chars().count();
    let shown: String = if length < 2 * LAST { String::new() } else { text.chars().skip(length - LAST).collect() };
    Cover::Text(format!("{MASK}{shown}"))
}

/// Each digit becomes another one, and what stands between them stays.
fn ff1(key: &Key, text: &str) -> Result<String, String> {
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_digit() && !" -./()+,:".contains(*c)) {
        let kind = if odd.is_alphabetic() { "a letter" } else { "a sign" };
        return Err(format!("`ff1` takes digits and what stands between them, and there is {kind}; use `token`"));
    }
    let digits: Vec<u16> = text.chars().filter_map(|c| c.to_digit(10)).filter_map(|n| u16::try_from(n).ok()).collect();
    if digits.len() < FEWEST_DIGITS {
        return Err(format!(
            "`ff1` needs a domain of at least 10^6 values, which are {FEWEST_DIGITS} digits, and there are {}; use `token`",
            digits.len()
        ));
    }
    if digits.len() > MOST_DIGITS {
        return Err(format!("`ff1` takes at most {MOST_DIGITS} digits; use `token`"));
    }
    let cipher = FF1::<Aes256>::new(key.ff1(), 10).map_err(|_| "`ff1` has no radix of 10".to_owned())?;
    let hidden =
        cipher.encrypt(&[], &FlexibleNumeralString::from(digits)).map_err(|error| format!("`ff1`: {error}"))?;
    let mut hidden = Vec::from(hidden).into_iter().filter_map(|digit| char::from_digit(u32::from(digit), 10));
    Ok(text.chars().map(|c| if c.is_ascii_digit() { hidden.next().unwrap_or('0') } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key {
        Key::new(1, [byte; 32])
    }

    fn with(how: Protection, json: &str, byte: u8) -> Result<Cover, String> {
        cover(how, json, Some(&key(byte)))
    }

    fn text(how: Protection, json: &str) -> String {
        with(how, json, 1).unwrap().text()
    }

    #[test]
    fn a_token_is_that_of_the_value_and_not_of_its_spelling() {
        let token = |json| text(Protection::Token, json);
        assert_eq!(token(r#""A""#), token(r#""\u0041""#));
        assert_ne!(token(r#""7""#), token("7"));
        assert_ne!(token("7"), token("7.0"));
        assert_eq!(token("7").len(), "tok_v1_".len() + 22);
        assert!(cover(Protection::Token, "7", None).is_err());
    }

    /// Made by another program: `hmac.new(hmac.new(b"\1"*32, b"hms token", "sha256").digest(), b"t123-45-6789", "sha256")`.
    #[test]
    fn a_token_is_an_hmac_with_sha_256() {
        let expected = include_str!("token.expected").trim();
        assert_eq!(text(Protection::Token, r#""123-45-6789""#), expected);
    }

    #[test]
    fn the_last_four_are_shown_where_they_are_at_most_a_half() {
        assert_eq!(text(Protection::Last4, r#""123-45-6789""#), "****6789");
        assert_eq!(text(Protection::Last4, "12345678"), "****5678");
        assert_eq!(text(Protection::Last4, "1234567"), "****");
        assert_eq!(with(Protection::Last4, r#"{"a":12345678}"#, 1), Ok(Cover::Nothing));
        assert_eq!(with(Protection::Last4, "true", 1), Ok(Cover::Nothing));
    }

    #[test]
    fn ff1_is_refused_where_it_would_not_hide_or_not_fit() {
        for (json, why) in [
            ("12345", "10^6"),
            (r#""12-3.45""#, "10^6"),
            (r#""123456 Main""#, "a letter"),
            ("1e1234567", "a letter"),
            (r#""""#, "10^6"),
            ("true", "use `token`"),
            (r#"{"a":1234567}"#, "use `token`"),
            (r#""123456€""#, "a sign"),
        ] {
            let wrong = with(Protection::Ff1, json, 1).unwrap_err();
            assert!(wrong.contains(why) && !wrong.contains("Main"), "{json}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn ff1_keeps_the_shape_and_two_values_apart(one in "[0-9]{3}-[0-9]{2}-[0-9]{4}", other in "[0-9]{3}-[0-9]{2}-[0-9]{4}") {
            let hidden = text(Protection::Ff1, &format!("\"{one}\""));
            let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect::<String>();
            prop_assert_eq!(shape(&hidden), shape(&one));
            prop_assert_eq!(hidden == text(Protection::Ff1, &format!("\"{other}\"")), one == other);
            prop_assert_ne!(hidden, with(Protection::Ff1, &format!("\"{one}\""), 2).unwrap().text());
        }

        #[test]
        fn two_partners_have_different_tokens_of_every_value_and_one_has_the_same(value: String, number: i64) {
            for json in [serde_json::json!(value).to_string(), number.to_string(), format!("[{number}]")] {
                let token = |byte| with(Protection::Token, &json, byte).unwrap();
                prop_assert_eq!(token(1), token(1));
                prop_assert_ne!(token(1), token(2));
            }
        }

        #[test]
        fn no_value_makes_protection_panic_or_stand_in_the_clear(value in ".{9,40}") {
            let json = serde_json::json!(value).to_string();
            for how in [Protection::Token, Protection::Redact, Protection::Last4, Protection::Ff1] {
                match with(how, &json, 1) {
                    Ok(covered) => prop_assert!(!covered.text().contains(&value)),
                    Err(why) => prop_assert!(!why.contains(&value)),
                }
            }
        }
    }
}
