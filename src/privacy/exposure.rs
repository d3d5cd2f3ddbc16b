//! Which labels leave the node with an event: what policies are asked about. It counts the fields that are really
//! sent: those in the body (nested members count with their field, whatever it is renamed to) and those in the url.
//! A field that is there counts, whatever its value; null too.

use std::borrow::Cow;
use std::fmt;

use hms_actors::event::Event;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::treatment::{Treatment, Treatments, Way};
use crate::catalog::Labels;

/// Labels that go to one target. One label can be in both: two fields may carry it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Of values as published.
    pub clear: Labels,
    /// Of values that are tokenized, redacted or otherwise protected.
    pub protected: Labels,
}

impl Exposure {
    pub fn is_empty(&self) -> bool {
        self.clear.is_empty() && self.protected.is_empty()
    }

    fn add(&mut self, treatment: &Treatment) {
        let to = if treatment.way == Way::Clear { &mut self.clear } else { &mut self.protected };
        to.extend(treatment.labels.iter().cloned());
    }
}

impl Treatments {
    /// What an event would show to the target. Nothing is parsed where nothing has a label.
    pub fn exposure(&self, event: &Event) -> Exposure {
        if !self.labelled() {
            return Exposure::default();
        }
        match serde_json::from_slice::<Names<'_>>(&event.data) {
            Ok(Names(fields)) => {
                let mut exposure = Exposure::default();
                let sent = fields.iter().filter(|field| self.sends(field));
                sent.for_each(|field| exposure.add(self.of(field)));
                exposure
            }
            // A feed takes only objects: bytes that are none can't be sent either, and count as anything.
            Err(_) => self.possible(),
        }
    }

    /// What any event may show to the target: known without one, at `check` and `apply`.
    pub fn possible(&self) -> Exposure {
        let mut exposure = Exposure::default();
        self.sent().map(|(_, treatment)| treatment).chain(self.unnamed()).for_each(|treatment| exposure.add(treatment));
        exposure
    }
}

/// The names of an object's fields, as they are meant (`"\u0073sn"` is `ssn`).
struct Names<'a>(Vec<Cow<'a, str>>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Names<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names<'de>, A::Error> {
                let mut names = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((Name(name), IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests;
