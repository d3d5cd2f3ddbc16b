//! A YAML text as a tree of values with their positions. Sizes are bounded before and while it is built;
//! duplicate keys are kept, so that the grammar can report each of them.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Options, Spanned};

use super::diagnostics::{At, Collector, Diagnostics, quoted};

/// Larger texts are refused unread.
pub const LARGEST: usize = 1024 * 1024;
const MOST_NODES: usize = 20_000;
const DEEPEST: usize = 16;
/// Aliases are for a few repeated lines; what expands to more than this is a bomb.
const MOST_ALIASED: usize = 2_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub at: At,
}

/// A YAML value. A plain scalar is a number or a boolean only in the forms of YAML 1.2: `yes` is a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub at: At,
}

/// Checks size and encoding of a file's content.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostics> {
    if bytes.len() > LARGEST {
        let message = format!("the file has {} bytes, the limit is {LARGEST} (1 MiB)", bytes.len());
        return Err(Diagnostics::of_file(file, message));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = u32::try_from(good.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count();
        let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
        let mut errors = Collector::new(file, &good);
        let message = format!("byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]);
        errors.error(At { line, column, length: 1 }, message).help("save the file as UTF-8");
        errors.into_errors()
    })
}

/// Parses a text. Errors of YAML itself end at the first one: what follows it has no meaning.
pub fn parse(file: &str, text: &str) -> Result<Node, Diagnostics> {
    self::text(file, text.as_bytes())?;
    serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options()).map(node).map_err(|error| {
        let mut errors = Collector::new(file, text);
        let at = error.location().map_or(At::START, position);
        syntax_error(&mut errors, at, error.without_snippet());
        errors.into_errors()
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MOST_NODES,
            max_events: 3 * MOST_NODES,
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_documents: 2,
            max_recorded_anchor_events: MOST_NODES,
            max_recorded_anchor_bytes: LARGEST,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_ALIASED,
            max_replay_stack_depth: DEEPEST,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn syntax_error(errors: &mut Collector<'_>, at: At, error: &serde_saphyr::Error) {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;
    let message = match error {
        Error::AliasError { error, .. } => return syntax_error(errors, at, error),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => format!("nested deeper than {DEEPEST} levels"),
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            format!("more than {MOST_NODES} values")
        }
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            "aliases expand to too many values".to_owned()
        }
        Error::MultipleDocuments { .. } => "a second YAML document begins here, one is expected".to_owned(),
        other => {
            let message = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // The position is said once, by the diagnostic.
            match message.split(" at line ").next().unwrap_or_default() {
                "recursion limit exceeded" => format!("nested deeper than {DEEPEST} levels"),
                message => format!("not valid YAML: {message}"),
            }
        }
    };
    errors.error(at, message);
}

fn position(location: Location) -> At {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    At {
        line: number(location.line()).max(1),
        column: number(location.column()).max(1),
        length: number(location.span().len()),
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    let mut at = position(spanned.referenced);
    if matches!(spanned.value, Value::List(_) | Value::Map(_)) {
        at.length = 1;
    }
    Node { value: spanned.value, at }
}

impl Value {
    /// What was found, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => quoted(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Value>>()? {
            nodes.push(node(item));
        }
        Ok(Value::List(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Value>>()?;
            entries.push((Key { name: key.value, at: position(key.referenced) }, node(value)));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn keys_and_values_know_where_they_stand() {
        let tree = parse("f", "# note\nid: x\nlist: [1, {ä: \"two\"}]\n").unwrap();
        let Value::Map(entries) = tree.value else { panic!() };
        assert_eq!(entries[0].0, Key { name: "id".to_owned(), at: At { line: 2, column: 1, length: 2 } });
        let Value::List(items) = &entries[1].1.value else { panic!() };
        assert_eq!(items[0], Node { value: Value::Integer(1), at: At { line: 3, column: 8, length: 1 } });
        let Value::Map(inner) = &items[1].value else { panic!() };
        assert_eq!(inner[0].1.at, At { line: 3, column: 15, length: 5 });
    }

    #[test]
    fn duplicate_keys_reach_the_grammar() {
        let Value::Map(entries) = parse("f", "a: 1\na: 2\n").unwrap().value else { panic!() };
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn words_that_other_yaml_reads_as_booleans_are_texts() {
        for word in ["yes", "no", "on", "off", "y"] {
            assert_eq!(parse("f", word).unwrap().value, Value::Text(word.to_owned()));
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        for levels in [4, 9] {
            let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
            for level in 1..levels {
                let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
                bomb += &format!("a{level}: &a{level} [{aliases}]\n");
            }
            assert!(errors(&bomb).contains("aliases expand to too many values"), "{}", errors(&bomb));
        }
    }

    #[test]
    fn deep_nesting_in_either_style_is_refused() {
        let flow = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        for text in [flow, block] {
            assert!(errors(&text).contains("nested deeper than 16 levels"), "{}", errors(&text));
        }
    }

    #[test]
    fn a_text_over_one_mebibyte_is_refused_unread() {
        let text = "#".repeat(LARGEST + 1);
        assert!(errors(&text).contains("the limit is 1048576"));
        assert!(parse("f", &text[1..]).is_ok());
    }

    #[test]
    fn more_values_than_any_recipe_has_are_refused() {
        assert!(errors(&"- 1\n".repeat(MOST_NODES + 1)).contains("more than 20000 values"));
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_shown() {
        let shown = text("f", b"id: a\nfeed: b\xff\n").unwrap_err().to_string();
        assert!(shown.starts_with("f:2:8: error: byte 0xff is not UTF-8"), "{shown}");
    }
}
