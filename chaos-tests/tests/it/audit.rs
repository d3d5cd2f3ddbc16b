//! Proof from outside: what the node signs is checked by its own command and by a second implementation that shares
//! no line with it, and what is bent behind its back is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::process::{self, Output};
use chaos_tests::wait;

use super::edges::Edge;

/// A node that has delivered something.
fn stage() -> Edge {
    let mut edge = Edge::running(Node::new());
    (0..20).for_each(|n| edge.publish(&format!("e{n}")));
    edge.judge();
    edge
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Writes what a command printed.
fn kept(edge: &Edge, name: &str, printed: &str) -> PathBuf {
    edge.node.file(name, printed)
}

/// The second implementation.
fn python(args: &[&Path]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_audit.py");
    process::run(Command::new("python3").arg(script).args(args), b"")
}

fn has_python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: this test needs python3");
    }
    there
}

#[test]
fn an_export_and_a_proof_are_checked_without_the_node_by_two_implementations() {
    let edge = stage();
    let out = edge.node.path("audit.ndjson");
    let key = kept(&edge, "key.pub", &edge.node.cli(["audit", "key"]).ok());
    edge.node.cli(["audit", "export", "--out", text(&out)]).ok();
    let checkpoint = out.with_added_extension("checkpoint");
    let proof = kept(&edge, "7.proof", &edge.node.cli(["audit", "proof", "7"]).ok());
    let said = edge.node.cli(["audit", "verify"]).ok();
    assert!(said.contains("as signed, none missing, none moved"), "{said}");

    let offline = |file: &Path| edge.node.cli(["audit", "verify", text(file), "--key", text(&key)]);
    offline(&out).ok();
    offline(&proof).ok();
    assert!(!has_python() || python(&[&out, &checkpoint, &key]).ok().contains("are those that were signed"));
    assert!(!has_python() || python(&[&proof, &key]).ok().contains("record 7 of"));

    for file in [&out, &proof] {
        let whole = fs::read_to_string(file).expect("it was written");
        let bent = whole.replacen("\"attempt\":1", "\"attempt\":2", 1);
        assert_ne!(bent, whole);
        fs::write(file, bent).expect("it is ours");
    }
    let said = offline(&out).failed_with(1);
    assert!(said.contains("is not the one that was signed"), "{said}");
    offline(&proof).failed_with(1);
    assert!(!has_python() || python(&[&out, &checkpoint, &key]).failed_with(1).contains("WRONG"));
    assert!(!has_python() || python(&[&proof, &key]).failed_with(1).contains("WRONG"));
}

#[test]
fn a_record_that_is_changed_on_the_disk_is_named_and_one_that_is_put_back_is_forgiven() {
    let edge = stage();
    edge.node.cli(["audit", "verify"]).ok();
    let path = edge.node.data_dir().join("audit/00000000000000000000.ndjson");
    let whole = fs::read_to_string(&path).expect("it is there");
    let line = whole.lines().find(|line| line.contains("\"event_id\":\"e13\"")).expect("it was delivered");
    let seq = line.split("\"seq\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).expect("it has a number");
    fs::write(&path, whole.replacen(line, &line.replace("\"e13\"", "\"e99\""), 1)).expect("it is ours");
    let said = edge.node.cli(["audit", "verify"]).failed_with(1);
    assert!(said.contains(&format!("record {seq} is not the one that was signed")), "{said}");
    edge.node.cli(["audit", "proof", seq]).failed_with(1);
    fs::write(&path, whole).expect("it is ours");
    edge.node.cli(["audit", "verify"]).ok();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("it is there").map(|entry| entry.expect("an entry").path()) {
        let to = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).expect("room");
        }
    }
}

