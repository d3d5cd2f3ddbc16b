//! The node's own recipe, made of `ticket_webhook` in hms.yaml with the grammar and the words of every recipe, and
//! the names that are kept for the node. What goes into its feed is `app/webhook.rs`'s.

use serde_json::{Map, Value as Json, json};

use super::check;
use super::grammar::{ONLY_FOR, RecipeDoc, TargetDoc};
use super::model::Recipe;
use super::url_template::UrlTemplate;
use super::values::AdapterKind;
use crate::yaml::diagnostics::At;
use crate::yaml::grammar::{Grammar, Reader};
use crate::yaml::tree::{Key, Node, Value};
use crate::yaml::values::FromText;

/// What the names of the node's own recipes and feeds begin with.
const PREFIX: &str = "hms.";

/// The recipe that tells tickets.
pub const TICKET_WEBHOOK: &str = "hms.ticket_webhook";

/// The feed that it reads.
pub const TICKETS: &str = "hms.tickets";

/// Its target. The names of its secrets are derived from it: `TICKET_WEBHOOK_KEY`, `WEBHOOK_KEY`.
const TARGET: &str = "ticket_webhook";

/// Keys of a target that are not for the configuration to say.
const SET_BY_NODE: &[&str] = &["name", "adapter", "renamed_from"];

/// Whether a recipe or feed of this name is the node's own.
pub fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// `ticket_webhook: https://…`, or a mapping with the keys of a REST target.
#[derive(Debug, Clone)]
pub struct TicketWebhook(pub Recipe);

impl Grammar for TicketWebhook {
    fn schema() -> Json {
        let mut target = TargetDoc::schema();
        if let Some(keys) = target["properties"].as_object_mut() {
            let foreign =
                |key: &str| ONLY_FOR.iter().any(|(name, kinds)| *name == key && !kinds.contains(&AdapterKind::Rest));
            keys.retain(|key, _| !SET_BY_NODE.contains(&key.as_str()) && !foreign(key));
        }
        target["required"] = json!(AdapterKind::Rest.required_keys());
        json!({"anyOf": [UrlTemplate::schema(), target]})
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let target = target(node, reader)?;
        let text = format!(
            "# Made by the node, of `ticket_webhook` in hms.yaml: it is changed there.\n\
             id: {TICKET_WEBHOOK}\nsource: {{feed: {TICKETS}}}\ntargets:\n  - {}\nschedule: on_change\n",
            json_of(&target)
        );
        let source = map(node.at, [("feed", word(node.at, TICKETS))]);
        let recipe = map(
            node.at,
            [
                ("id", word(node.at, TICKET_WEBHOOK)),
                ("source", source),
                ("targets", Node { value: Value::List(vec![target]), at: node.at }),
                ("schedule", word(node.at, "on_change")),
            ],
        );
        let doc = RecipeDoc::read(&recipe, reader)?;
        check::recipe(doc, &text, &mut reader.errors).map(Self)
    }
}

/// The target as a recipe would have it, its parts where they stand in the configuration.
fn target(node: &Node, reader: &mut Reader<'_>) -> Option<Node> {
    let mut keys = vec![pair(node.at, "name", word(node.at, TARGET)), pair(node.at, "adapter", word(node.at, "rest"))];
    match &node.value {
        Value::Text(_) => keys.push(pair(node.at, "url", node.clone())),
        Value::Map(written) => {
            for (key, value) in written {
                if SET_BY_NODE.contains(&key.name.as_str()) {
                    reader.errors.error(key.at, format!("`{}` is set by the node", key.name)).help("remove the key");
                } else {
                    keys.push((key.clone(), value.clone()));
                }
            }
        }
        _ => {
            reader
                .unexpected(node, &format!("{}, or a mapping with the keys of a `rest` target", UrlTemplate::EXPECTED));
            return None;
        }
    }
    Some(Node { value: Value::Map(keys), at: node.at })
}

fn map<const N: usize>(at: At, entries: [(&str, Node); N]) -> Node {
    Node { value: Value::Map(entries.into_iter().map(|(name, value)| pair(at, name, value)).collect()), at }
}

fn pair(at: At, name: &str, value: Node) -> (Key, Node) {
    (Key { name: name.to_owned(), at }, value)
}

fn word(at: At, text: &str) -> Node {
    Node { value: Value::Text(text.to_owned()), at }
}

