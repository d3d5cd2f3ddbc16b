//! Kills between any two steps of the append protocol and of the store, then the recipe changed and
//! applied before delivery can go on. Each event is one row, in order, with the bytes of its plan.

use chaos_tests::node::Node;
use chaos_tests::partners::sshd::Sshd;
use chaos_tests::wait;
use serde_json::Value;

use super::drop_box::{self, DropBox};

const RECIPE: &str = "kill.sync";
const FEED: &str = "grants";
const FILE: &str = "/inbox/grants.jsonl";

/// Whether the file is there when the node is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    New,
    Existing,
}

/// Whether the plan was stored before the kill, and with it the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Stored,
    None,
}

struct Stage {
    node: Node,
    sshd: Sshd,
}

fn recipe(fields: &str, map: &str) -> String {
    format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: {fields}\ntargets:\n  - name: finance\n    adapter: sftp\n    \
         host: finance.state.vt.gov\n    path: {FILE}\n    format: jsonl\n    map: {map}\nschedule: every 1h\n"
    )
}

fn data(id: &str) -> String {
    format!(r#"{{"id":"{id}","amount":1250.10}}"#)
}

/// A row of the first recipe, and of the changed one.
fn old_row(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"amount\":1250.10}}\n")
}
fn new_row(id: &str) -> String {
    format!("{{\"amt\":1250.10,\"id\":\"{id}\"}}\n")
}

impl Stage {
    fn new() -> Self {
        let (mut node, sshd) = (Node::faulty(), Sshd::new());
        node.settings(&format!(
            "connect_to:\n  finance.state.vt.gov:22: 127.0.0.1:{}\nknown_hosts: {}\nsecrets_dir: {}\n",
            sshd.port(),
            node.file("known_hosts", &sshd.known_as("finance.state.vt.gov")).display(),
            node.path("secrets").display(),
        ));
        node.file("secrets/FINANCE_SSH_KEY", &sshd.client_key());
        node.start().apply(&recipe("[id, amount]", "{}"));
        Self { node, sshd }
    }

    /// Publishes and delivers until the node dies at the point.
    fn die_at(&mut self, point: &str, id: &str) {
        self.node.terminate();
        self.node.start_to_die_at(point);
        // The kill may come before the answer.
        let _ = self.node.try_publish(FEED, id, &data(id));
        let _ = self.node.cli(["sync", "run", RECIPE]);
        self.node.wait_until_dead();
    }

    /// The ids of the events that have a receipt, in the order of the audit.
    fn receipts(&self) -> Vec<Value> {
        let delivered = self.node.audit().into_iter().filter(|record| record["kind"] == "delivered");
        delivered.map(|record| record["event_id"].clone()).collect()
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        let arrived = wait::within(wait::DEADLINE, || (self.sshd.text(FILE)? == text).then_some(()));
        assert!(arrived.is_some(), "expected:\n{text}\nfound:\n{:?}\n{}", self.sshd.text(FILE), self.sshd.log());
    }
}

fn survives(point: &str, target: Target, plan: Plan) {
    let mut stage = Stage::new();
    let mut rows = String::new();
    if target == Target::Existing {
        stage.node.publish(FEED, "GR-1", &data("GR-1"));
        stage.node.run(RECIPE);
        rows = old_row("GR-1");
        stage.expect(&rows);
    }
    stage.die_at(point, "GR-2");

    stage.sshd.down();
    stage.node.start().apply(&recipe("[amount, id]", "{amount: amt}"));
    // The publisher repeats what may not have been acknowledged, as it must.
    stage.node.publish(FEED, "GR-2", &data("GR-2"));
    stage.node.publish(FEED, "GR-3", &data("GR-3"));
    stage.sshd.up();
    stage.node.cli(["sync", "run", RECIPE]);

    rows += &if plan == Plan::Stored { old_row("GR-2") } else { new_row("GR-2") };
    rows += &new_row("GR-3");
    stage.expect(&rows);
    assert_eq!(stage.sshd.names("/inbox"), ["grants.jsonl"], "no temporary file is left");
    let expected: &[&str] = if target == Target::Existing { &["GR-1", "GR-2", "GR-3"] } else { &["GR-2", "GR-3"] };
    let receipts = wait::until("the receipts", || Some(stage.receipts()).filter(|all| all.len() >= expected.len()));
    assert_eq!(receipts, expected, "at most one receipt each");
}

/// The same kill with a file on this machine: the protocol is the same.
fn survives_locally(point: &str, target: Target) {
    let mut stage = DropBox::new(Node::faulty());
    stage.node.start();
    stage.node.apply(&stage.recipe(""));
    let mut rows = String::new();
    if target == Target::Existing {
        stage.publish("GR-1");
        stage.run().ok();
        rows = drop_box::row("GR-1");
    }
    stage.node.terminate();
    stage.node.start_to_die_at(point);
    let _ = stage.node.try_publish(FEED, "GR-2", &drop_box::data("GR-2"));
    let _ = stage.run();
    stage.node.wait_until_dead();

    stage.node.start();
    stage.publish("GR-2");
    stage.publish("GR-3");
    stage.run();
    stage.expect(&(rows + &drop_box::row("GR-2") + &drop_box::row("GR-3")));
    let files = std::fs::read_dir(stage.node.path("spool")).expect("the folder is there").count();
    assert_eq!(files, 1, "no temporary file is left");
}

macro_rules! kills {
    ($($point:literal, $target:ident, $plan:ident: $remote:ident, $local:ident;)*) => {$(
        #[test]
        fn $remote() {
            survives($point, Target::$target, Plan::$plan);
        }
        #[test]
        fn $local() {
            survives_locally($point, Target::$target);
        }
    )*};
}

