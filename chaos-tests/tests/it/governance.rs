//! Policies from outside: what they say no to does not reach a real partner, everything else does, and an operator sees
//! which policy it was and what to do.

use chaos_tests::authority::Authority;
use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::process;
use chaos_tests::wait;
use serde_json::Value;

use super::drop_box::DropBox;

const RECIPE: &str = "one.sync";
const FEED: &str = "grants";
const CATALOG: &str = "feeds:\n  grants: {default: [], fields: {ssn: [pii]}}\n";
/// In the place of the shipped one.
const MENDED: &str = "// This node's partners may have it.\n";
const POLICY: &str = "policies/no-pii-abroad.cedar";

/// A node with a catalog, a folder of policies, and one partner over TLS that is somewhere.
struct Stage {
    node: Node,
    partner: HttpPartner,
    settings: String,
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::new();
        let partner = HttpPartner::tls(authority.server("gis.vdot.gov"));
        let mut node = Node::new();
        node.file("catalog.yaml", CATALOG);
        node.file("roots.pem", &authority.pem());
        node.file("policies/README.md", "Not a policy.\n");
        let settings = format!(
            "catalog: catalog.yaml\npolicies_dir: policies\ntls_ca_file: roots.pem\nconnect_to:\n  gis.vdot.gov:443: \
             127.0.0.1:{}\n",
            partner.port()
        );
        node.settings(&settings);
        Self { node, partner, settings }
    }

    fn running(more: &str) -> Self {
        let mut stage = Self::new();
        stage.node.start().apply(&recipe(more));
        stage
    }

    fn publish(&self, id: &str, key: &str, ssn: bool) {
        let ssn = if ssn { r#","ssn":"078-05-1120""# } else { "" };
        self.node.publish(FEED, id, &format!(r#"{{"id":"{key}"{ssn}}}"#));
    }

    /// What the partner has, in its order.
    #[track_caller]
    fn arrived(&self, ids: &[&str]) {
        let mut last = Vec::new();
        let there = wait::within(wait::DEADLINE, || {
            let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
            last = self.partner.effects().iter().map(|request| name(request.key().expect("a key"))).collect();
            (last == ids).then_some(())
        });
        assert!(there.is_some(), "expected {ids:?}, the partner has {last:?}");
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        self.node.audit().into_iter().filter(|record| record["kind"] == kind).collect()
    }

    /// Has the running node read its configuration again, and waits until it says how that went.
    #[track_caller]
    fn reload(&mut self, says: &str) -> String {
        let settings = self.settings.clone();
        let before = self.node.log_lines().len();
        self.node.reconfigure(&settings);
        wait::until(says, || self.node.log_lines()[before..].iter().find(|line| line.contains(says)).cloned())
    }

    #[track_caller]
    fn ticket(&self) -> Value {
        let open = wait::until("a ticket", || Some(self.node.open_tickets()).filter(|open| !open.is_empty()));
        assert_eq!((open.len(), open[0]["cause"].as_str()), (1, Some("policy")), "{open:#?}");
        open[0].clone()
    }

    #[track_caller]
    fn nothing_is_open(&self) {
        wait::until("no ticket", || self.node.open_tickets().is_empty().then_some(()));
    }
}

fn recipe(more: &str) -> String {
    format!(
        "id: {RECIPE}\nsource: {{feed: {FEED}, key: id}}\ntargets:\n  - name: api\n    adapter: rest\n    \
         url: https://gis.vdot.gov/api\n    classification: internal\n    concurrency: 1\n{more}schedule: on_change\n"
    )
}

#[test]
fn a_denied_event_is_held_with_its_key_until_a_mended_policy_lets_it_go() {
    let mut stage = Stage::running("");
    stage.publish("e0", "a", false);
    stage.publish("e1", "b", true);
    stage.publish("e2", "b", false);
    stage.publish("e3", "c", false);
    stage.arrived(&["e0", "e3"]);
    let ticket = stage.ticket();
    let reason = ticket["reason"].as_str().expect("a reason");
    assert!(reason.contains("event `e1`") && reason.contains("policy `no-pii-abroad`"), "{reason}");
    assert!(!reason.contains("078-05"), "no value is shown: {reason}");
    let target = stage.node.target(RECIPE, "api");
    assert_eq!((target["state"].as_str(), target["activity"].as_str()), (Some("closed"), Some("held")), "{target}");
    assert_eq!((target["backlog"].as_u64(), target["consecutive_failures"].as_u64()), (Some(2), Some(0)), "{target}");
    stage.node.cli(["sync", "run", RECIPE]).failed_with(1);

    // A policy that is wrong changes nothing, and the log says where it is wrong.
    stage
        .node
        .file(POLICY, "forbid (principal, action == Action::\"push\", resource)\nwhen { resource.hots == \"x\" };\n");
    let told = stage.reload("goes on with the configuration that it has");
    assert!(told.contains("no-pii-abroad.cedar:2:8") && told.contains("hots"), "{told}");
    stage.node.http().get("/readyz").expect(200);
    stage.publish("e4", "d", true);
    stage.publish("e5", "e", false);
    stage.arrived(&["e0", "e3", "e5"]);

    // What is held stays so over a restart, and is recorded once.
    std::fs::remove_file(stage.node.path(POLICY)).expect("the policy is there");
    stage.node.kill9();
    stage.node.start();
    stage.publish("e6", "f", false);
    stage.arrived(&["e0", "e3", "e5", "e6"]);
    stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    let blocked = stage.records("blocked");
    let of: Vec<_> = blocked.iter().map(|record| record["event_id"].as_str().expect("an id")).collect();
    assert_eq!(of, ["e1", "e4"], "{blocked:#?}");
    assert_eq!(blocked[0]["policies"], serde_json::json!(["no-pii-abroad"]), "{}", blocked[0]);
    assert_eq!(stage.ticket()["number"], ticket["number"], "one incident");

    stage.node.file(POLICY, MENDED);
    stage.reload("configuration and secrets are read again");
    wait::until("all of it", || (stage.partner.effects().len() == 7).then_some(()));
    let keys: Vec<_> = stage.partner.effects().iter().map(|request| request.key().expect("a key").to_owned()).collect();
    let at = |id: &str| keys.iter().position(|key| key.ends_with(id)).expect("it arrived");
    assert!(at("e1") < at("e2"), "in the order of its key: {keys:?}");
    stage.nothing_is_open();
    assert!(stage.records("attempt_failed").is_empty() && stage.records("circuit").is_empty(), "no attempt was made");
}

#[test]
fn a_word_about_the_partner_lets_it_go_as_well() {
    let stage = Stage::running("");
    stage.publish("e0", "a", true);
    stage.ticket();
    stage.node.apply(&recipe("    residency: US\n"));
    stage.arrived(&["e0"]);
    stage.nothing_is_open();
}

#[test]
fn where_the_recipe_says_so_it_is_a_dead_letter_and_a_replay_is_asked_about_again() {
    let mut stage = Stage::running("    on_deny: dead_letter\n");
    stage.publish("e0", "a", true);
    stage.publish("e1", "a", false);
    stage.arrived(&["e1"]);
    let number = stage.ticket()["number"].clone();
    let letters = stage.node.http().get("/v1/dead-letters").expect(200).json();
    let letter = &letters["dead_letters"][0];
    assert_eq!((letter["event_id"].as_str(), letter["cause"].as_str()), (Some("e0"), Some("policy")), "{letters}");
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains("no-pii-abroad")), "{letter}");
    let letter = letter["number"].to_string();
    let told = stage.node.cli(["dlq", "replay", &letter]).failed_with(1);
    assert!(told.contains("no-pii-abroad"), "{told}");
    stage.node.file(POLICY, MENDED);
    stage.reload("configuration and secrets are read again");
    stage.node.cli(["dlq", "replay", &letter]).ok();
    stage.arrived(&["e1", "e0"]);
    let ticket = stage.node.http().get(&format!("/v1/tickets/{number}")).expect(200).json();
    assert_eq!(ticket["state"], "resolved", "closed with its last dead letter: {ticket}");
}

