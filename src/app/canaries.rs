//! No value of a labelled field stands in the clear in anything that an external target is sent: random records,
//! catalogs and targets against the very bytes of requests and rows.

use std::sync::Arc;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{TargetKey, Timestamp};
use proptest::prelude::*;

use crate::adapters::rest;
use crate::adapters::rows::RowFormat;
use crate::catalog::Catalog;
use crate::formats::Shape;
use crate::privacy::{self, Guard, Keys, Treatments};
use crate::recipe;
use crate::recipe::model::{Adapter, Recipe, Target};

const FIELDS: [&str; 6] = ["id", "ssn", "name", "address", "amount", "note"];

/// What a record holds in each of the fields, and the canary in it.
fn value(field: &str, canary: u64) -> String {
    match field {
        "amount" => format!("{canary}.50"),
        "address" => format!(r#"{{"zip":["x",{{"street":"{canary} Main St"}}]}}"#),
        "ssn" => format!(r#""{canary}""#),
        _ => format!(r#""\u0041{canary}\n""#),
    }
}

fn guarded(keys: &Arc<Keys>, catalog: &Catalog, recipe: &Recipe, target: &Target) -> (TargetKey, Shape) {
    let key = TargetKey { recipe: recipe.id.clone(), target: target.name.clone() };
    let partner = privacy::partner(&key, target);
    let treatments = Treatments::new(&recipe.source, target, catalog, &privacy::Never);
    if keys.current(&partner).is_err() {
        keys.create(&partner).unwrap();
    }
    let guard = Guard::new(treatments, partner, keys.clone());
    (key, Shape::new(&recipe.source, &target.map).guarded(guard))
}

/// All that leaves the node for a target: request line, headers, body; or the rows.
fn wire(
    keys: &Arc<Keys>,
    catalog: &Catalog,
    recipe: &Recipe,
    target: &Target,
    event: &Event,
) -> Result<String, Failure> {
    let (key, shape) = guarded(keys, catalog, recipe, target);
    let events = std::slice::from_ref(event);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match &target.adapter {
        Adapter::Rest(rest) => {
            let request = rest::preview(key, shape, rest, events)?;
            format!("{} {:?} {}", request.url, request.headers, text(&request.body))
        }
        Adapter::Sftp(sftp) => text(&RowFormat::new(shape, &sftp.file).encode(events)?.bytes),
        Adapter::File(file) => text(&RowFormat::new(shape, file).encode(events)?.bytes),
    })
}

const TARGETS: [&str; 7] = [
    "adapter: rest, url: 'https://gis.example/x'",
    "adapter: rest, url: 'https://gis.example/{ssn}?n={name}', map: {ssn: social}",
    "adapter: rest, url: 'https://b.example/', batch: {max_events: 5, format: json_array}",
    "adapter: rest, url: 'https://b.example/', batch: {max_events: 5, format: cloudevents_batch}",
    "adapter: rest, url: 'https://b.example/', batch: {max_events: 5, format: ndjson}, map: {name: who}",
    "adapter: sftp, host: finance.example, path: /a.csv, format: csv",
    "adapter: file, path: /a.jsonl, format: jsonl",
];

fn event(canaries: &[u64], order: &[usize]) -> Event {
    let data: Vec<String> =
        order.iter().map(|&at| format!(r#""{}":{}"#, FIELDS[at], value(FIELDS[at], canaries[at]))).collect();
    Event {
        offset: 7,
        published: Timestamp(0),
        id: "e-1".into(),
        source: "/s".into(),
        kind: "k".into(),
        subject: Some(format!("subject {}", canaries[1])),
        time: None,
        extensions: vec![("tenant".into(), canaries[1].to_string())],
        data: format!("{{{}}}", data.join(",")).into(),
    }
}

fn recipe_of(target: &str, protect: &str) -> Recipe {
    let text = format!(
        "id: a.sync\nsource: {{feed: f, fields: [{}], key: ssn}}\ntargets:\n  - {{name: t, {target}{protect}}}\nschedule: on_change\n",
        FIELDS.join(", ")
    );
    recipe::parse("a", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_labelled_value_is_sent_in_the_clear_to_an_external_target(
        canaries in proptest::collection::vec(100_000_000_000u64..999_999_999_999, FIELDS.len()),
        labelled in proptest::collection::vec(any::<bool>(), FIELDS.len()),
        default: bool,
        target in 0..TARGETS.len(),
        how in proptest::option::of(prop_oneof![Just("redact"), Just("last4"), Just("token"), Just("ff1")]),
        order in Just((0..FIELDS.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::new(folder.path()));
        let entry = |at: usize| match (FIELDS[at], labelled[at]) {
            ("address", true) => "address: [], address.zip.street: [pii]".to_owned(),
            (field, true) => format!("{field}: [pii]"),
            (field, false) => format!("{field}: []"),
        };
        let fields: Vec<String> = (1..FIELDS.len()).map(entry).collect();
        let open = if default { "restricted" } else { "[]" };
        let catalog = format!("feeds: {{f: {{default: {open}, fields: {{{}}}}}}}", fields.join(", "));
        let catalog = Catalog::parse("c", &catalog).unwrap_or_else(|errors| panic!("{errors}"));
        let protect = how.map(|how| format!(", protect: {{ssn: {how}}}")).unwrap_or_default();
        let recipe = recipe_of(TARGETS[target], &protect);
        let event = event(&canaries, &order);
        let sent = wire(&keys, &catalog, &recipe, &recipe.targets[0], &event).unwrap();
        for (at, field) in FIELDS.iter().enumerate() {
            let hidden = if at == 0 { default } else { labelled[at] } || (*field == "ssn" && how.is_some());
            let seen = sent.contains(&canaries[at].to_string());
            prop_assert_eq!(seen, !hidden, "{} in {}", field, sent);
        }
        // The same again, byte for byte.
        prop_assert_eq!(wire(&keys, &catalog, &recipe, &recipe.targets[0], &event).unwrap(), sent);
    }
}

#[test]
fn two_partners_get_other_tokens_and_two_targets_of_one_partner_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::new(folder.path()));
    let catalog = Catalog::parse("c", "feeds: {f: {default: [], fields: {ssn: pii}}}").unwrap();
    let event = event(&[1; 6], &[1]);
    let token = |target: &str| {
        let recipe = recipe_of(target, "");
        let sent = wire(&keys, &catalog, &recipe, &recipe.targets[0], &event).unwrap();
        let at = sent.find("tok_v1_").expect(&sent);
        sent[at..at + 29].to_owned()
    };
    let gis = token(TARGETS[0]);
    assert_eq!(gis, token("adapter: sftp, host: GIS.example, path: /a.csv, format: csv"));
    assert_ne!(gis, token(TARGETS[2]));
    assert_ne!(token(TARGETS[5]), token(TARGETS[6]));
}

#[test]
fn what_was_begun_with_a_version_is_finished_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::new(folder.path()));
    let catalog = Catalog::parse("c", "feeds: {f: {default: [], fields: {ssn: pii}}}").unwrap();
    let recipe = recipe_of(TARGETS[0], "");
    let (_, shape) = guarded(&keys, &catalog, &recipe, &recipe.targets[0]);
    let row = |seal| {
        let mut out = Vec::new();
        shape.open(seal).unwrap().json(&event(&[1; 6], &[1]), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let begun = (shape.seal().unwrap(), row(1));
    keys.rotate("gis.example").unwrap();
    assert_eq!(shape.seal().unwrap(), 2);
    assert_eq!(begun, (1, row(1)));
    assert!(row(2).contains("tok_v2_") && row(0) == row(2));
    assert!(shape.open(3).is_err());
}

#[test]
fn attributes_go_out_as_the_catalog_says_and_to_internal_targets_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::new(folder.path()));
    let closed = Catalog::parse("c", "feeds: {f: {default: []}}").unwrap();
    let open = Catalog::parse("c", "feeds: {f: {default: [], envelope: [tenant]}}").unwrap();
    let event = event(&[123_456_789_012; 6], &[0]);
    let sent = |catalog: &Catalog, target: &str| {
        let recipe = recipe_of(target, "");
        wire(&keys, catalog, &recipe, &recipe.targets[0], &event).unwrap()
    };
    for target in [TARGETS[0], TARGETS[3]] {
        assert!(!sent(&closed, target).contains("tenant") && !sent(&closed, target).contains("subject"));
        assert!(sent(&open, target).contains("tenant") && !sent(&open, target).contains("subject"));
        let internal = sent(&closed, &format!("{target}, classification: internal"));
        assert!(internal.contains("tenant") && internal.contains("subject"), "{internal}");
    }
}
