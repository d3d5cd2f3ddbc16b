//! Labelled fields on their way to real partners: tokens, keys that are missing, restarts and rotation.

use std::fs;

use chaos_tests::node::Node;
use chaos_tests::partners::https::Answer;
use chaos_tests::wait;

use crate::bridge::{Bridge, FEED, RECIPE};

const SSN: &str = "123-45-6789";
const GIS: &str = "gis.vdot.gov";
const FINANCE: &str = "finance.state.vt.gov";

const CATALOG: &str = "feeds:
  grants.bridge_repair.updated:
    default: []
    fields: {ssn: [pii]}
";

/// GIS over HTTPS with the number in its url too, and COBOL's file; the first attempt that fails does not open a circuit.
fn recipe() -> String {
    format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: [grant_id, ssn, amount]\n  key: ssn\ntargets:\n  - name: vdot_gis\n    \
         adapter: rest\n    url: https://{GIS}/people/{{ssn}}\n    auth: api_key\n    map: {{ssn: person}}\n    \
         circuit: {{failures: 50, open_for: 100ms, max_open_for: 200ms}}\n  - name: cobol_finance\n    adapter: sftp\n    host: {FINANCE}\n    \
         path: /inbox/grants.csv\n    format: csv\nschedule: on_change\nretries: 3\n"
    )
}

struct Stage {
    bridge: Bridge,
}

impl Stage {
    fn running() -> Self {
        let mut bridge = Bridge::new(Node::new());
        bridge.node.settings("catalog: catalog.yaml\n");
        bridge.node.file("catalog.yaml", CATALOG);
        bridge.node.start().apply(&recipe());
        Self { bridge }
    }

    fn with_keys() -> Self {
        let stage = Self::running();
        stage.make_keys();
        stage
    }

    fn key(&self, action: &str, partner: &str) -> String {
        self.bridge.node.cli(["privacy", "key", action, partner]).ok()
    }

    fn make_keys(&self) {
        for partner in [GIS, FINANCE] {
            self.key("create", partner);
        }
    }

    fn until_all_settled(&self) {
        for target in ["vdot_gis", "cobol_finance"] {
            self.until_settled(target);
        }
    }

