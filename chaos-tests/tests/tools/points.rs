//! The faults that the node carries in itself, seen from outside. The null controls come in pairs: with the guarantee
//! nothing is wrong, without it the same story ends badly.

use chaos_tests::http::Client;
use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::power;
use chaos_tests::wait;

const RECIPE: &str = "points.sync";
const FEED: &str = "grants";

/// A node with fault points and one file target, `spool`.
struct Stage {
    node: Node,
}

impl Stage {
    fn new() -> Self {
        Self::with("")
    }

    fn with(settings: &str) -> Self {
        let mut node = Node::faulty();
        std::fs::create_dir(node.path("spool")).expect("the home is writable");
        node.settings(settings);
        node.start();
        let stage = Self { node };
        stage.node.apply(&stage.recipe(""));
        stage
    }

    fn recipe(&self, more: &str) -> String {
        format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: [id]\ntargets:\n  - name: spool\n    adapter: file\n    \
             path: {}\n    format: csv\n{more}schedule: every 1h\n",
            self.node.path("spool/grants.csv").display()
        )
    }

    /// The node's next life is with these faults.
    fn restart_with(&mut self, faults: &str) {
        self.node.kill9();
        self.node.start_to_die_at(faults);
    }

    fn publish(&self, id: &str) {
        self.node.publish(FEED, id, &format!(r#"{{"id":"{id}"}}"#));
    }

    fn run(&self) {
        let _ = self.node.cli(["sync", "run", RECIPE]);
    }

    fn rows(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.node.path("spool/grants.csv")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Delivers until nothing waits.
    fn deliver_all(&self) -> Vec<String> {
        wait::until("everything to be delivered", || {
            self.run();
            (self.node.target(RECIPE, "spool")["backlog"] == 0).then_some(())
        });
        self.rows()
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let mut stage = Stage::new();
    stage.restart_with("power");
    stage.publish("a");
    stage.run();
    stage.publish("b");
    stage.node.kill9();
    assert_eq!(power::cut(&stage.node.data_dir()), []);
    stage.node.start();
    assert_eq!(stage.deliver_all(), ["a", "b"]);
}

#[test]
fn a_power_cut_takes_what_was_written_and_not_synced() {
    let mut stage = Stage::new();
    stage.restart_with("power,feeds.after_write:2");
    stage.publish("a");
    assert!(stage.node.try_publish(FEED, "b", r#"{"id":"b"}"#).is_err(), "nobody was told that b is stored");
    stage.node.wait_until_dead();
    let lost = power::cut(&stage.node.data_dir());
    assert_eq!(lost.len(), 1, "{lost:?}");
    stage.node.start();
    assert_eq!(stage.deliver_all(), ["a"]);
}

#[test]
fn without_the_sync_a_power_cut_loses_what_was_acknowledged() {
    let mut stage = Stage::new();
    stage.publish("a");
    stage.run();
    stage.restart_with("nosync:events");
    stage.publish("b");
    stage.node.kill9();
    let lost = power::cut(&stage.node.data_dir());
    assert_eq!(lost.len(), 1, "{lost:?}");
    stage.node.start();
    assert_eq!(stage.deliver_all(), ["a"], "b was acknowledged");
}

#[test]
fn what_a_start_found_is_synced_by_it() {
    let mut stage = Stage::new();
    stage.restart_with("nosync");
    stage.publish("a");
    stage.restart_with("power");
    stage.node.kill9();
    assert_eq!(power::cut(&stage.node.data_dir()), []);
    stage.node.start();
    assert_eq!(stage.deliver_all(), ["a"]);
}

/// The rows after a kill between the write and the settling of a second event.
fn killed_before_settling(faults: &str) -> Vec<String> {
    let mut stage = Stage::new();
    stage.publish("a");
    stage.run();
    stage.restart_with(&format!("append.written{faults}"));
    stage.publish("b");
    stage.run();
    stage.node.wait_until_dead();
    stage.node.start();
    stage.deliver_all()
}

#[test]
fn without_the_plan_a_kill_before_settling_doubles_rows() {
    assert_eq!(killed_before_settling(""), ["a", "b"]);
    assert_eq!(killed_before_settling(",noplan"), ["a", "b", "b"]);
}

/// An incarnation dies in its `begin` for `b`; that of the next one comes through, and the old one's again after it.
/// The same happens with `c`, and there the node is killed between write and settling.
fn haunted(faults: &str) -> Vec<String> {
    let mut stage = Stage::new();
    stage.publish("a");
    stage.run();
    stage.restart_with(&format!("ghost@spool,append.written:2{faults}"));
    stage.publish("b");
    wait::until("b", || {
        stage.run();
        (stage.rows().len() == 2).then_some(())
    });
    wait::until("b to be settled", || (stage.node.target(RECIPE, "spool")["backlog"] == 0).then_some(()));
    stage.publish("c");
    stage.run();
    stage.node.wait_until_dead();
    stage.node.start();
    stage.deliver_all()
}

#[test]
fn without_the_epoch_an_old_incarnation_makes_the_new_one_double_rows() {
    assert_eq!(haunted(""), ["a", "b", "c"]);
    assert_eq!(haunted(",noepoch"), ["a", "b", "c", "c"]);
}

/// A removal of old records is killed at a point; what the node has after the next start, without its cache.
fn killed_while_pruning(point: &str) -> (u64, Vec<String>) {
    let elsewhere = tempfile::tempdir().expect("the temporary folder is writable");
    let mut stage = Stage::with(&format!("anchors: [{}]\n", elsewhere.path().join("anchor").display()));
    stage.publish("a");
    stage.publish("b");
    stage.run();
    stage.restart_with(point);
    let out = elsewhere.path().join("old.ndjson");
    let out = out.to_str().expect("the path is text");
    let _ = stage.node.cli(["audit", "export", "--out", out, "--prune-before", "3"]);
    stage.node.wait_until_dead();
    std::fs::remove_dir_all(stage.node.data_dir().join("state")).expect("it is a cache");
    stage.node.start();
    stage.publish("c");
    let rows = stage.deliver_all();
    stage.node.cli(["audit", "verify"]).ok();
    let first = stage.node.audit()[0]["seq"].as_u64().expect("a number");
    (first, rows)
}

#[test]
fn a_removal_of_old_records_that_is_killed_happens_wholly_or_not_at_all() {
    for (point, first) in [("prune.written", 0), ("prune.recorded", 0), ("prune.decided", 3)] {
        let (found, rows) = killed_while_pruning(point);
        assert_eq!((found, rows), (first, ["a", "b", "c"].map(str::to_owned).to_vec()), "{point}");
    }
}

#[test]
fn an_adapter_panics_as_often_as_it_was_told_and_only_for_its_target() {
    let partner = HttpPartner::plain();
    let mut stage = Stage::new();
    let rest =
        |name: &str| format!("  - name: {name}\n    adapter: rest\n    url: {}\n", partner.url(&format!("/{name}")));
    stage.node.apply(&stage.recipe(&(rest("one") + &rest("two"))));
    stage.restart_with("panic:adapter.rest@one*2");
    stage.publish("a");
    wait::until("both", || {
        stage.run();
        (partner.received().len() == 2).then_some(())
    });
    let restarts = |target: &str| restarts(&stage.node.http(), target);
    assert_eq!((restarts("one"), restarts("two"), restarts("spool")), (2, 0, 0));
}

fn restarts(node: &Client, target: &str) -> u64 {
    let circuits = node.get(&format!("/v1/recipes/{RECIPE}")).expect(200).json();
    let targets = circuits["targets"].as_array().expect("targets").clone();
    let found = targets.iter().find(|entry| entry["target"] == target || entry["name"] == target);
    found.expect("the target")["restarts"].as_u64().expect("a number")
}

#[test]
fn a_stuck_adapter_blocks_its_thread_for_as_long_as_it_was_told() {
    let mut stage = Stage::new();
    stage.restart_with("stuck:adapter.file@spool=2");
    stage.publish("a");
    let before = std::time::Instant::now();
    stage.run();
    assert_eq!(stage.deliver_all(), ["a"]);
    assert!(before.elapsed() >= std::time::Duration::from_secs(2), "the attempt came back before its time");
}

#[test]
fn a_fault_that_nobody_knows_how_to_make_ends_the_node_with_a_message() {
    let node = Node::faulty();
    let output = chaos_tests::process::run(node.serve().env("HMS_FAULT", "stuck:adapter.file"), b"");
    assert!(output.failed_with(2).contains("for how many seconds"));
}
