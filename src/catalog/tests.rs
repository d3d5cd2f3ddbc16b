//! What a catalog says, and what it says when it is wrong.

use super::*;
use crate::recipe::model::From;

const CATALOG: &str = "
feeds:
  grants:
    fields:
      grant_id: []
      ssn: pii
      amount: [financial]
      address.street: [pii]
      address: [contact]
    envelope: [subject, tenant]
  crews:
    default: []
    fields: {phone: [pii, contact]}
";

fn labels(list: &[&str]) -> Labels {
    list.iter().map(|label| Label::parse(label).unwrap()).collect()
}

fn source(feed: &str, added: &[(&str, &str)]) -> Source {
    Source {
        feed: FeedName::parse(feed).unwrap(),
        fields: None,
        key: None,
        from: From::Now,
        required: Vec::new(),
        labels: added.iter().map(|(field, label)| (field.to_string(), labels(&[label]))).collect(),
    }
}

#[test]
fn fields_have_their_labels_and_those_that_are_not_named_are_restricted() {
    let catalog = Catalog::parse("c", CATALOG).unwrap();
    let grants = catalog.labels(&source("grants", &[]));
    assert_eq!(grants.of("ssn"), labels(&["pii"]));
    assert_eq!(grants.of("grant_id"), labels(&[]));
    assert_eq!(grants.of("anything"), labels(&["restricted"]));
    let crews = catalog.labels(&source("crews", &[]));
    assert_eq!((crews.of("anything"), crews.of("phone")), (labels(&[]), labels(&["contact", "pii"])));
    assert_eq!(catalog.feed(&FeedName::parse("grants").unwrap()).unwrap().envelope.len(), 2);
}

#[test]
fn a_value_that_may_hold_a_labelled_member_counts_as_labelled() {
    let grants = Catalog::parse("c", CATALOG).unwrap().labels(&source("grants", &[]));
    assert_eq!(grants.of("address"), labels(&["contact", "pii"]));
    // A field of that very name is the same to the catalog.
    assert_eq!(grants.of("address.street"), labels(&["pii"]));
    assert_eq!(grants.of("addressee"), labels(&["restricted"]));
    assert!(grants.named().contains("address"));
}

#[test]
fn a_nested_path_makes_its_field_labelled_though_the_field_is_not_named() {
    let catalog = Catalog::parse("c", "feeds: {f: {default: [], fields: {a.b.c: pii}}}").unwrap();
    let labelled = catalog.labels(&source("f", &[]));
    assert_eq!(labelled.named().into_iter().collect::<Vec<_>>(), ["a", "a.b", "a.b.c"]);
    assert_eq!(labelled.of("a"), labels(&["pii"]));
}

#[test]
fn a_feed_without_an_entry_has_no_labels() {
    let catalog = Catalog::parse("c", CATALOG).unwrap();
    assert!(catalog.labels(&source("weather", &[])).is_empty());
    assert!(!catalog.labels(&source("weather", &[("where", "pii")])).is_empty());
    assert_eq!(Catalog::parse("c", "# nothing\n").unwrap(), Catalog::default());
}

#[test]
fn a_recipe_adds_labels_and_never_removes_one() {
    let catalog = Catalog::parse("c", CATALOG).unwrap();
    let added = [("ssn", "secret"), ("other", "open"), ("grant_id", "id"), ("address.zip", "place"), ("deep.er", "x")];
    let grants = catalog.labels(&source("grants", &added));
    assert_eq!(grants.of("ssn"), labels(&["pii", "secret"]));
    assert_eq!(grants.of("other"), labels(&["open", "restricted"]));
    assert_eq!(grants.of("grant_id"), labels(&["id"]));
    assert_eq!(grants.of("address"), labels(&["contact", "pii", "place"]));
    assert_eq!(grants.of("deep"), labels(&["restricted", "x"]));
}

#[test]
fn the_default_of_all_feeds_can_be_another_one() {
    let catalog = Catalog::parse("c", "default: [pii, unknown]\nfeeds: {f: {}}\n").unwrap();
    assert_eq!(catalog.labels(&source("f", &[])).of("a"), labels(&["pii", "unknown"]));
}

#[test]
fn every_error_is_told_with_its_place() {
    let wrong = "feeds:
  Grants: {}
  f:
    felds: {}
    fields: {a: PII, '': x, b: [pii, 7]}
    envelope: [id, Tenant]
";
    let errors = Catalog::parse("catalog.yaml", wrong).unwrap_err().to_string();
    for expected in [
        "catalog.yaml:2:3: error: expected the name of a feed, found `Grants`",
        "catalog.yaml:4:5: error: unknown key `felds` in a feed",
        "catalog.yaml:5:17: error: expected a label",
        "expected a field or a dotted path, found ``",
        "this attribute goes to every target anyway",
        "found `Tenant`",
    ] {
        assert!(errors.contains(expected), "{expected}\n\n{errors}");
    }
}

#[test]
fn the_example_in_the_docs_is_a_catalog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/catalog.yaml");
    let catalog = Catalog::load(Some(&path)).unwrap_or_else(|errors| panic!("{errors}"));
    let grants = catalog.labels(&source("grants.bridge_repair.updated", &[]));
    assert_eq!((grants.of("grant_id"), grants.of("applicant")), (labels(&[]), labels(&["contact", "pii"])));
}
