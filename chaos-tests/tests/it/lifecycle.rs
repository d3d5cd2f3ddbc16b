//! A recipe's life: applied, changed, paused, renamed, deleted. What was waiting is never lost by it.

use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::wait;
use serde_json::Value;

const RECIPE: &str = "life.sync";
const FEED: &str = "grants";

struct Stage {
    node: Node,
    partner: HttpPartner,
}

impl Stage {
    fn new() -> Self {
        let mut node = Node::new();
        node.start();
        Self { node, partner: HttpPartner::plain() }
    }

    /// A recipe whose targets send to a path of their own name, with more lines for each.
    fn recipe(&self, targets: &[(&str, &str)]) -> String {
        let target = |(name, more): &(&str, &str)| {
            let url = self.partner.url(&format!("/{name}"));
            format!("  - name: {name}\n    adapter: rest\n    url: {url}\n    concurrency: 1\n{more}")
        };
        let targets: String = targets.iter().map(target).collect();
        format!("id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n{targets}schedule: every 1h\n")
    }

    fn apply(&self, targets: &[(&str, &str)]) -> String {
        self.node.apply(&self.recipe(targets))
    }

    fn publish(&self, ids: &[&str]) {
        for id in ids {
            self.node.publish(FEED, id, &format!(r#"{{"id":"{id}"}}"#));
        }
    }

    /// The ids that a target's path has accepted, in order.
    fn accepted(&self, name: &str) -> Vec<String> {
        let path = format!("/{name}");
        let accepted = self.partner.received().into_iter();
        let accepted = accepted.filter(|request| request.path == path && request.answered == Some(200));
        accepted.filter_map(|request| Some(request.header("ce-id")?.to_owned())).collect()
    }

    fn dead(&self) -> Vec<Value> {
        self.node.audit().into_iter().filter(|record| record["kind"] == "dead_lettered").collect()
    }

    fn shown(&self) -> Value {
        self.node.http().get(&format!("/v1/recipes/{RECIPE}")).expect(200).json()
    }

    /// Two events that the partner does not take.
    fn backlog(&self) {
        self.partner.answer(Answer::Status(503));
        self.publish(&["w1", "w2"]);
        self.node.cli(["sync", "run", RECIPE]).failed_with(1);
    }
}

#[test]
fn a_new_recipe_starts_at_the_head() {
    let stage = Stage::new();
    stage.publish(&["before"]);
    stage.apply(&[("a", "")]);
    stage.publish(&["after"]);
    stage.node.run(RECIPE);
    assert_eq!(stage.accepted("a"), ["after"]);
}

#[test]
fn a_new_recipe_starts_where_from_says() {
    let stage = Stage::new();
    stage.publish(&["e0", "e1", "e2"]);
    for (id, from, expected) in [
        ("beginning.sync", "beginning", &["e0", "e1", "e2"][..]),
        ("offset.sync", "2", &["e2"]),
        ("time.sync", "2020-01-01T00:00:00Z", &["e0", "e1", "e2"]),
    ] {
        let name = id.trim_end_matches(".sync");
        let recipe = stage.recipe(&[(name, "")]).replace(RECIPE, id);
        stage.node.apply(&recipe.replace("  feed: grants\n", &format!("  feed: grants\n  from: {from}\n")));
        stage.node.run(id);
        assert_eq!(stage.accepted(name), expected, "from: {from}");
    }
}

#[test]
fn a_paused_recipe_sends_nothing_until_it_is_resumed() {
    let stage = Stage::new();
    let quick = |targets| stage.recipe(targets).replace("every 1h", "on_change");
    stage.node.apply(&quick(&[("paused", "")]));
    stage.node.apply(&quick(&[("other", "")]).replace(RECIPE, "other.sync"));
    stage.node.cli(["sync", "pause", RECIPE]).ok();
    stage.publish(&["e0", "e1"]);
    wait::until("the other recipe's requests", || (stage.accepted("other").len() == 2).then_some(()));
    assert_eq!(stage.accepted("paused"), Vec::<String>::new());
    stage.node.cli(["sync", "resume", RECIPE]).ok();
    wait::until("the resumed requests", || (stage.accepted("paused").len() == 2).then_some(()));
    assert_eq!(stage.accepted("paused"), ["e0", "e1"]);
}

#[test]
fn a_pause_survives_a_restart() {
    let mut stage = Stage::new();
    stage.apply(&[("a", "")]);
    stage.node.cli(["sync", "pause", RECIPE]).ok();
    let paused = stage.shown();
    stage.node.restart();
    assert_eq!(stage.shown()["state"], paused["state"]);
    stage.publish(&["e0"]);
    stage.node.cli(["sync", "resume", RECIPE]).ok();
    stage.node.run(RECIPE);
    assert_eq!(stage.accepted("a"), ["e0"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let stage = Stage::new();
    let file = stage.node.file("new.yaml", &stage.recipe(&[("a", "")])).display().to_string();
    stage.node.cli(["sync", "apply", "--dry-run", &file]).ok();
    stage.node.http().get(&format!("/v1/recipes/{RECIPE}")).problem(404);

    stage.apply(&[("a", "")]);
    let before = stage.shown();
    let changed = stage.recipe(&[("a", "    timeout: 7s\n")]);
    let file = stage.node.file("changed.yaml", &changed).display().to_string();
    let printed = stage.node.cli(["sync", "apply", "--dry-run", &file]).ok();
    assert!(printed.contains("7s"), "the change is shown: {printed}");
    assert_eq!(stage.shown()["revision"], before["revision"]);
}

#[test]
fn a_changed_target_keeps_its_checkpoint() {
    let stage = Stage::new();
    stage.apply(&[("a", ""), ("b", "")]);
    stage.publish(&["e0"]);
    stage.node.run(RECIPE);
    let elsewhere = stage.recipe(&[("a", ""), ("b", "")]).replace("/a\n", "/moved\n");
    stage.node.apply(&elsewhere);
    stage.publish(&["e1"]);
    stage.node.run(RECIPE);
    assert_eq!((stage.accepted("a"), stage.accepted("moved")), (vec!["e0".to_owned()], vec!["e1".to_owned()]));
    assert_eq!(stage.accepted("b"), ["e0", "e1"]);
}

#[test]
fn a_recipe_that_is_applied_again_unchanged_stays_as_it_is() {
    let stage = Stage::new();
    stage.apply(&[("a", "")]);
    stage.publish(&["e0"]);
    stage.node.run(RECIPE);
    let before = stage.shown()["revision"].clone();
    stage.apply(&[("a", "")]);
    assert_eq!(stage.shown()["revision"], before);
    stage.publish(&["e1"]);
    stage.node.run(RECIPE);
    assert_eq!(stage.accepted("a"), ["e0", "e1"]);
}

#[test]
fn a_target_that_is_added_later_starts_at_the_head() {
    let stage = Stage::new();
    stage.apply(&[("a", "")]);
    stage.publish(&["e0"]);
    stage.node.run(RECIPE);
    stage.apply(&[("a", ""), ("late", "")]);
    stage.publish(&["e1"]);
    stage.node.run(RECIPE);
    assert_eq!(stage.accepted("a"), ["e0", "e1"]);
    assert_eq!(stage.accepted("late"), ["e1"]);
}

#[test]
fn a_renamed_target_goes_on_where_the_old_one_was() {
    let stage = Stage::new();
    stage.apply(&[("old", "")]);
    stage.publish(&["e0"]);
    stage.node.run(RECIPE);
    stage.backlog();
    stage.apply(&[("new", "    renamed_from: old\n")]);
    stage.partner.answer(Answer::Status(200));
    stage.node.run(RECIPE);
    let mut all = stage.accepted("old");
    // What was begun may be finished as it was begun; nothing is sent twice.
    all.extend(stage.accepted("new"));
    assert_eq!(all, ["e0", "w1", "w2"]);
}

#[test]
fn a_recipe_with_a_backlog_is_not_deleted_unless_it_is_abandoned() {
    let stage = Stage::new();
    stage.apply(&[("a", "")]);
    stage.backlog();
    let path = format!("/v1/recipes/{RECIPE}");
    let refused = stage.node.http().send("DELETE", &path, &[], Vec::new()).expect("an answer").problem(409);
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains('2')), "no count: {refused}");
    let refused = stage.node.cli(["sync", "delete", RECIPE]).failed_with(1);
    assert!(refused.contains('2') && refused.contains("--abandon"), "{refused}");

    stage.node.cli(["sync", "delete", RECIPE, "--abandon"]).ok();
    stage.node.http().get(&path).problem(404);
    let dead = stage.dead();
    assert_eq!(dead.len(), 2, "{dead:#?}");
    assert!(dead.iter().all(|record| record["reason"] == "target_removed"), "{dead:#?}");
}

#[test]
fn a_target_with_a_backlog_is_not_removed_unless_it_is_abandoned() {
    let stage = Stage::new();
    stage.apply(&[("a", ""), ("b", "")]);
    stage.backlog();
    let file = stage.node.file("less.yaml", &stage.recipe(&[("b", "")])).display().to_string();
    let refused = stage.node.cli(["sync", "apply", &file]).failed_with(1);
    assert!(refused.contains('2') && refused.contains('a'), "{refused}");
    stage.node.cli(["sync", "apply", &file, "--abandon"]).ok();
    assert_eq!(stage.dead().len(), 2);
    stage.partner.answer(Answer::Status(200));
    stage.node.run(RECIPE);
    assert_eq!((stage.accepted("a"), stage.accepted("b").len()), (vec![], 2));
}

#[test]
fn a_recipe_without_a_backlog_is_deleted_and_can_be_applied_anew() {
    let mut stage = Stage::new();
    stage.apply(&[("a", "")]);
    stage.publish(&["e0"]);
    stage.node.run(RECIPE);
    stage.node.cli(["sync", "delete", RECIPE]).ok();
    stage.node.restart();
    stage.node.http().get(&format!("/v1/recipes/{RECIPE}")).problem(404);
    stage.publish(&["e1"]);
    stage.apply(&[("a", "")]);
    stage.publish(&["e2"]);
    stage.node.run(RECIPE);
    assert_eq!(stage.accepted("a"), ["e0", "e2"]);
}

#[test]
fn the_feed_of_a_recipe_stays() {
    let stage = Stage::new();
    stage.apply(&[("a", "")]);
    let other = stage.recipe(&[("a", "")]).replace("feed: grants", "feed: others");
    let refused = stage.node.try_apply(&other);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(format!("{refused:?}").contains("feed"), "{refused:?}");
}

#[test]
fn recipes_are_listed_and_shown() {
    let stage = Stage::new();
    stage.apply(&[("a", "")]);
    assert!(stage.node.cli(["sync", "list"]).ok().contains(RECIPE));
    let list: Value = serde_json::from_str(&stage.node.cli(["sync", "list", "--json"]).ok()).expect("JSON");
    assert_eq!(list["recipes"][0]["id"], RECIPE, "{list}");
    assert!(stage.node.cli(["sync", "show", RECIPE]).ok().contains("at_least_once"));
    stage.node.cli(["sync", "show", "nobody.sync"]).failed_with(1);
}
