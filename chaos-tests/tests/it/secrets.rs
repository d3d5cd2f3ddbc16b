//! No value of a secret is seen anywhere: canaries of every kind go through success and failure, echoed by their
//! partners, and then everything that the node has said or stored is searched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner, Received};
use chaos_tests::partners::sshd::Sshd;
use chaos_tests::process;
use chaos_tests::wait;
use serde_json::{Value, json};

const RECIPE: &str = "canary.sync";
const HOST: &str = "finance.state.vt.gov";
const TARGETS: [&str; 6] = ["api", "badge", "clerk", "crew", "finance", "vault"];

const API: &str = "cAnArY-api/key+\"1\"";
const BEARER: &str = "cAnArY-bearer-2";
const BASIC: &str = "cAnArY-basic-3";
const CLIENT: &str = "cAnArY-client-4";
const TOKEN: &str = "cAnArY-token-5";
const NO_KEY: &str = "cAnArY-not-an-ssh-key-6";
const PASSWORD: &str = "cAnArY-ssh-password-7";

/// What the partners do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Phase {
    /// They repeat what they were sent in their refusals.
    Echo,
    /// Tokens come in answers that are none.
    NoToken,
    /// Tokens are given and refused, and repeated with that.
    TokenRefused,
    Fine,
}

fn answer(request: &Received, phase: &AtomicUsize) -> Answer {
    let phase = [Phase::Echo, Phase::NoToken, Phase::TokenRefused, Phase::Fine][phase.load(Ordering::SeqCst)];
    let told = ["authorization", "x-api-key"].map(|name| request.header(name).unwrap_or_default().to_owned());
    let echo = json!({"error": "no", "told": told}).to_string();
    let token = json!({"access_token": TOKEN, "expires_in": 3600}).to_string();
    match (request.path.as_str(), phase) {
        ("/token", Phase::Echo) => Answer::Json(401, echo),
        ("/token", Phase::NoToken) => {
            Answer::Json(200, json!({"token": TOKEN, "told": told, "access_token": 5}).to_string())
        }
        ("/token", _) => Answer::Json(200, token),
        ("/crew", Phase::TokenRefused) => Answer::Json(401, echo),
        (_, Phase::Fine) => Answer::Status(200),
        ("/badge", _) => Answer::Json(403, echo),
        ("/clerk", _) => Answer::Json(500, echo),
        _ => Answer::Json(422, echo),
    }
}

fn recipe(partner: &HttpPartner) -> String {
    let rest = |name: &str, auth: &str| {
        let url = partner.url(&format!("/{name}"));
        format!("  - {{name: {name}, adapter: rest, url: \"{url}\", auth: {auth}, circuit: {QUICK}}}\n")
    };
    let sftp = |name: &str, auth: &str| {
        format!(
            "  - {{name: {name}, adapter: sftp, host: {HOST}, path: /inbox/{name}.csv, format: csv, \
             circuit: {QUICK}{auth}}}\n"
        )
    };
    let token =
        format!("{{type: oauth2_client_credentials, token_url: \"{}\", client_id: hms}}", partner.url("/token"));
    let targets = [
        rest("api", "api_key"),
        rest("badge", "bearer"),
        rest("clerk", "{type: basic, username: hms}"),
        rest("crew", &token),
        sftp("finance", ""),
        sftp("vault", ", auth: password"),
    ];
    format!(
        "id: {RECIPE}\nsource: {{feed: grants, fields: [id]}}\ntargets:\n{}schedule: on_change\nretries: 1\n",
        targets.concat()
    )
}

const QUICK: &str = "{failures: 2, open_for: 100ms, max_open_for: 200ms}";

/// Every way in which a canary may be spelled.
fn canaries(ssh_key: &str) -> Vec<String> {
    let plain = [API, BEARER, BASIC, CLIENT, TOKEN, NO_KEY, PASSWORD].map(str::to_owned).to_vec();
    let mut all: Vec<String> = plain.iter().map(|value| STANDARD.encode(value)).collect();
    all.extend([BASIC, CLIENT].map(|value| STANDARD.encode(format!("hms:{value}"))));
    all.extend(ssh_key.lines().filter(|line| !line.starts_with("-----")).skip(1).map(str::to_owned));
    // Whatever is done to it, this much of it would be left.
    all.push("cAnArY".to_owned());
    all
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files(&entry, found);
        } else {
            let bytes = fs::read(&entry).expect("a file of the node's");
            found.push((entry.display().to_string(), bytes));
        }
    }
}