/// JSON is YAML too. What has no number in JSON has no meaning in the grammar either.
fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Integer(value) => i64::try_from(*value).map_or(Json::Null, Json::from),
        Value::Float(value) => Json::from(*value),
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| (key.name.clone(), json_of(value))).collect::<Map<_, _>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::NodeConfig;
    use crate::recipe::model::Adapter;

    fn parse(text: &str) -> Result<NodeConfig, String> {
        NodeConfig::parse("hms.yaml", text, Path::new(""), None).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_ticket_webhook_is_a_url_or_a_rest_target() {
        let url = "https://tasks.example/hook";
        for written in [url.to_owned(), format!("{{url: '{url}'}}"), format!("\n  url: {url}\n  timeout: 10s")] {
            let recipe = parse(&format!("ticket_webhook: {written}\n")).unwrap().ticket_webhook.unwrap();
            let Adapter::Rest(rest) = &recipe.targets[0].adapter else { panic!("{recipe:?}") };
            assert_eq!((rest.url.as_str(), rest.timeout), (url, Duration::from_secs(10)));
            assert_eq!(crate::recipe::parse("stored", &recipe.text).unwrap(), recipe, "{}", recipe.text);
        }
        assert_eq!(parse("").unwrap().ticket_webhook, None);
    }

    #[test]
    fn everything_a_rest_target_can_have_is_in_the_recipe_that_is_stored() {
        let text = r#"ticket_webhook:
  url: "https://tasks.example/{number}?a=\"b\""
  auth: {type: api_key, header: X-Key, secret: TASKS}
  headers: {X-Node: "vermont: #1 \\"}
  method: PUT
  batch: {max_events: 1}
  map: {number: id}
  timeout: 3s
  concurrency: 1
  idempotency: honoured
  rate_limit: {rate: 5/s, burst: 2}
  circuit: {failures: 5, open_for: 1s}
"#;
        let recipe = parse(text).unwrap().ticket_webhook.unwrap();
        assert_eq!(crate::recipe::parse("stored", &recipe.text).unwrap(), recipe, "{}", recipe.text);
        let Adapter::Rest(rest) = &recipe.targets[0].adapter else { panic!("{recipe:?}") };
        assert_eq!(rest.headers, [("X-Node".to_owned(), "vermont: #1 \\".to_owned())]);
        assert_eq!((rest.concurrency, rest.idempotency_honoured), (1, true));
        assert_eq!((recipe.targets[0].circuit.failures, recipe.source.feed.as_str()), (5, "hms.tickets"));
    }

    #[test]
    fn a_wrong_ticket_webhook_is_told_in_the_words_of_a_recipe_where_it_stands() {
        for (text, expected) in [
            ("ticket_webhook: tasks.example\n", "hms.yaml:1:17: error: expected a url such as https://"),
            ("ticket_webhook: [a]\n", "hms.yaml:1:17: error: expected a url such as https://"),
            ("ticket_webhook: {method: PUT}\n", "hms.yaml:1:17: error: missing key `url` of a `rest` target"),
            ("ticket_webhook:\n  ulr: https://a.example\n", "hms.yaml:2:3: error: unknown key `ulr` in a target"),
            ("ticket_webhook: {url: 'https://a', path: /x}\n", "`path` is not a key of a `rest` target"),
            ("ticket_webhook: {url: 'https://a', name: x}\n", "hms.yaml:1:36: error: `name` is set by the node"),
            ("ticket_webhook: {url: 'https://a', auth: key}\n", "a `rest` target can't log in this way"),
            ("ticket_webhook: {url: 'https://a', timeout: 1h}\n", "hms.yaml:1:45: error: the longest `timeout` is 10m"),
        ] {
            let errors = parse(text).unwrap_err();
            assert!(errors.contains(expected), "{expected}\n\n{errors}");
        }
        let errors =
            parse("ticket_webhook: {url: 'https://a', headers: {Authorization: Bearer s3cret}}\n").unwrap_err();
        assert!(errors.contains("use `auth`") && !errors.contains("s3cret"), "{errors}");
        let errors = parse("ticket_webhook: 'https://ann:s3cret@a.example/'\nlisten: x\ntls: {}\n").unwrap_err();
        assert!(errors.contains("expected an address") && errors.contains("missing key `cert`"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}
