//! 10,000 random records, targets and catalogs, against a judge that knows nothing of Cedar, of recipes or of the code
//! that finds labels.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const FIELDS: [&str; 6] = ["id", "ssn", "name", "amount", "note", "person"];
const LABELS: [&str; 3] = ["pii", "financial", "restricted"];

type Labelled = BTreeMap<String, Vec<&'static str>>;

#[derive(Debug, Clone)]
struct Case {
    record: Vec<&'static str>,
    /// Fields that are copied; none: all.
    copied: Option<Vec<&'static str>>,
    in_url: Option<&'static str>,
    https: bool,
    external: bool,
    residency: Option<&'static str>,
    protected: BTreeSet<&'static str>,
    /// None: the feed is not in the catalog.
    catalog: Option<(Labelled, Vec<&'static str>)>,
    added: Labelled,
}

/// The shipped policies, as somebody would write them down who has only read what they promise.
fn may_go(case: &Case) -> bool {
    let (mut clear, mut any) = (BTreeSet::new(), false);
    for &field in &case.record {
        let is_sent = case.in_url == Some(field) || case.copied.as_ref().is_none_or(|copied| copied.contains(&field));
        if !is_sent {
            continue;
        }
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        let inside = format!("{field}.");
        if let Some((fields, default)) = &case.catalog {
            labels.extend(fields.get(field).unwrap_or(default));
            labels.extend(fields.iter().filter(|(name, _)| name.starts_with(&inside)).flat_map(|(_, labels)| labels));
        }
        labels.extend(
            case.added.iter().filter(|(name, _)| *name == field || name.starts_with(&inside)).flat_map(|a| a.1),
        );
        any |= !labels.is_empty();
        let is_protected = case.protected.contains(field) || (case.external && !labels.is_empty());
        if !is_protected {
            clear.extend(labels);
        }
    }
    let abroad = case.residency != Some("US");
    !(clear.contains("pii") && abroad || any && !case.https)
}

fn text_of(case: &Case) -> String {
    let mut source = json!({"feed": "grants", "labels": case.added});
    if let Some(copied) = &case.copied {
        source["fields"] = json!(copied);
    }
    let scheme = if case.https { "https" } else { "http" };
    let path = case.in_url.map(|field| format!("{{{field}}}")).unwrap_or_default();
    let mut target = json!({
        "name": "gis", "adapter": "rest", "url": format!("{scheme}://h.example/{path}"),
        "classification": if case.external { "external" } else { "internal" },
    });
    if let Some(residency) = case.residency {
        target["residency"] = json!(residency);
    }
    let protect: Map<String, Value> = case.protected.iter().map(|&field| (field.to_owned(), json!("redact"))).collect();
    if !protect.is_empty() {
        target["protect"] = Value::Object(protect);
    }
    // JSON is YAML.
    json!({"id": "a.sync", "source": source, "targets": [target], "schedule": "on_change"}).to_string()
}

fn catalog_of(case: &Case) -> Catalog {
    let text = match &case.catalog {
        Some((fields, default)) => json!({"feeds": {"grants": {"fields": fields, "default": default}}}),
        None => json!({}),
    };
    Catalog::parse("catalog.yaml", &text.to_string()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn record_of(case: &Case) -> String {
    let value = |field| if field == "person" { json!({"ssn": "1", "deep": {"er": 1}}) } else { json!("x") };
    let fields: Map<String, Value> = case.record.iter().map(|&field| (field.to_owned(), value(field))).collect();
    Value::Object(fields).to_string()
}

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 0..=of.len())
}

fn labelled() -> impl Strategy<Value = Labelled> {
    const PLACES: &[&str] = &["id", "ssn", "name", "amount", "note", "person", "person.ssn", "person.deep.er"];
    let place = proptest::sample::select(PLACES).prop_map(str::to_owned);
    proptest::collection::btree_map(place, some(&LABELS), 0..5)
}

fn case() -> impl Strategy<Value = Case> {
    let target = (
        proptest::option::of(proptest::sample::select(&FIELDS[..])),
        proptest::bool::weighted(0.7),
        any::<bool>(),
        proptest::option::of(proptest::sample::select(vec!["US", "DE", "VI"])),
        proptest::collection::btree_set(proptest::sample::select(&FIELDS[..]), 0..3),
    );
    let source = (some(&FIELDS), proptest::option::of(some(&FIELDS)));
    let catalog = (proptest::option::of((labelled(), some(&LABELS))), labelled());
    (source, target, catalog).prop_map(
        |((record, copied), (in_url, https, external, residency, protected), catalog)| {
            // A recipe copies something, and protects only what it sends.
            let copied = copied.filter(|copied| !copied.is_empty());
            let is_sent =
                |field: &&str| copied.as_ref().is_none_or(|copied| copied.contains(field)) || in_url == Some(*field);
            let protected = protected.into_iter().filter(is_sent).collect();
            let (catalog, added) = catalog;
            Case { record, copied, in_url, https, external, residency, protected, catalog, added }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
    #[test]
    fn the_shipped_policies_and_an_independent_judge_never_disagree(case in case()) {
        thread_local!(static SHIPPED: Arc<Governance> = shipped());
        let recipe = crate::recipe::parse("a.sync.yaml", &text_of(&case)).unwrap_or_else(|errors| panic!("{errors}"));
        let verdict = SHIPPED.with(|shipped| judge(shipped, &recipe, &catalog_of(&case)).decide(&event(&record_of(&case))));
        prop_assert!(!matches!(verdict, Verdict::CannotTell { .. }), "{:?}", verdict);
        prop_assert_eq!(verdict == Verdict::Allow, may_go(&case), "{:?}", verdict);
    }
}