/// All that the node has said and stored, with where it was.
fn everything(node: &Node) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![("the log".to_owned(), node.log_lines().join("\n").into_bytes())];
    for path in [
        "/metrics",
        "/v1/audit?from=0&limit=1000",
        "/v1/tickets",
        "/v1/dead-letters",
        "/v1/circuits",
        "/v1/supervision",
    ] {
        found.push((path.to_owned(), node.http().get(path).expect(200).text().into_bytes()));
    }
    let recipe = node.path("recipe.yaml").display().to_string();
    let mut commands = vec![
        vec!["sync", "list"],
        vec!["sync", "show", RECIPE],
        vec!["sync", "check", &recipe],
        vec!["sync", "check", &recipe, "--event", "{\"id\":1}"],
        vec!["circuit", "list"],
        vec!["hitl", "list"],
        vec!["dlq", "list"],
        vec!["audit", "list"],
        vec!["dlq", "show", "1"],
        vec!["hitl", "show", "1"],
        vec!["hitl", "show", "2"],
    ];
    commands.extend(TARGETS.iter().map(|target| vec!["circuit", "show", RECIPE, target]));
    for command in commands {
        let output = node.cli(command.clone());
        found.push((command.join(" "), (output.stdout + &output.stderr).into_bytes()));
    }
    for process in process::tree(node.process().expect("the node is up")) {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        found.push((format!("the command line of {process}"), line));
    }
    files(&node.data_dir(), &mut found);
    found
}

fn until(node: &Node, what: &str, met: impl Fn(&Value) -> bool) {
    for target in TARGETS {
        let path = format!("/v1/recipes/{RECIPE}/targets/{target}");
        wait::until(&format!("{target}: {what}"), || met(&node.http().get(&path).expect(200).json()).then_some(()));
    }
}

#[test]
fn no_value_of_a_secret_is_in_anything_that_the_node_says_or_stores() {
    let (mut node, partner, sshd) = (Node::faulty(), HttpPartner::plain(), Sshd::new());
    let phase = Arc::new(AtomicUsize::new(0));
    let now = phase.clone();
    partner.rule(move |request| answer(request, &now));
    node.settings(&format!(
        "connect_to:\n  {HOST}:22: 127.0.0.1:{}\nsecrets_dir: {}\nknown_hosts: {}\n",
        sshd.port(),
        node.path("secrets").display(),
        node.file("known_hosts", &sshd.known_as(HOST)).display(),
    ));
    node.env("API_KEY", API).env("HMS_FAULT", "panic:adapter.rest@clerk,panic:adapter.sftp@finance");
    for (name, value) in [
        ("BADGE_TOKEN", BEARER),
        ("CLERK_PASSWORD", BASIC),
        ("CREW_CLIENT_SECRET", CLIENT),
        ("FINANCE_SSH_KEY", NO_KEY),
        ("VAULT_PASSWORD", PASSWORD),
    ] {
        node.file(&format!("secrets/{name}"), value);
    }
    node.start().apply(&recipe(&partner));
    node.publish("grants", "e1", r#"{"id":1}"#);

    // Each target has failed; the one whose event was refused has a dead letter and goes on.
    until(&node, "an error", |target| target["last_error"].is_string() || target["backlog"] == 0);
    for next in [1, 2] {
        let before = partner.received().iter().filter(|request| request.path == "/token").count();
        phase.store(next, Ordering::SeqCst);
        wait::until("another token to be asked for", || {
            (partner.received().iter().filter(|request| request.path == "/token").count() > before + 1).then_some(())
        });
    }
    wait::until("the token to be refused", || {
        partner.received().iter().any(|request| request.path == "/crew").then_some(())
    });
    let failing = everything(&node);

    phase.store(3, Ordering::SeqCst);
    node.file("secrets/FINANCE_SSH_KEY", &sshd.client_key());
    node.file("secrets/VAULT_SSH_KEY", &sshd.client_key());
    node.apply(&recipe(&partner).replace(", auth: password", ""));
    until(&node, "everything delivered", |target| target["backlog"] == 0);
    node.publish("grants", "e2", r#"{"id":2}"#);
    until(&node, "the next event delivered", |target| target["checkpoint"] == 2);

    // The canaries were there to be found, and the faults happened.
    let received = format!(
        "{:?}",
        partner.received().iter().map(|r| r.header("authorization").map(str::to_owned)).collect::<Vec<_>>()
    );
    assert!(
        received.contains(BEARER)
            && received.contains(TOKEN)
            && received.contains(&STANDARD.encode(format!("hms:{BASIC}")))
    );
    let log = node.log_lines().join("\n");
    assert!(log.contains("panic"), "{log}");
    let key = sshd.client_key();
    let found: Vec<(String, Vec<u8>)> = failing.into_iter().chain(everything(&node)).collect();
    for canary in canaries(&key) {
        for (place, bytes) in &found {
            let hit = bytes.windows(canary.len()).position(|window| window == canary.as_bytes());
            let around =
                hit.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())]));
            assert_eq!(around, None, "`{canary}` is in {place}");
        }
    }
}

