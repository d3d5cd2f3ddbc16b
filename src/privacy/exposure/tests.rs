//! Tests of what is said to leave the node.

use super::super::{Disclosure, Never};
use super::*;
use crate::catalog::{Catalog, Label};
use crate::recipe;
use crate::recipe::model::Protection;
use hms_actors::id::Timestamp;

const CATALOG: &str = "feeds: {grants: {fields: {grant_id: [], status: open, ssn: [pii], address.street: [pii]}}}";

fn treatments(target: &str, source: &str, disclosure: &dyn Disclosure) -> Treatments {
    let text = format!(
        "id: a\nsource: {{feed: grants, {source}}}\ntargets:\n  - {{name: t, {target}}}\nschedule: on_change\n"
    );
    let recipe = recipe::parse("a", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let catalog = Catalog::parse("c", CATALOG).unwrap();
    Treatments::new(&recipe.source, &recipe.targets[0], &catalog, disclosure)
}

fn event(data: &str) -> Event {
    Event {
        offset: 0,
        published: Timestamp(0),
        id: "e".into(),
        source: "/s".into(),
        kind: "k".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: data.as_bytes().to_vec().into(),
    }
}

fn told(treatments: &Treatments, data: &str) -> (Vec<String>, Vec<String>) {
    let list = |labels: Labels| labels.iter().map(Label::to_string).collect();
    let exposure = treatments.exposure(&event(data));
    (list(exposure.clear), list(exposure.protected))
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}

const REST: &str = "adapter: rest, url: 'https://gis.example/{ssn}'";

#[test]
fn an_external_target_gets_labelled_fields_protected_and_an_internal_one_clear() {
    let fields = "fields: [grant_id, status, address]";
    let external = treatments("adapter: rest, url: 'https://gis.example/'", fields, &Never);
    let data = r#"{"grant_id":1,"status":"x","address":{"street":"s"},"ssn":"1"}"#;
    assert_eq!(told(&external, data), (words(&[]), words(&["open", "pii", "restricted"])));
    assert_eq!(told(&external, r#"{"grant_id":1,"ssn":"1"}"#), (words(&[]), words(&[])));
    let internal = treatments("adapter: rest, url: 'https://gis.example/', classification: internal", fields, &Never);
    assert_eq!(told(&internal, data), (words(&["open", "pii", "restricted"]), words(&[])));
    assert_eq!(external.of("grant_id").way, Way::Clear);
}

#[test]
fn a_field_that_stands_only_in_the_url_is_sent_too() {
    let target = treatments(REST, "fields: [grant_id]", &Never);
    assert_eq!(told(&target, r#"{"grant_id":1,"\u0073sn":"1","status":"x"}"#), (words(&[]), words(&["pii"])));
}

#[test]
fn without_fields_all_that_was_published_counts_and_what_is_unknown_is_restricted() {
    let target = treatments("adapter: rest, url: 'https://gis.example/'", "key: a", &Never);
    assert_eq!(told(&target, r#"{"new":null}"#), (words(&[]), words(&["restricted"])));
    assert_eq!(target.possible().protected.len(), 3);
    assert!(target.protects() && target.needs_key() && target.labelled());
}

#[test]
fn a_policy_can_allow_a_label_and_protect_wins_over_it() {
    struct Open;
    impl Disclosure for Open {
        fn may_disclose(&self, label: &Label) -> bool {
            label.as_str() == "open"
        }
    }
    let target = treatments(
        "adapter: rest, url: 'https://gis.example/', protect: {grant_id: last4, ssn: redact}",
        "fields: [grant_id, status, ssn]",
        &Open,
    );
    assert_eq!(told(&target, r#"{"grant_id":1,"status":1,"ssn":1}"#), (words(&["open"]), words(&["pii"])));
    assert_eq!(target.of("grant_id").way, Way::Protected(Protection::Last4));
    assert_eq!(target.of("ssn").way, Way::Protected(Protection::Redact));
    assert!(!target.needs_key());
}

#[test]
fn labels_of_the_recipe_count_and_attributes_stay_at_home_unless_the_catalog_lets_them_out() {
    let target = treatments(
        "adapter: file, path: /a, format: jsonl, map: {grant_id: id}",
        "fields: [grant_id], labels: {grant_id: [key]}",
        &Never,
    );
    assert_eq!(told(&target, r#"{"grant_id":1}"#), (words(&[]), words(&["key"])));
    assert!(!target.attributes().allow("subject"));
    let internal = treatments("adapter: file, path: /a, format: jsonl, classification: internal", "key: a", &Never);
    assert!(internal.attributes().allow("subject"));
}

#[test]
fn bytes_that_are_no_object_count_as_anything() {
    let target = treatments(REST, "fields: [grant_id, status]", &Never);
    for data in ["", "[1]", "\"ssn\"", r#"{"grant_id":1"#, "\u{feff}{}"] {
        assert_eq!(target.exposure(&event(data)), target.possible(), "{data}");
    }
    assert!(!target.possible().is_empty());
}
