//! Policies as operators write them, and what is said when they are wrong.

mod judged;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::id::Timestamp;
use hms_actors::ports::{Judge, Verdict};
use tempfile::tempdir;

use super::*;
use crate::catalog::Catalog;
use crate::privacy::Treatments;
use crate::recipe::model::Recipe;

fn event(data: &str) -> Event {
    Event {
        offset: 0,
        published: Timestamp(0),
        id: "e".into(),
        source: "s".into(),
        kind: "k".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: Bytes::from(data.to_owned()),
    }
}

/// One rest target with these keys.
fn recipe(keys: &str) -> Recipe {
    let text = format!(
        "id: a.sync\nsource: {{feed: grants}}\ntargets:\n  - {{name: gis, adapter: rest, {keys}}}\nschedule: on_change\n"
    );
    crate::recipe::parse("a.sync.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn catalog() -> Catalog {
    Catalog::parse("catalog.yaml", "feeds: {grants: {default: [], fields: {ssn: [pii], amount: [financial]}}}").unwrap()
}

fn judge(governance: &Arc<Governance>, recipe: &Recipe, catalog: &Catalog) -> LabelJudge {
    let target = &recipe.targets[0];
    let asked = governance.target(Facts::of(recipe, target, Node::default())).unwrap();
    let treatments = Treatments::new(&recipe.source, target, catalog, &Permitted(governance, &asked));
    LabelJudge::new(governance.clone(), asked, Arc::new(treatments))
}

fn shipped() -> Arc<Governance> {
    Arc::new(Governance::load(None).unwrap_or_else(|errors| panic!("{errors}")))
}

fn with(file: &str, policies: &str) -> Result<Arc<Governance>, String> {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join(file), policies).unwrap();
    let loaded = Governance::load(Some(dir.path())).map(Arc::new).map_err(|errors| errors.to_string());
    loaded.map_err(|errors| errors.replace(&format!("{}/", dir.path().display()), ""))
}

/// The ids of the policies that say no.
fn no(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Deny(denial) => denial.policies,
        other => panic!("{other:?}"),
    }
}

const PII: &str = r#"{"ssn":"078-05-1120","n":1}"#;

