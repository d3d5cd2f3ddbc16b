//! Recipes as files: the seed's, those that are shipped, and bad ones with the errors that they get.

use std::path::{Path, PathBuf};

use std::time::Duration;

use hms_actors::settings::WriteMode;

use proptest::prelude::*;

use super::*;
use crate::yaml::tree::{Node, Value};

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// `HMS_UPDATE=1 cargo test` writes the errors anew; the change is then read in the diff.
#[test]
fn each_bad_recipe_gets_the_errors_beside_it() {
    let files = yaml_files("src/recipe/tests/bad");
    assert!(files.len() >= 60, "{}", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let errors = match parse(&name(&path), &text) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => format!("{errors}\n"),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("HMS_UPDATE").is_some() {
            std::fs::write(&expected, &errors).unwrap();
        }
        if errors != std::fs::read_to_string(&expected).unwrap_or_default() || errors == "accepted\n" {
            wrong.push(format!("{}:\n{errors}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SEED: &str = include_str!("seed.yaml");

#[test]
fn the_recipe_of_the_seed_is_accepted_byte_for_byte() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/vdot.bridge_grant.sync.yaml");
    assert_eq!(std::fs::read_to_string(shipped).unwrap(), SEED);
    let recipe = parse("seed.yaml", SEED).unwrap();
    assert_eq!(recipe.text, SEED);
    assert_eq!(recipe.id.as_str(), "vdot.bridge_grant.sync");
    assert_eq!(recipe.schedule, model::ScheduleSpec::Every(Duration::from_secs(60)));
    assert_eq!(recipe.source.fields.unwrap(), ["grant_id", "status", "amount_usd", "lat", "lon"]);
    let model::Adapter::Rest(gis) = &recipe.targets[0].adapter else { panic!() };
    let batch = model::Batch { max_events: 1, format: model::BatchFormat::Object };
    assert_eq!((gis.method, gis.batch, gis.concurrency), (model::Method::Post, batch, 8));
    assert_eq!(gis.auth, Some(model::Auth::ApiKey { header: "X-API-Key".to_owned(), secret: None }));
    let model::Adapter::Sftp(cobol) = &recipe.targets[1].adapter else { panic!() };
    assert_eq!((cobol.port, cobol.user.as_str(), &cobol.auth), (22, "sync", &model::SftpAuth::Derived));
    assert_eq!((cobol.file.header, cobol.file.write), (false, WriteMode::Append));
}

#[test]
fn every_shipped_recipe_compiles_under_its_own_name() {
    let files = yaml_files("recipes");
    assert!(files.len() >= 5);
    for path in files {
        let text = std::fs::read(&path).unwrap();
        let recipe = parse_bytes(&name(&path), &text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(name(&path), format!("{}.yaml", recipe.id));
    }
}

#[test]
fn the_schema_for_editors_is_the_one_of_the_grammar() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/recipe.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("HMS_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "HMS_UPDATE=1 cargo test writes it anew");
}

/// A tree as JSON: what an editor checks.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(number) => i64::try_from(*number).unwrap().into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.name.clone(), json(value))).collect(),
    }
}

#[test]
fn an_editor_accepts_the_shipped_recipes_and_sees_what_is_wrong_with_a_bad_one() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for path in yaml_files("recipes") {
        let tree = tree::parse("f", &std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&json(&tree)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
    for bad in [
        "unknown_key",
        "missing_url",
        "on_doubt_on_rest",
        "method_get",
        "port_out_of_range",
        "every_without_a_duration",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/recipe/tests/bad/{bad}.yaml"));
        let tree = tree::parse("f", &std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(!validator.is_valid(&json(&tree)), "{bad}");
    }
}
#[test]
fn what_is_no_text_or_too_large_is_refused_before_it_is_parsed() {
    let errors = parse_bytes("a.yaml", b"id: a\nfeed: \xc3\x28\n").unwrap_err().to_string();
    assert!(errors.starts_with("a.yaml:2:7: error: byte 0xc3 is not UTF-8"), "{errors}");
    let errors = parse_bytes("a.yaml", &vec![b'#'; tree::LARGEST + 1]).unwrap_err().to_string();
    assert!(errors.starts_with("a.yaml:1:1: error: the file has 1048577 bytes"), "{errors}");
}

#[test]
fn thousands_of_errors_are_cut_to_the_first_hundred() {
    let keys: String = (0..9000).map(|number| format!("key{number}: 1\n")).collect();
    assert_eq!(parse("a.yaml", &keys).unwrap_err().iter().count(), 100);
}

#[test]
fn an_alias_is_read_as_what_it_stands_for() {
    let text = "id: a
source: {feed: f}
targets:
  - {name: a, adapter: rest, url: 'https://a.example/', headers: &headers {X-Source: hms}}
  - {name: b, adapter: rest, url: 'https://b.example/', headers: *headers}
schedule: on_change
";
    let recipe = parse("a.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let model::Adapter::Rest(second) = &recipe.targets[1].adapter else { panic!() };
    assert_eq!(second.headers, [("X-Source".to_owned(), "hms".to_owned())]);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(cut in 0usize..500, length in 0usize..40, piece in "[ -~\n{}&*\\[\\]:,'\"#|>é]{0,12}") {
        let mut text: Vec<char> = SEED.chars().collect();
        let start = cut.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, piece.chars());
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse("a.yaml", &text) {
            prop_assert!(errors.iter().count() > 0 && !errors.to_string().is_empty());
        }
    }
}
