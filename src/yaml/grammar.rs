//! Typed documents. A type that is part of a grammar says in one place how it is read from a tree and how
//! an editor's JSON Schema sees it. [`record!`](crate::record) and [`keywords!`](crate::keywords) write both
//! for mappings and for fixed words, so that the table of keys exists once.
//!
//! Reading never stops at an error: what is wrong goes to the [`Reader`], and the value stays absent.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::diagnostics::{At, Collector, nearest, one_of, quoted};
use super::tree::{Key, Node, Value};

/// A type of a grammar.
pub trait Grammar: Sized {
    /// The JSON Schema of what is accepted here.
    fn schema() -> Json;
    /// Reads a value. `None` says that something was wrong with it and is reported.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Where errors go while a text is read.
#[derive(Debug)]
pub struct Reader<'a> {
    pub errors: Collector<'a>,
}

/// A value with its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: At,
}

/// A key's value in a document: absent if the key is, or if it was wrong (which is reported).
pub type Field<T> = Option<Located<T>>;

/// The keys of a mapping, each under the name that it was read as, and where the mapping stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub at: At,
    pub written: Vec<Key>,
}

impl Keys {
    /// Where a key stands, if it was written.
    pub fn find(&self, name: &str) -> Option<At> {
        self.written.iter().find(|key| key.name == name).map(|key| key.at)
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

impl<'a> Reader<'a> {
    pub fn new(errors: Collector<'a>) -> Self {
        Self { errors }
    }

    /// Reports that `node` is something else than what is expected.
    pub fn unexpected(&mut self, node: &Node, expected: &str) {
        self.errors.error(node.at, format!("expected {expected}, found {}", node.value.describe()));
    }

    /// The entries of a mapping of the record called `name`.
    pub fn entries<'n>(&mut self, node: &'n Node, name: &str, known: &[&'static str]) -> Option<Entries<'n>> {
        let Value::Map(map) = &node.value else {
            self.unexpected(node, &format!("{name} (a mapping)"));
            return None;
        };
        let mut entries = Entries { at: node.at, found: Vec::new() };
        let mut seen = HashMap::new();
        for (key, value) in map {
            if self.errors.is_full() {
                break;
            }
            if let Some(first) = seen.insert(key.name.as_str(), key.at) {
                self.duplicate(key, first);
            } else if known.contains(&key.name.as_str()) {
                entries.found.push((key.clone(), value));
            } else {
                let meant = self.unknown_key(key, name, known);
                let free = |name: &&str| !map.iter().any(|(other, _)| other.name == **name);
                // The value of a misspelled key is checked as what was probably meant.
                if let Some(meant) = meant.filter(free) {
                    entries.found.push((Key { name: meant.to_owned(), at: key.at }, value));
                }
            }
        }
        Some(entries)
    }

    pub fn duplicate(&mut self, key: &Key, first: At) {
        let help = format!("it stands already in line {}", first.line);
        self.errors.error(key.at, format!("duplicate key {}", quoted(&key.name))).help(help);
    }

    fn unknown_key(&mut self, key: &Key, name: &str, known: &[&'static str]) -> Option<&'static str> {
        let meant = nearest(&key.name, known.iter().copied());
        let message = format!("unknown key {} in {name}", quoted(&key.name));
        self.errors.error(key.at, message).help(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("expected {}", one_of(known.iter().copied())),
        });
        meant
    }
}

/// The entries of a mapping, each under the name that it is read as.
#[derive(Debug)]
pub struct Entries<'n> {
    at: At,
    found: Vec<(Key, &'n Node)>,
}

impl Entries<'_> {
    /// Reads the value of a key.
    pub fn read<T: Grammar>(&self, name: &str, required: bool, reader: &mut Reader<'_>) -> Field<T> {
        match self.found.iter().find(|(key, _)| key.name == name) {
            Some((_, node)) => T::read(node, reader).map(|value| Located { value, at: node.at }),
            None => {
                if required {
                    reader.errors.error(self.at, format!("missing key `{name}`"));
                }
                None
            }
        }
    }

    pub fn keys(self) -> Keys {
        Keys { at: self.at, written: self.found.into_iter().map(|(key, _)| key).collect() }
    }
}

/// The schema of a mapping with these keys: name, required, description, schema of the value.
pub fn record_schema(description: &str, fields: Vec<(&str, bool, &str, Json)>) -> Json {
    let required: Vec<&str> = fields.iter().filter(|field| field.1).map(|field| field.0).collect();
    let properties: serde_json::Map<String, Json> =
        fields.into_iter().map(|(name, _, text, schema)| (name.to_owned(), described(schema, text))).collect();
    let mut schema = json!({
        "type": "object", "description": description.trim(), "additionalProperties": false, "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn described(mut schema: Json, description: &str) -> Json {
    schema["description"] = json!(description.trim());
    schema
}

/// The name of a field as it is written in YAML.
pub fn key_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// A mapping with fixed keys. `required` keys are reported when they are missing; all fields are [`Field`]s.
#[macro_export]
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        pub struct $record:ident as $name:literal {
            $( $(#[doc = $text:literal])* $need:ident $field:ident: $kind:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub struct $record {
            pub keys: $crate::yaml::grammar::Keys,
            $( $(#[doc = $text])* pub $field: $crate::yaml::grammar::Field<$kind>, )*
        }

        impl $crate::yaml::grammar::Grammar for $record {
            fn schema() -> serde_json::Value {
                $crate::yaml::grammar::record_schema(concat!($($doc),*), vec![
                    $( (
                        $crate::yaml::grammar::key_name(stringify!($field)),
                        $crate::record!(@ $need),
                        concat!($($text),*),
                        <$kind as $crate::yaml::grammar::Grammar>::schema(),
                    ), )*
                ])
            }

            fn read(
                node: &$crate::yaml::tree::Node,
                reader: &mut $crate::yaml::grammar::Reader<'_>,
            ) -> Option<Self> {
                use $crate::yaml::grammar::key_name;
                let entries = reader.entries(node, $name, &[$(key_name(stringify!($field))),*])?;
                $( let $field = entries.read(key_name(stringify!($field)), $crate::record!(@ $need), reader); )*
                Some(Self { $( $field, )* keys: entries.keys() })
            }
        }
    };
    (@ required) => { true };
    (@ optional) => { false };
}

/// A type whose values are fixed words.
#[macro_export]
macro_rules! keywords {
    ($kind:ty: $($word:literal => $value:expr),+ $(,)?) => {
        impl $crate::yaml::grammar::Grammar for $kind {
            fn schema() -> serde_json::Value {
                serde_json::json!({"type": "string", "enum": [$($word),+]})
            }
            fn read(
                node: &$crate::yaml::tree::Node,
                reader: &mut $crate::yaml::grammar::Reader<'_>,
            ) -> Option<Self> {
                $crate::yaml::grammar::word(node, reader, &[$(($word, $value)),+])
            }
        }
    };
}

/// Reads one of the words. A misspelled one is reported and read as what was probably meant.
pub fn word<T: Clone>(node: &Node, reader: &mut Reader<'_>, words: &[(&str, T)]) -> Option<T> {
    let value_of = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
    let known = || words.iter().map(|(word, _)| *word);
    let found = match &node.value {
        Value::Text(text) => text.as_str(),
        _ => "",
    };
    if let Some(value) = value_of(found) {
        return Some(value);
    }
    let message = format!("expected {}, found {}", one_of(known()), node.value.describe());
    let meant = nearest(found, known()).filter(|_| !found.is_empty());
    let error = reader.errors.error(node.at, message);
    if let Some(meant) = meant {
        error.help(format!("did you mean `{meant}`?"));
    }
    meant.and_then(value_of)
}