#[test]
fn personal_data_in_the_clear_goes_to_the_us_alone_and_unknown_is_not_us() {
    let governance = shipped();
    for (keys, goes) in [
        ("url: 'https://h.example/', classification: internal, residency: US", true),
        ("url: 'https://h.example/', classification: internal, residency: DE", false),
        ("url: 'https://h.example/', classification: internal", false),
        // Tokenized, because nothing permits to disclose it.
        ("url: 'https://h.example/', classification: external", true),
        ("url: 'https://h.example/', classification: internal, protect: {ssn: redact}", true),
    ] {
        let judge = judge(&governance, &recipe(keys), &catalog());
        match judge.decide(&event(PII)) {
            Verdict::Allow => assert!(goes, "{keys}"),
            verdict => {
                assert!(!goes, "{keys}");
                assert_eq!(no(verdict), ["no-pii-abroad"]);
            }
        }
        assert_eq!(judge.decide(&event(r#"{"n":1}"#)), Verdict::Allow, "{keys}");
    }
}

#[test]
fn labelled_data_does_not_travel_unencrypted_protected_or_not() {
    let governance = shipped();
    for keys in ["classification: internal", "classification: external"] {
        let plain = recipe(&format!("url: 'http://h.example/', residency: US, {keys}"));
        let judge = judge(&governance, &plain, &catalog());
        assert_eq!(no(judge.decide(&event(r#"{"amount":1}"#))), ["no-labels-unencrypted"]);
        assert_eq!(judge.decide(&event(r#"{"n":1}"#)), Verdict::Allow);
    }
}

#[test]
fn a_denial_says_which_policy_and_what_it_is_about_and_shows_no_value() {
    let recipe = recipe("url: 'https://GIS.example/', classification: internal");
    let Verdict::Deny(denial) = judge(&shipped(), &recipe, &catalog()).decide(&event(PII)) else { panic!() };
    assert_eq!(
        denial.words,
        "policy `no-pii-abroad`: personal data (`pii`) goes in the clear only to targets with `residency: US` \
         (target: gis.example, residency unknown, https; labels in the clear: pii)"
    );
}

#[test]
fn approved_algorithms_are_asked_for_only_where_the_node_requires_them() {
    let governance = shipped();
    for (url, required, goes) in
        [("http://h.example/", false, true), ("http://h.example/", true, false), ("https://h.example/", true, true)]
    {
        let recipe = recipe(&format!("url: '{url}'"));
        let facts = Facts::of(&recipe, &recipe.targets[0], Node { fips_required: required });
        let verdict = governance.decide(&governance.target(facts).unwrap(), [], []);
        assert_eq!(verdict == Verdict::Allow, goes, "{url} {required}: {verdict:?}");
    }
}

#[test]
fn an_operator_forbids_permits_to_disclose_and_replaces_what_is_shipped() {
    let recipe = recipe("url: 'https://h.example/', residency: US");
    let forbids = "forbid (principal == Recipe::\"a.sync\", action == Action::\"push\", resource);";
    let more = with("mine.cedar", forbids).unwrap();
    assert_eq!(no(judge(&more, &recipe, &catalog()).decide(&event("{}"))), ["mine"], "named by its file");

    let target =
        |governance: &Governance| governance.target(Facts::of(&recipe, &recipe.targets[0], Node::default())).unwrap();
    let discloses = "permit (principal, action == Action::\"disclose\", resource)
        when { context.label == \"financial\" && resource.host == \"h.example\" };";
    let governance = with("disclose.cedar", discloses).unwrap();
    let asked = target(&governance);
    assert!(governance.may_disclose(&asked, "financial") && !governance.may_disclose(&asked, "pii"));
    assert!(!shipped().may_disclose(&target(&shipped()), "financial"), "nothing is disclosed by itself");

    let elsewhere = self::recipe("url: 'https://h.example/', classification: internal");
    let off = with("no-pii-abroad.cedar", "// Turned off: this node has partners that are allowed to.\n").unwrap();
    assert_eq!(judge(&off, &elsewhere, &catalog()).decide(&event(PII)), Verdict::Allow);

    let nothing = with("push.cedar", "").unwrap();
    let Verdict::Deny(denial) = judge(&nothing, &recipe, &catalog()).decide(&event("{}")) else { panic!() };
    assert!(denial.policies.is_empty() && denial.words.starts_with("no policy permits it"), "{denial:?}");
}

#[test]
fn a_policy_that_fails_while_it_is_evaluated_is_a_no_and_the_node_says_so() {
    // It is valid by its types, and Cedar by itself would let the request through.
    let overflows = "@id(\"broken\")\nforbid (principal, action == Action::\"push\", resource)
        when { 9223372036854775807 + 1 == 0 };";
    let governance = with("broken.cedar", overflows).unwrap();
    assert_eq!(governance.broken(), None);
    let recipe = recipe("url: 'https://h.example/'");
    let Verdict::CannotTell { words } = judge(&governance, &recipe, &catalog()).decide(&event("{}")) else { panic!() };
    assert!(words.contains("policies can't be evaluated") && words.contains("broken"), "{words}");
    assert_eq!(governance.broken(), Some(words));
}

#[test]
fn what_is_wrong_with_a_policy_is_said_with_file_line_and_column() {
    for (policies, expected) in [
        ("// a comment\npermit (principal, action, resource", "mine.cedar:2:"),
        (
            "permit (principal, action == Action::\"push\", resource)\nwhen { resource.residencia == \"US\" };",
            "mine.cedar:2:8: error: for this policy, attribute `residencia`",
        ),
        (
            "@id(\"x\")\nforbid (principal, action == Action::\"push\", resource)\nwhen { context.labels == 1 };",
            "mine.cedar:3:",
        ),
        ("permit (principal == ?principal, action, resource);", "a template"),
        (
            "@id(\"push\")\nforbid (principal, action == Action::\"push\", resource == Target::\"a/b\");",
            "there is another policy `push`: give this one its own @id",
        ),
    ] {
        let errors = with("mine.cedar", policies).err().unwrap();
        assert!(errors.contains(expected), "{expected}\n\n{errors}");
    }
    let errors = Governance::load(Some(Path::new("/nowhere"))).err().unwrap().to_string();
    assert!(errors.starts_with("/nowhere:1:1: error: not readable: No such file"), "{errors}");
}

#[test]
fn an_event_without_labels_costs_nothing_and_the_same_labels_are_asked_about_once() {
    let governance = shipped();
    let judge = judge(&governance, &recipe("url: 'https://h.example/', classification: internal"), &catalog());
    (0..1000).for_each(|n| drop(judge.decide(&event(&format!(r#"{{"ssn":"{n}"}}"#)))));
    (0..1000).for_each(|n| drop(judge.decide(&event(&format!(r#"{{"n":{n}}}"#)))));
    // One for what has no labels, when the judge was made, and one for what has.
    assert_eq!(governance.asked_to_push(), 2);
}