#[test]
fn a_check_names_for_each_target_what_is_missing_and_where_it_was_looked_for() {
    let mut node = Node::faulty();
    node.file("hms.yaml", "secrets_dir: secrets\nsecret_hosts: {GIS_KEY: [gis.vdot.gov]}\n");
    node.env("GIS_KEY", API).env("CREW_TOKEN", BEARER);
    let target = |name: &str, host: &str, auth: &str| {
        format!("  - {{name: {name}, adapter: rest, url: \"https://{host}/\", auth: {auth}}}\n")
    };
    let targets = [
        target("gis", "gis.evil.example", "api_key"),
        target("crew", "crew.vdot.gov", "bearer"),
        target("state_clerk", "clerk.vdot.gov", "{type: basic, username: hms}"),
        target("other", "other.vdot.gov", "{type: api_key, secret: CREW_TOKEN}"),
    ];
    let text = format!("id: a.sync\nsource: {{feed: grants}}\ntargets:\n{}schedule: on_change\n", targets.concat());
    let recipe = node.file("recipe.yaml", &text).display().to_string();
    let told = node.cli(["sync", "check", &recipe]).ok();
    for part in [
        "a.sync is valid",
        "gis: secret `GIS_KEY` may not be given to `gis.evil.example`",
        "state_clerk: no secret STATE_CLERK_PASSWORD or CLERK_PASSWORD; looked for an environment variable",
        "other: secret `CREW_TOKEN` is not derived from the target's name",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("crew: ") && !told.contains("cAnArY"), "{told}");
    let json: Value = serde_json::from_str(&node.cli(["sync", "check", &recipe, "--json"]).ok()).expect("JSON");
    assert_eq!(json["targets"][2]["missing_secrets"], json!(["STATE_CLERK_PASSWORD", "CLERK_PASSWORD"]));
}

#[test]
fn a_check_refuses_what_is_never_a_target_and_notes_this_machine() {
    let node = Node::faulty();
    let check = |url: &str| {
        let text = format!(
            "id: a.sync\nsource: {{feed: grants}}\ntargets: [{{name: a, adapter: rest, url: \"{url}\"}}]\nschedule: on_change\n"
        );
        let recipe = node.file("recipe.yaml", &text).display().to_string();
        node.cli(["sync", "check", &recipe])
    };
    let refused = check("http://0xa9fea9fe/latest").failed_with(2);
    assert!(refused.contains("target `a`") && refused.contains("169.254.169.254"), "{refused}");
    let noted = check("http://127.1:9/").ok();
    assert!(noted.contains("a.sync is valid") && noted.contains("a loopback address"), "{noted}");
    assert!(!check("http://gis.vdot.gov/").ok().contains("egress"), "a name can't be judged before it is looked up");
}
