//! The endpoint as its own description has it: requests that are made from that, good ones and bad ones, by schemathesis.

use std::process::{Command, Stdio};

use chaos_tests::node::Node;

/// A part of what `chaos-tests/schemathesis.sh` can do: bounded, and the same each time.
#[test]
fn no_request_made_of_the_endpoints_own_description_ends_in_a_5xx() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.sh");
    let program = Node::newest().expect("there is one to test");
    let run = Command::new("bash").arg(script).arg(program).arg("short").stdin(Stdio::null()).output();
    let run = run.expect("there is a bash");
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}");
    // `1070 generated, 1070 passed, 52 skipped`
    let asked = told.lines().find_map(|line| line.split_once(" generated, ")?.0.trim().parse().ok());
    assert!(asked > Some(500), "it asked next to nothing: {told}");
}