// The first commit after the start is the record that somebody ordered the run; the second one is the receipt.
kills! {
    "append.planned", New, Stored: killed_with_a_plan_for_a_new_file, killed_with_a_plan_for_a_new_local_file;
    "append.planned", Existing, Stored: killed_with_a_plan_for_a_file, killed_with_a_plan_for_a_local_file;
    "append.before_write", New, Stored: killed_before_the_write_of_a_new_file, killed_before_the_write_of_a_new_local_file;
    "append.before_write", Existing, Stored: killed_before_the_write, killed_before_the_local_write;
    "append.written", New, Stored: killed_after_the_write_of_a_new_file, killed_after_the_write_of_a_new_local_file;
    "append.written", Existing, Stored: killed_after_the_write, killed_after_the_local_write;
    "append.ready", New, Stored: killed_with_a_complete_temporary_file, killed_with_a_complete_local_temporary_file;
    "append.renamed", New, Stored: killed_after_the_rename, killed_after_the_local_rename;
    "append.verified", New, Stored: killed_before_the_audit_of_a_new_file, killed_before_the_audit_of_a_new_local_file;
    "append.verified", Existing, Stored: killed_before_the_audit, killed_before_the_audit_of_a_local_write;
    "ledger.after_begin", New, Stored: killed_once_the_work_for_a_new_file_is_stored, killed_once_the_work_for_a_new_local_file_is_stored;
    "ledger.after_begin", Existing, Stored: killed_once_the_work_is_stored, killed_once_the_local_work_is_stored;
    "ledger.before_commit:2", New, Stored: killed_before_the_commit_of_a_new_file, killed_before_the_commit_of_a_new_local_file;
    "ledger.before_commit:2", Existing, Stored: killed_before_the_commit, killed_before_the_local_commit;
    "ledger.after_commit:2", New, Stored: killed_after_the_commit_of_a_new_file, killed_after_the_commit_of_a_new_local_file;
    "ledger.after_commit:2", Existing, Stored: killed_after_the_commit, killed_after_the_local_commit;
    "ledger.before_cache", New, Stored: killed_before_the_cache_of_a_new_file, killed_before_the_cache_of_a_new_local_file;
    "ledger.before_cache", Existing, Stored: killed_before_the_cache_is_saved, killed_before_the_local_cache_is_saved;
    "feeds.after_write", New, None: killed_before_the_event_is_synced, killed_before_the_local_event_is_synced;
    "feeds.after_write", Existing, None: killed_before_a_later_event_is_synced, killed_before_a_later_local_event_is_synced;
    "feeds.after_sync", New, None: killed_before_the_event_is_acknowledged, killed_before_the_local_event_is_acknowledged;
    "feeds.after_sync", Existing, None: killed_before_a_later_event_is_acknowledged, killed_before_a_later_local_event_is_acknowledged;
}

/// The bytes of a plan of this size are not copied into the journal of begun work but written to it from where they are.
#[test]
fn killed_once_a_large_plan_is_stored() {
    let mut stage = Stage::new();
    stage.node.publish(FEED, "GR-1", &data("GR-1"));
    stage.node.run(RECIPE);
    stage.node.terminate();
    stage.node.start_to_die_at("ledger.after_begin");
    let large = "x".repeat(100_000);
    let _ = stage.node.try_publish(FEED, "GR-2", &data(&large));
    let _ = stage.node.cli(["sync", "run", RECIPE]);
    stage.node.wait_until_dead();
    stage.sshd.down();
    stage.node.start().apply(&recipe("[amount, id]", "{amount: amt}"));
    stage.sshd.up();
    stage.node.cli(["sync", "run", RECIPE]);
    stage.expect(&(old_row("GR-1") + &old_row(&large)));
}

#[test]
fn rows_that_were_half_written_are_completed() {
    let mut stage = Stage::new();
    stage.node.publish(FEED, "GR-1", &data("GR-1"));
    stage.node.run(RECIPE);
    stage.die_at("append.written", "GR-2");
    // As if the connection had broken in the middle of the row.
    let text = stage.sshd.text(FILE).expect("both rows are there");
    stage.sshd.put(FILE, &text[..text.len() - 9]);
    stage.node.start();
    stage.node.cli(["sync", "run", RECIPE]);
    stage.expect(&(old_row("GR-1") + &old_row("GR-2")));
}

#[test]
fn a_row_of_somebody_else_in_our_range_is_left_alone_and_ours_comes_after_it() {
    let mut stage = Stage::new();
    stage.node.publish(FEED, "GR-1", &data("GR-1"));
    stage.node.run(RECIPE);
    stage.die_at("append.before_write", "GR-2");
    let foreign = "{\"id\":\"not ours\"}\n";
    stage.sshd.put(FILE, &(old_row("GR-1") + foreign));
    stage.node.start();
    stage.node.cli(["sync", "run", RECIPE]);
    stage.expect(&(old_row("GR-1") + foreign + &old_row("GR-2")));
    let tickets = stage.node.open_tickets();
    assert_eq!(tickets.len(), 1, "{tickets:#?}");
}

#[test]
fn a_partner_that_loses_power_in_the_middle_gets_each_row_once() {
    let mut stage = Stage::new();
    for round in 0..5 {
        stage.node.publish(FEED, &format!("GR-{round}"), &data(&format!("GR-{round}")));
        stage.node.cli(["sync", "run", RECIPE, "--no-wait"]).ok();
        stage.sshd.down();
        stage.sshd.up();
    }
    stage.node.cli(["sync", "run", RECIPE]);
    stage.expect(&(0..5).map(|round| old_row(&format!("GR-{round}"))).collect::<String>());
}