#[test]
fn a_node_does_not_start_over_an_older_audit() {
    let mut edge = stage();
    edge.node.terminate();
    let (audit, older) = (edge.node.data_dir().join("audit"), edge.node.path("older"));
    copy(&audit, &older);
    edge.node.start();
    edge.publish("later");
    edge.judge();
    edge.node.terminate();
    let newer = edge.node.path("newer");
    fs::rename(&audit, &newer).expect("it is there");
    copy(&older, &audit);
    let refused = process::run(&mut edge.node.serve(), b"");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("the audit is not the one that was signed"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Restore the folder audit/"), "{}", refused.stderr);
    fs::remove_dir_all(&audit).expect("it is ours");
    fs::rename(&newer, &audit).expect("it is there");
    edge.node.start();
    edge.node.cli(["audit", "verify"]).ok();
}

#[test]
fn anchors_are_told_when_they_can_be_and_nobody_waits_for_them() {
    let mut witness = HttpPartner::plain();
    let mut node = Node::new();
    let anchor = node.path("elsewhere/anchor.txt");
    let lines = format!("anchors:\n  - {}\n  - {}\n", anchor.display(), witness.url("/add"));
    node.settings(&lines);
    witness.down();
    let mut edge = Edge::running(node);
    edge.publish("first");
    edge.judge();
    edge.says("the anchor");
    let metric = |edge: &Edge, name: &str, of: &str| {
        let text = edge.node.http().get("/metrics").text();
        chaos_tests::metrics::Scrape::parse(&text).sum(name, &[("anchor", of)]).unwrap_or_default()
    };
    let of_witness = witness.url("/add");
    wait::until("a failure to be counted", || {
        (metric(&edge, "hms_audit_anchor_fail_total", &of_witness) > 0.0).then_some(())
    });
    // The folder comes later than the node, as a mount may.
    fs::create_dir(anchor.parent().expect("a folder")).expect("the home is writable");
    witness.up();
    edge.publish("second");
    edge.judge();
    edge.node.cli(["audit", "verify"]).ok();
    let size = edge.node.audit().len() as f64;
    for of in [&of_witness, &anchor.display().to_string()] {
        wait::until("the anchor to have all of it", || {
            (metric(&edge, "hms_audit_anchored_records", of) >= size).then_some(())
        });
    }
    let note = witness.received().last().expect("it was told").text();
    let anchored = fs::read_to_string(&anchor).expect("it was written");
    assert!(anchored.contains(&note) || note.contains("\n\n\u{2014} hms-sync/"), "{note}\n\n{anchored}");
    edge.node.cli(["audit", "verify", "--checkpoint", text(&anchor)]).ok();
    let kept = kept(&edge, "witnessed.txt", &note);
    edge.node.cli(["audit", "verify", "--checkpoint", text(&kept)]).ok();
}

#[test]
fn an_older_data_directory_as_a_whole_is_found_by_what_was_anchored() {
    let mut node = Node::new();
    let anchor = node.path("anchor.txt");
    node.settings(&format!("anchors: [{}]\n", anchor.display()));
    let mut edge = Edge::running(node);
    edge.publish("early");
    edge.judge();
    edge.node.terminate();
    let (data, older) = (edge.node.data_dir(), edge.node.path("older"));
    copy(&data, &older);
    edge.node.start();
    edge.publish("late");
    edge.judge();
    edge.node.cli(["audit", "verify"]).ok();
    let size = edge.node.audit().len();
    let notes = || fs::read_to_string(&anchor).unwrap_or_default();
    wait::until("the anchor", || notes().contains(&format!("\n{size}\n")).then_some(()));
    edge.node.kill9();
    fs::remove_dir_all(&data).expect("it is ours");
    copy(&older, &data);
    let refused = process::run(&mut edge.node.serve(), b"");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("the audit is not the one that was signed"), "{}", refused.stderr);
    assert!(refused.stderr.contains(text(&anchor)), "{}", refused.stderr);
}

