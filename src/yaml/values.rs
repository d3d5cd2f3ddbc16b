//! Values that more than one grammar has: texts, numbers, lists, pairs, durations, sizes, names.

use std::collections::HashMap;
use std::time::Duration;

use hms_actors::id::{FeedName, RecipeId, TargetName};
use serde_json::{Value as Json, json};

use super::diagnostics::quoted;
use super::grammar::{Grammar, Located, Reader};
use super::tree::{Node, Value};

/// A type that is written as a text.
pub trait FromText: Sized {
    /// What to write, in words; for messages and for editors.
    const EXPECTED: &'static str;
    /// The value, or what to write instead if there is more to say than [`Self::EXPECTED`].
    fn from_text(text: &str) -> Result<Self, Option<String>>;
    /// What to do about a number or a boolean where a text is expected.
    const IF_BARE: &'static str = "put it in quotes if it is meant as a text";
    /// What was found, for the message. `None` if it may be a secret: then it isn't shown at all.
    fn show(text: &str) -> Option<String> {
        Some(quoted(text))
    }
    /// What an editor can check beyond "a text".
    fn pattern() -> Option<&'static str> {
        None
    }
}

impl<T: FromText> Grammar for T {
    fn schema() -> Json {
        match T::pattern() {
            Some(pattern) => json!({"type": "string", "pattern": pattern}),
            None => json!({"type": "string"}),
        }
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            let quotable = matches!(node.value, Value::Bool(_) | Value::Integer(_) | Value::Float(_));
            let message = format!("expected {}, found {}", T::EXPECTED, node.value.describe());
            let error = reader.errors.error(node.at, message);
            if quotable {
                error.help(T::IF_BARE);
            }
            return None;
        };
        let help = match T::from_text(text) {
            Ok(value) => return Some(value),
            Err(help) => help,
        };
        let shown = T::show(text);
        let found = shown.as_deref().unwrap_or("something else");
        let error = reader.errors.error(node.at, format!("expected {}, found {found}", T::EXPECTED));
        if shown.is_none() {
            error.hide_source();
        }
        if let Some(help) = help {
            error.help(help);
        }
        None
    }
}

/// A text that isn't empty and has no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl FromText for Text {
    const EXPECTED: &'static str = "a text";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        if text.is_empty() {
            return Err(Some("it may not be empty".to_owned()));
        }
        if text.chars().any(char::is_control) {
            return Err(Some("it may not contain control characters or line ends".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! names {
    ($($name:ty),*) => { $(
        impl FromText for $name {
            const EXPECTED: &'static str = "a name (1 to 128 of a-z 0-9 . _ - beginning with a letter or digit)";
            fn from_text(text: &str) -> Result<Self, Option<String>> {
                Self::parse(text).map_err(|_| None)
            }
            fn pattern() -> Option<&'static str> {
                Some("^[a-z0-9][a-z0-9._-]{0,127}$")
            }
        }
    )* };
}
names!(RecipeId, FeedName, TargetName);

/// The name of a secret: an environment variable or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName(pub String);

impl FromText for SecretName {
    const EXPECTED: &'static str = "the name of a secret (A-Z a-z 0-9 _, at most 128, not beginning with a digit)";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if text.is_empty() || text.len() > 128 || !text.bytes().all(ok) || text.as_bytes()[0].is_ascii_digit() {
            return Err(Some("give the secret's name, never its value".to_owned()));
        }
        if text.starts_with("HMS_") {
            return Err(Some("names that begin with HMS_ are the node's own and never given to a partner".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
    fn show(text: &str) -> Option<String> {
        text.starts_with("HMS_").then(|| quoted(text))
    }
    fn pattern() -> Option<&'static str> {
        Some("^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    }
}

impl FromText for Duration {
    const EXPECTED: &'static str = "a duration such as 500ms, 60s, 5m, 1h30m or 7d";
    const IF_BARE: &'static str = "a duration has a unit: ms, s, m, h or d";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let duration = duration(text).ok_or(None)?;
        if duration.is_zero() { Err(Some("it must be longer than zero".to_owned())) } else { Ok(duration) }
    }
    fn pattern() -> Option<&'static str> {
        Some("^([0-9]+(ms|s|m|h|d))+$")
    }
}

/// Numbers with units, one after the other: `1h30m`. `None` also for more than ten years.
pub fn duration(text: &str) -> Option<Duration> {
    const LONGEST: u64 = 3650 * 86_400_000;
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = number.checked_mul(unit)?.checked_add(total).filter(|total| *total <= LONGEST)?;
        rest = after;
    }
    Some(Duration::from_millis(total))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

/// A number of bytes: `1048576`, `8MiB`, `16GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Grammar for Size {
    fn schema() -> Json {
        json!({"type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]+ ?([KMGT]iB|[kMGT]B|B)?$"})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let size = match &node.value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::Text(text) => size(text),
            _ => None,
        };
        let size = size.filter(|bytes| *bytes > 0).map(Size);
        if size.is_none() {
            reader.unexpected(node, "a size such as 1048576, 512KiB, 8MiB or 16GiB");
        }
        size
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let unit = match unit.trim_start_matches(' ') {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Grammar for Number<MIN, MAX> {
    fn schema() -> Json {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let number = match node.value {
            Value::Integer(number) => u64::try_from(number).ok().filter(|n| (MIN..=MAX).contains(n)),
            _ => None,
        };
        if number.is_none() {
            reader.unexpected(node, &format!("a whole number from {MIN} to {MAX}"));
        }
        number.map(Self)
    }
}

impl Grammar for bool {
    fn schema() -> Json {
        json!({"type": "boolean"})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                reader.unexpected(node, "`true` or `false`");
                None
            }
        }
    }
}

/// A list that isn't empty. Items that are wrong are reported and left out.
impl<T: Grammar> Grammar for Vec<Located<T>> {
    fn schema() -> Json {
        json!({"type": "array", "minItems": 1, "items": T::schema()})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            reader.unexpected(node, "a list");
            return None;
        };
        if items.is_empty() {
            reader.errors.error(node.at, "the list is empty").help("give at least one item");
        }
        let read = |item: &Node| T::read(item, reader).map(|value| Located { value, at: item.at });
        Some(items.iter().filter_map(read).collect())
    }
}

/// A mapping with keys of the user's own, in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs<V>(pub Vec<(Located<String>, Located<V>)>);

impl<V: Grammar> Grammar for Pairs<V> {
    fn schema() -> Json {
        json!({"type": "object", "additionalProperties": V::schema()})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            reader.unexpected(node, "a mapping");
            return None;
        };
        let mut pairs = Vec::new();
        let mut seen = HashMap::new();
        for (key, value) in entries {
            if let Some(first) = seen.insert(key.name.as_str(), key.at) {
                reader.duplicate(key, first);
            } else if let Some(read) = V::read(value, reader) {
                let name = Located { value: key.name.clone(), at: key.at };
                pairs.push((name, Located { value: read, at: value.at }));
            }
        }
        Some(Self(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [("500ms", 500), ("60s", 60_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "60", "s", "1.5h", "-1s", "1 s", "1w", "99999999999999999999s", "4000d", "1é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_with_binary_or_decimal_units() {
        for (text, bytes) in [("8MiB", 8 << 20), ("16 GiB", 16 << 30), ("5MB", 5_000_000), ("12", 12)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "8mib", "99999999999TiB", "1.5GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