    fn publish(&self, id: &str) {
        let data = format!(r#"{{"grant_id":"{id}","ssn":"{SSN}","amount":1250.10}}"#);
        self.bridge.node.publish(FEED, id, &data);
    }

    fn until_settled(&self, target: &str) {
        wait::until(&format!("all of {target}"), || {
            (self.bridge.node.target(RECIPE, target)["backlog"] == 0).then_some(())
        });
    }

    /// What GIS saw of an event, each time: path and body.
    fn seen(&self, id: &str) -> Vec<(String, String)> {
        let received = self.bridge.gis.received();
        let of = received.iter().filter(|request| request.header("ce-id") == Some(id));
        of.map(|request| (request.path.clone(), request.text())).collect()
    }

    fn rows(&self) -> Vec<String> {
        let text = self.bridge.finance.text("/inbox/grants.csv").unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// As an operator finds it.
    fn token(&self, target: &str, version: &str) -> String {
        let args = ["privacy", "token", RECIPE, target, "ssn", SSN, "--key-version", version];
        self.bridge.node.cli(args).ok().trim().to_owned()
    }

    /// The number stands nowhere at a partner.
    fn nothing_is_in_the_clear(&self) {
        let requests = self.bridge.gis.received();
        assert!(requests.iter().all(|request| !format!("{request:?}{}", request.text()).contains(SSN)));
        assert!(!self.rows().concat().contains(SSN));
    }
}

#[test]
fn each_partner_gets_a_token_of_its_own_once_its_key_is_made_and_the_same_after_a_restart() {
    let mut stage = Stage::running();
    stage.publish("e1");
    // Both are held, in words, and nothing was sent.
    let tickets =
        wait::until("a ticket for each", || Some(stage.bridge.node.open_tickets()).filter(|open| open.len() == 2));
    for ticket in &tickets {
        let text = ticket.to_string();
        assert!(text.contains("hms privacy key create") && !text.contains(SSN), "{text}");
        assert_eq!(ticket["cause"], "configuration", "{text}");
    }
    assert_eq!((stage.bridge.gis.count(), stage.rows().len()), (0, 0));
    // A key for one delivers to that one.
    stage.key("create", GIS);
    stage.until_settled("vdot_gis");
    assert_eq!(stage.bridge.node.target(RECIPE, "cobol_finance")["backlog"], 1);
    stage.key("create", FINANCE);
    stage.until_settled("cobol_finance");
    wait::until("no ticket", || stage.bridge.node.open_tickets().is_empty().then_some(()));
    let (gis, cobol) = (stage.token("vdot_gis", "1"), stage.token("cobol_finance", "1"));
    assert!(gis.starts_with("tok_v1_") && cobol.starts_with("tok_v1_") && gis != cobol, "{gis} {cobol}");
    assert_eq!(stage.rows(), [format!("e1,{cobol},1250.10")]);
    stage.bridge.node.restart();
    stage.publish("e2");
    stage.until_all_settled();
    for id in ["e1", "e2"] {
        let body = format!(r#"{{"grant_id":"{id}","person":"{gis}","amount":1250.10}}"#);
        assert_eq!(stage.seen(id), [(format!("/people/{gis}"), body)]);
    }
    assert_eq!(stage.rows()[1], format!("e2,{cobol},1250.10"));
    stage.nothing_is_in_the_clear();
    // Who asked is in the audit, what for is not; and the node tells no clear value in its log.
    let audit = stage.bridge.node.audit();
    assert!(audit.iter().any(|record| record["action"] == "create_privacy_key" && record["details"]["partner"] == GIS));
    assert!(!format!("{audit:?}{:?}", stage.bridge.node.log_lines()).contains(SSN));
}

#[test]
fn a_request_that_was_begun_is_finished_with_its_key_after_a_rotation_and_a_restart() {
    let mut stage = Stage::with_keys();
    // Nobody knows what became of the first request.
    stage.bridge.gis.answer(Answer::Close);
    stage.publish("e1");
    wait::until("an attempt", || (!stage.seen("e1").is_empty()).then_some(()));
    stage.key("rotate", GIS);
    stage.bridge.node.restart();
    stage.bridge.gis.answer(Answer::Status(200));
    stage.publish("e2");
    stage.until_settled("vdot_gis");
    let (old, new) = (stage.token("vdot_gis", "1"), stage.token("vdot_gis", "2"));
    let seen = stage.seen("e1");
    assert!(seen.len() >= 2 && seen.iter().all(|request| *request == seen[0]), "{seen:?}");
    assert!(seen[0].0.contains(&old) && seen[0].1.contains(&old), "{seen:?}");
    assert!(stage.seen("e2")[0].1.contains(&new), "{:?}", stage.seen("e2"));
    stage.nothing_is_in_the_clear();
}

#[test]
fn another_key_under_a_version_that_was_used_holds_the_target() {
    let mut stage = Stage::with_keys();
    stage.publish("e1");
    stage.until_all_settled();
    stage.bridge.node.terminate();
    let file = stage.bridge.node.data_dir().join("privacy-keys").join(format!("{GIS}.v1"));
    let right = fs::read(&file).expect("the key");
    fs::write(&file, format!("{}\n", "07".repeat(32))).expect("another key");
    stage.bridge.node.start();
    stage.publish("e2");
    let ticket = wait::until("a ticket", || stage.bridge.node.open_tickets().pop());
    let reason = ticket["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("is another key") && reason.contains(GIS), "{ticket}");
    assert!(stage.seen("e2").is_empty());
    fs::write(&file, right).expect("the right key");
    stage.until_settled("vdot_gis");
    assert!(stage.seen("e2")[0].1.contains(&stage.token("vdot_gis", "1")));
}

#[test]
fn a_dead_letter_that_is_replayed_is_protected_and_a_bad_catalog_changes_nothing() {
    let stage = Stage::with_keys();
    stage.bridge.gis.answer(Answer::Status(422));
    stage.publish("e1");
    let letter = wait::until("a dead letter", || {
        let answer = stage.bridge.node.http().get("/v1/dead-letters").expect(200).json();
        answer["dead_letters"][0]["number"].as_u64()
    });
    // A catalog with a mistake is not taken, and what was in force stays so.
    stage.bridge.node.file("catalog.yaml", "feeds: {grants.bridge_repair.updated: {fields: {ssn: PII}}}\n");
    stage.bridge.node.signal(rustix::process::Signal::HUP);
    wait::until("the refusal", || {
        stage.bridge.node.log_lines().iter().any(|line| line.contains("the catalog is not valid")).then_some(())
    });
    stage.bridge.gis.answer(Answer::Status(200));
    stage.bridge.node.cli(["dlq", "replay", &letter.to_string()]).ok();
    let seen = stage.seen("e1");
    assert!(seen.iter().all(|request| *request == seen[0]) && seen[0].1.contains("tok_v1_"), "{seen:?}");
    stage.nothing_is_in_the_clear();
}

#[test]
fn check_shows_labels_and_tokens_and_never_a_clear_value_for_want_of_a_key() {
    let stage = Stage::running();
    let file = stage.bridge.node.file("recipe.yaml", &recipe()).display().to_string();
    let config = stage.bridge.node.path("hms.yaml").display().to_string();
    let event = format!(r#"{{"grant_id":"e1","ssn":"{SSN}","amount":1}}"#);
    let check = || stage.bridge.node.cli(["sync", "check", &file, "--config", &config, "--event", &event]).ok();
    let without = check();
    assert!(without.contains("ssn: token (pii)") && without.contains("hms privacy key create"), "{without}");
    assert!(!without.contains(SSN), "{without}");
    stage.make_keys();
    let with = check();
    assert!(
        with.contains(&stage.token("vdot_gis", "1")) && with.contains(&stage.token("cobol_finance", "1")),
        "{with}"
    );
    assert!(!with.contains(SSN), "{with}");
}
