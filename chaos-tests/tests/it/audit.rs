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