#[test]
fn a_file_is_held_whole_because_it_keeps_feed_order() {
    let mut node = Node::new();
    node.file("catalog.yaml", "feeds:\n  grants: {default: [], fields: {amount: [pii]}}\n");
    let settings = "catalog: catalog.yaml\npolicies_dir: policies\n";
    node.file("policies/note.txt", "");
    node.settings(settings);
    let mut stage = DropBox::new(node);
    stage.node.start();
    let recipe = stage.recipe("    classification: internal\n");
    // Every event has both columns: that this target would get nothing is said at once.
    let refused = stage.node.try_apply(&recipe).failed_with(1);
    assert!(refused.contains("target `spool`: blocked: policy `no-pii-abroad`"), "{refused}");
    let only_some = recipe.replace("fields: [id, amount]", "key: id").replace("format: csv", "format: jsonl");
    let warned = stage.node.apply(&only_some);
    assert!(warned.contains("warning: target `spool`: events with these fields would be blocked"), "{warned}");
    let publish = |stage: &DropBox, id: &str, more: &str| {
        stage.node.publish("grants", id, &format!(r#"{{"id":"{id}"{more}}}"#));
    };
    publish(&stage, "e0", "");
    publish(&stage, "e1", r#","amount":1"#);
    publish(&stage, "e2", "");
    stage.run().failed_with(1);
    stage.expect("{\"id\":\"e0\"}\n");
    assert_eq!(stage.node.target("drop.sync", "spool")["activity"], "held");
    stage.node.file(POLICY, MENDED);
    stage.node.reconfigure(settings);
    stage.expect("{\"id\":\"e0\"}\n{\"id\":\"e1\",\"amount\":1}\n{\"id\":\"e2\"}\n");
    wait::until("no ticket", || stage.node.open_tickets().is_empty().then_some(()));
}

#[test]
fn an_author_learns_at_once_what_would_be_blocked_and_by_which_policy() {
    let mut stage = Stage::new();
    stage.node.start();
    let all = recipe("").replace("key: id", "fields: [id, ssn]");
    let file = stage.node.file("one.sync.yaml", &all).display().to_string();
    let told = stage.node.cli(["sync", "check", &file]).failed_with(1);
    assert!(told.contains("target `api`: blocked: policy `no-pii-abroad`"), "{told}");
    let told = stage.node.cli(["sync", "check", &file, "--json"]);
    let json: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(json["blocked"][0]["policies"], serde_json::json!(["no-pii-abroad"]), "{json}");
    for arguments in [vec!["sync", "apply", &file], vec!["sync", "apply", "--dry-run", &file]] {
        let told = stage.node.cli(arguments).failed_with(1);
        assert!(told.contains("no-pii-abroad"), "{told}");
    }
    assert_eq!(stage.node.http().get("/v1/recipes").json()["recipes"], serde_json::json!([]), "nothing was enabled");
    let put =
        stage.node.http().send("PUT", "/v1/recipes/one.sync", &[("content-type", "application/yaml")], all.into());
    assert_eq!(put.expect("an answer").problem(409)["blocked"][0]["target"], "api");

    let some = stage.node.file("one.sync.yaml", &recipe("")).display().to_string();
    let told = stage.node.cli(["sync", "check", &some]).ok();
    assert!(told.contains("warning: target `api`: events with these fields would be blocked"), "{told}");
    stage.node.cli(["sync", "check", &some, "--event", r#"{"id":"a"}"#]).ok();
    let told = stage.node.cli(["sync", "check", &some, "--event", r#"{"id":"a","ssn":"1"}"#]).failed_with(1);
    assert!(told.contains("no-pii-abroad"), "{told}");
}

#[test]
fn a_node_does_not_start_with_a_policy_that_is_wrong() {
    let stage = Stage::new();
    stage.node.file("policies/mine.cedar", "permit (principal, action == Action::\"puhs\", resource);\n");
    let told = process::run(&mut stage.node.serve(), b"");
    assert_ne!(told.code, Some(0), "{told:?}");
    assert!(told.stderr.contains("mine.cedar:1:"), "{}", told.stderr);
}

#[test]
fn while_policies_can_not_be_evaluated_nothing_goes_and_the_node_is_not_ready() {
    let mut stage = Stage::new();
    let overflows = "@id(\"mine\")\nforbid (principal, action == Action::\"push\", resource)\nwhen { 9223372036854775807 + 1 == 0 };\n";
    stage.node.start().apply(&recipe("    on_deny: dead_letter\n"));
    stage.node.file("policies/mine.cedar", overflows);
    stage.reload("configuration and secrets are read again");
    stage.publish("e0", "a", false);
    let ticket = stage.ticket();
    assert!(ticket["reason"].as_str().is_some_and(|reason| reason.contains("can't be evaluated")), "{ticket}");
    let problem = stage.node.http().get("/readyz").problem(503);
    assert!(problem["detail"].as_str().is_some_and(|why| why.contains("policies can't be evaluated")), "{problem}");
    let letters = stage.node.http().get("/v1/dead-letters").expect(200).json();
    assert_eq!(letters["dead_letters"], serde_json::json!([]), "nothing is given up because the node can't tell");
    stage.node.file("policies/mine.cedar", "");
    stage.reload("configuration and secrets are read again");
    stage.arrived(&["e0"]);
    stage.node.http().get("/readyz").expect(200);
    stage.nothing_is_open();
}
