//! The top level of an event's data: names, and values as the bytes that were published.
//! Not a JSON tree: what is inside a value stays unread.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use hms_actors::event::Event;
use hms_actors::failure::Failure;

/// The fields of a JSON object in published order, borrowed from the data.
#[derive(Debug)]
pub(super) struct Object<'a>(pub Vec<(Cow<'a, str>, Value<'a>)>);

/// One value, exactly as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a>(&'a str);

impl<'a> Object<'a> {
    /// A feed takes only objects, so a failure here means that the feed's bytes are not what it promised.
    pub fn of(event: &'a Event) -> Result<Self, Failure> {
        let refused = |error: &dyn fmt::Display| {
            Failure::refused(format!("event `{}`: its data is not a JSON object: {error}", event.id))
        };
        let text = str::from_utf8(&event.data).map_err(|error| refused(&error))?;
        serde_json::from_str(text).map_err(|error| refused(&error))
    }

    /// The field of this name; the last one if the publisher gave it twice.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }
}

impl<'a> Value<'a> {
    /// The value of one field, the others unread; the last one if the publisher gave it twice. Nothing if the data is no
    /// object.
    pub fn of(event: &'a Event, field: &str) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(str::from_utf8(&event.data).ok()?);
        let found = json.deserialize_map(Find(field)).ok()?;
        json.end().ok()?;
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
        if self.0.starts_with('"') {
            return serde_json::from_str::<Text>(self.0).map(|text| text.0);
        }
        Ok(Cow::Borrowed(self.0))
    }
}

/// Finds a field of an object.
struct Find<'n>(&'n str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Value<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if name.0 == self.0 {
                found = Some(Value(map.next_value::<&'de RawValue>()?.get()));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A string that is copied only if it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((name.0, Value(value.get())));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