#[test]
fn old_records_leave_the_node_for_an_export_and_are_proved_as_before() {
    let mut node = Node::new();
    let anchor = node.path("anchor.txt");
    node.settings(&format!("anchors: [{}]\n", anchor.display()));
    let mut edge = Edge::running(node);
    (0..20).for_each(|n| edge.publish(&format!("e{n}")));
    edge.judge();
    let out = edge.node.path("old.ndjson");
    let export = ["audit", "export", "--out", text(&out)];
    let said = edge.node.cli([&export[..], &["--prune-before", "12"]].concat()).ok();
    assert!(said.contains("12 records moved out of the node, which keeps those from 12 on"), "{said}");
    let kept_seqs: Vec<_> = edge.node.audit().iter().map(|record| record["seq"].as_u64()).collect();
    assert_eq!(kept_seqs.first(), Some(&Some(12)), "what the node has without being asked for more");
    let said = edge.node.cli(["audit", "list", "--from", "3"]).failed_with(1);
    assert!(said.contains("records below 12 were moved out"), "{said}");
    let by =
        edge.node.audit().into_iter().find(|record| record["action"] == "prune_audit").expect("it is in the audit");
    assert_eq!(by["details"]["first"], "12");

    // All of it again without the cache, after a kill, and with more on top.
    edge.node.kill9();
    fs::remove_dir_all(edge.node.data_dir().join("state")).expect("it is a cache");
    edge.node.start();
    (20..30).for_each(|n| edge.publish(&format!("e{n}")));
    let delivered = |record: &serde_json::Value| record["kind"] == "delivered" && record["seq"].as_u64() > Some(20);
    wait::until("ten more deliveries", || {
        (edge.node.audit().iter().filter(|record| delivered(record)).count() >= 10).then_some(())
    });
    edge.node.cli(["audit", "verify", "--checkpoint", text(&anchor)]).ok();
    let key = kept(&edge, "key.pub", &edge.node.cli(["audit", "key"]).ok());
    let later = edge.node.path("later.ndjson");
    edge.node.cli(["audit", "export", "--out", text(&later)]).ok();
    let old = kept(&edge, "3.proof", &edge.node.cli(["audit", "proof", "3", "--export", text(&out)]).ok());
    let first = fs::read_to_string(&later).expect("it was written").lines().next().map(str::to_owned);
    assert!(first.is_some_and(|line| line.contains("\"seq\":12")), "the second export begins where the node does");
    let offline = |file: &Path| edge.node.cli(["audit", "verify", text(file), "--key", text(&key)]);
    for file in [&out, &later, &old] {
        offline(file).ok();
    }
    let note = |file: &Path| file.with_added_extension("checkpoint");
    if has_python() {
        python(&[&out, &note(&out), &key]).ok();
        python(&[&later, &note(&later), &key]).ok();
        python(&[&old, &key]).ok();
    }
    let whole = fs::read_to_string(&later).expect("it was written");
    fs::write(&later, whole.replacen("\"attempt\":1", "\"attempt\":2", 1)).expect("it is ours");
    let said = offline(&later).failed_with(1);
    assert!(said.contains("is not the one that was signed"), "{said}");
    assert!(!has_python() || python(&[&later, &note(&later), &key]).failed_with(1).contains("WRONG"));
}

#[test]
fn nothing_leaves_a_node_that_has_no_anchor() {
    let edge = stage();
    let out = edge.node.path("old.ndjson");
    let said = edge.node.cli(["audit", "export", "--out", text(&out), "--prune-before", "5"]).failed_with(1);
    assert!(said.contains("no anchor is configured"), "{said}");
    assert!(out.exists(), "the export is there all the same");
    assert_eq!(edge.node.audit()[0]["seq"], 0);
}

#[test]
fn another_node_keeps_checkpoints_as_events() {
    let mut other = Node::new();
    other.start();
    let mut node = Node::new();
    node.settings(&format!("anchors: ['{}/v1/feeds/anchors.vt/events']\n", other.http().base()));
    let mut edge = Edge::running(node);
    edge.publish("one");
    edge.judge();
    let spool = other.path("anchors.jsonl");
    other.apply(&format!(
        "id: keep.sync\nsource:\n  feed: anchors.vt\n  fields: [checkpoint]\n  from: beginning\ntargets:\n  - name: spool\n    adapter: file\n    \
         path: {}\n    format: jsonl\nschedule: on_change\n",
        spool.display()
    ));
    edge.node.cli(["audit", "verify"]).ok();
    let size = edge.node.audit().len();
    let rows = || fs::read_to_string(&spool).unwrap_or_default();
    wait::until("the other node to have it", || rows().contains(&format!("\\n{size}\\n")).then_some(()));
    let last: serde_json::Value = serde_json::from_str(rows().lines().last().expect("a row")).expect("JSON");
    let anchored = kept(&edge, "from-the-other.txt", last["checkpoint"].as_str().expect("a note"));
    edge.node.cli(["audit", "verify", "--checkpoint", text(&anchored)]).ok();
}
