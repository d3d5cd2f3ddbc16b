//! What is wrong at a partner or in its secrets: nothing goes to the wrong place, the error says what,
//! the event waits, and is delivered once the cause is mended, without a restart.

use chaos_tests::authority::Authority;
use chaos_tests::judge::Guarantee;
use chaos_tests::node::Node;
use chaos_tests::partners::https::Answer;
use chaos_tests::wait;

use super::bridge::{Bridge, GIS_KEY, RECIPE, recipe, row};

/// One event that can't be delivered to `target`: the error holds `words`, and the other target has it.
#[track_caller]
fn fails(bridge: &mut Bridge, target: &str, words: &[&str]) {
    bridge.publish("GR-1");
    let printed = bridge.node.cli(["sync", "run", RECIPE]).failed_with(1);
    assert!(printed.contains(target), "{printed}");
    let state = bridge.node.target(RECIPE, target);
    let error = state["last_error"].as_str().unwrap_or_else(|| panic!("no last_error in {state}")).to_owned();
    for word in words {
        assert!(error.to_lowercase().contains(word), "no `{word}` in: {error}");
        assert!(printed.to_lowercase().contains(word), "no `{word}` in: {printed}");
    }
    assert_eq!(state["backlog"], 1, "{state}");
    let other = if target == "vdot_gis" { "cobol_finance" } else { "vdot_gis" };
    assert_eq!(bridge.node.target(RECIPE, other)["backlog"], 0, "{other} is none of its business");
    let ready = bridge.node.http().get("/readyz");
    assert_eq!(ready.status, 200, "a partner that is down does not make the node unready");
}

/// Now it goes, with no restart.
#[track_caller]
fn mended(bridge: &Bridge, times: Guarantee) {
    bridge.node.run(RECIPE);
    assert_eq!(bridge.csv(), row("GR-1"));
    bridge.judge(times);
    let told = bridge.node.log_lines().join("\n") + &serde_json::Value::from(bridge.node.audit()).to_string();
    assert!(!told.contains(GIS_KEY) && !told.contains("PRIVATE KEY"), "a secret was told");
}

#[test]
fn a_server_with_another_host_key_gets_nothing() {
    let mut bridge = Bridge::running();
    bridge.finance.change_host_key();
    fails(&mut bridge, "cobol_finance", &["host key", "finance.state.vt.gov"]);
    assert_eq!(bridge.finance.names("/inbox"), Vec::<String>::new());
    assert!(!bridge.finance.log().contains("Accepted publickey"), "no login at an impostor's");
    bridge.node.file("known_hosts", &bridge.finance.known_as("finance.state.vt.gov"));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_server_that_nobody_knows_gets_nothing() {
    let mut bridge = Bridge::running();
    bridge.node.file("known_hosts", &bridge.finance.known_as("elsewhere.example"));
    fails(&mut bridge, "cobol_finance", &["finance.state.vt.gov", "known_hosts"]);
    assert_eq!(bridge.finance.names("/inbox"), Vec::<String>::new());
    bridge.node.file("known_hosts", &bridge.finance.known_as("finance.state.vt.gov"));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_server_with_a_certificate_of_another_authority_gets_nothing() {
    let mut bridge = Bridge::running();
    bridge.gis.present(Authority::new().server("gis.vdot.gov"));
    fails(&mut bridge, "vdot_gis", &["certificate"]);
    assert!(bridge.gis.received().is_empty());
    bridge.gis.present(bridge.authority.server("gis.vdot.gov"));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_server_with_a_certificate_for_another_name_gets_nothing() {
    let mut bridge = Bridge::running();
    bridge.gis.present(bridge.authority.server("gis.example"));
    fails(&mut bridge, "vdot_gis", &["certificate"]);
    assert!(bridge.gis.received().is_empty());
    bridge.gis.present(bridge.authority.server("gis.vdot.gov"));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_missing_secret_is_named_and_found_once_it_is_there() {
    let mut bridge = Bridge::new(Node::new());
    bridge.node.unset("GIS_KEY");
    bridge.node.start().apply(&recipe());
    fails(&mut bridge, "vdot_gis", &["vdot_gis_key", "gis_key"]);
    assert!(bridge.gis.received().is_empty());
    bridge.node.file("secrets/GIS_KEY", GIS_KEY);
    mended(&bridge, Guarantee::ExactlyOnce);
    assert_eq!(bridge.gis.received()[0].header("x-api-key"), Some(GIS_KEY));
}

#[test]
fn a_missing_ssh_key_is_named_and_found_once_it_is_there() {
    let mut bridge = Bridge::running();
    std::fs::remove_file(bridge.node.path("secrets/COBOL_FINANCE_SSH_KEY")).expect("the key is there");
    fails(&mut bridge, "cobol_finance", &["cobol_finance_ssh_key", "ssh_key"]);
    bridge.node.file("secrets/SSH_KEY", &bridge.finance.client_key());
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn an_unreachable_server_gets_it_when_it_is_back() {
    let mut bridge = Bridge::running();
    bridge.gis.down();
    fails(&mut bridge, "vdot_gis", &["connect"]);
    bridge.gis.up();
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn an_unreachable_sftp_server_gets_it_when_it_is_back() {
    let mut bridge = Bridge::running();
    bridge.finance.down();
    fails(&mut bridge, "cobol_finance", &["finance.state.vt.gov"]);
    bridge.finance.up();
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_folder_without_permission_gets_it_when_it_may_be_written() {
    let mut bridge = Bridge::running();
    bridge.finance.writable("/inbox", false);
    fails(&mut bridge, "cobol_finance", &["permission", "/inbox/"]);
    assert_eq!(bridge.finance.names("/inbox"), Vec::<String>::new());
    bridge.finance.writable("/inbox", true);
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_server_that_knows_our_key_no_more_gets_it_when_it_does() {
    let mut bridge = Bridge::running();
    bridge.finance.allow_client(false);
    fails(&mut bridge, "cobol_finance", &["finance.state.vt.gov"]);
    bridge.finance.allow_client(true);
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_refused_api_key_holds_the_event_until_it_is_good() {
    let mut bridge = Bridge::running();
    bridge.gis.answer(Answer::Status(401));
    fails(&mut bridge, "vdot_gis", &["401"]);
    bridge.gis.answer(Answer::Status(200));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_redirect_is_a_failure_and_never_followed() {
    let mut bridge = Bridge::running();
    bridge.gis.answer(Answer::WithHeader(307, "location", "/elsewhere".to_owned()));
    fails(&mut bridge, "vdot_gis", &["307"]);
    assert!(bridge.gis.received().iter().all(|request| request.path == "/api/bridge"));
    bridge.gis.answer(Answer::Status(200));
    mended(&bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_server_that_hangs_does_not_hold_up_the_other() {
    let mut bridge = Bridge::running();
    bridge.finance.hang();
    bridge.publish("GR-1");
    bridge.node.cli(["sync", "run", RECIPE, "--no-wait"]).ok();
    wait::until("the request", || (bridge.gis.received().len() == 1).then_some(()));
    bridge.finance.go_on();
    bridge.node.cli(["sync", "run", RECIPE]);
    wait::until("the row", || (bridge.csv() == row("GR-1")).then_some(()));
}
