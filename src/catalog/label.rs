//! A label (`pii`, `financial`, …), and lists of them as people write them.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::yaml::grammar::{Grammar, Reader};
use crate::yaml::tree::{Node, Value};
use crate::yaml::values::FromText;

/// What a field is. The word means to the node what its policies make of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Label(String);

/// Each once, in order.
pub type Labels = BTreeSet<Label>;

impl Label {
    /// What unlabelled fields of a catalogued feed count as, unless the catalog says otherwise.
    pub fn restricted() -> Self {
        Self("restricted".to_owned())
    }

    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        let ok = text.len() <= 64 && text.bytes().all(plain) && text.starts_with(|c: char| c.is_ascii_lowercase());
        ok.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromText for Label {
    const EXPECTED: &'static str = "a label (1 to 64 of a-z 0-9 _ - beginning with a letter) such as pii";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        Self::parse(text).ok_or(None)
    }
    fn pattern() -> Option<&'static str> {
        Some("^[a-z][a-z0-9_-]{0,63}$")
    }
}

/// `pii`, `[pii, financial]`, or `[]` for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelList(pub Labels);

impl Grammar for LabelList {
    fn schema() -> Json {
        json!({"anyOf": [Label::schema(), {"type": "array", "items": Label::schema()}]})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) => Some(Self(items.iter().filter_map(|item| Label::read(item, reader)).collect())),
            _ => Label::read(node, reader).map(|label| Self([label].into())),
        }
    }
}
