//! The door of a node that asks for tokens: its first start, roles, ends of tokens, TLS, and what nobody may ever read.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chaos_tests::authority::Authority;
use chaos_tests::http::{self, Answer, Client};
use chaos_tests::node::Node;
use chaos_tests::process::Output;
use chaos_tests::{process, wait};
use serde_json::Value;

const RECIPE: &str = "door.sync";

struct Stage {
    node: Node,
}

impl Stage {
    fn new() -> Self {
        let mut node = Node::new();
        node.ask_for_tokens().start();
        Self { node }
    }

    fn admin_file(&self) -> PathBuf {
        self.node.data_dir().join("admin.token")
    }

    fn admin(&self) -> String {
        std::fs::read_to_string(self.admin_file()).expect("it was made").trim().to_owned()
    }

    /// Over the command line, with the admin token of the data directory.
    fn create(&self, args: &[&str]) -> String {
        let printed = self.as_admin(&[&["token", "create"], args].concat()).ok();
        printed.trim().to_owned()
    }

    fn as_admin(&self, args: &[&str]) -> Output {
        let file = self.admin_file().display().to_string();
        self.node.cli(args.iter().copied().chain(["--token-file", &file]))
    }

    fn with(&self, token: &str, args: &[&str]) -> Output {
        let file = self.node.file("given.token", token).display().to_string();
        self.node.cli(args.iter().copied().chain(["--token-file", &file]))
    }

    fn ask(&self, token: &str, method: &str, path: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        self.node.http().send(method, path, &headers, Vec::new()).expect("an answer")
    }

    fn audit(&self) -> Vec<Value> {
        let text = self.ask(&self.admin(), "GET", "/v1/audit").expect(200).text();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    fn operator_records(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let operators = self.audit().into_iter().filter(|record| record["kind"] == "operator");
        operators.map(|it| (text(&it["action"]), text(&it["subject"]), text(&it["details"]["name"]))).collect()
    }

    fn recipe(&self) -> String {
        let spool = self.node.path("spool");
        std::fs::create_dir_all(&spool).expect("the home is writable");
        let path = spool.join("rows.csv");
        format!(
            "id: {RECIPE}\nsource:\n  feed: grants\n  fields: [id]\ntargets:\n  - name: drop\n    adapter: file\n    path: {}\n    format: csv\nschedule: every 1h\n",
            path.display()
        )
    }
}

#[test]
fn the_first_start_makes_the_owners_token_and_the_command_line_finds_it() {
    let mut stage = Stage::new();
    let mode = std::fs::metadata(stage.admin_file()).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(stage.admin().starts_with("hms_") && stage.admin().len() >= 40);

    let told = stage.node.cli(["sync", "list"]).failed_with(1);
    assert!(told.contains("a token is needed") && told.contains("hms-data/admin.token"), "{told}");
    stage.node.http().get("/v1/recipes").problem(401);
    stage.node.http().get("/healthz").expect(200);

    let data_dir = stage.node.data_dir().display().to_string();
    stage.node.env("HMS_DATA_DIR", &data_dir);
    stage.node.cli(["sync", "list"]).ok();
    stage.node.env("HMS_TOKEN_FILE", "/nowhere/token");
    assert!(stage.node.cli(["sync", "list"]).failed_with(2).contains("/nowhere/token"));
    let admin = stage.admin();
    stage.node.env("HMS_TOKEN", &admin);
    stage.node.cli(["sync", "list"]).ok();
    let told = stage.with("hms_guess", &["sync", "list"]).failed_with(1);
    assert!(told.contains("not known here") && told.contains("given.token"), "{told}");

    stage.node.restart();
    assert_eq!(stage.admin(), admin, "a restart makes no other one");
    stage.node.cli(["sync", "list"]).ok();
    let created = |(action, subject, name): &(String, String, String)| {
        (action.as_str(), subject.as_str(), name.as_str()) == ("create_token", "hms.serve", "admin")
    };
    assert_eq!(stage.operator_records().iter().filter(|record| created(record)).count(), 1);
}

#[test]
fn each_role_may_do_what_it_is_for_and_the_audit_names_who_did_it() {
    let stage = Stage::new();
    let viewer = stage.create(&["vera", "--role", "viewer"]);
    let operator = stage.create(&["olaf", "--role", "operator"]);
    let publisher = stage.create(&["paula", "--role", "publisher", "--feed", "grants"]);
    let recipe = stage.node.file("recipe.yaml", &stage.recipe()).display().to_string();

    assert!(stage.with(&viewer, &["sync", "apply", &recipe]).failed_with(1).contains("needs the role operator"));
    stage.with(&operator, &["sync", "apply", &recipe]).ok();
    let publish = |feed: &'static str| ["ppe", "event", "publish", feed, "--data", r#"{"id":"GR-1"}"#];
    stage.with(&publisher, &publish("grants")).ok();
    assert!(stage.with(&publisher, &publish("others")).failed_with(1).contains("may publish to grants only"));
    stage.with(&operator, &publish("grants")).failed_with(1);
    stage.with(&publisher, &["sync", "list"]).failed_with(1);
    assert!(stage.with(&viewer, &["sync", "list"]).ok().contains(RECIPE));
    assert!(stage.with(&viewer, &["sync", "pause", RECIPE]).failed_with(1).contains("`vera` has the role viewer"));
    stage.with(&operator, &["sync", "pause", RECIPE]).ok();
    stage.with(&operator, &["sync", "resume", RECIPE]).ok();
    stage.with(&operator, &["sync", "run", RECIPE]).ok();
    stage.with(&operator, &["circuit", "open", RECIPE, "drop"]).ok();
    stage.with(&operator, &["circuit", "close", RECIPE, "drop"]).ok();
    assert!(stage.with(&operator, &["token", "list"]).failed_with(1).contains("needs the role admin"));
    stage.with(&operator, &["sync", "delete", RECIPE]).ok();

    let audit = stage.audit();
    let by = |kind: &str, member: &str| {
        let records = audit.iter().filter(move |record| record["kind"] == kind && record[member].is_string());
        records.map(|record| record[member].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(by("recipe", "by"), ["olaf"; 4], "applied, paused, resumed, deleted");
    assert_eq!(by("circuit", "by"), ["olaf"; 2]);
    assert_eq!(by("operator", "subject"), ["hms.serve", "admin", "admin", "admin", "olaf"]);
}

/// The description says which role each route needs: what the node does is compared with that, cell by cell.
#[test]
fn the_node_keeps_to_the_roles_of_its_description() {
    let stage = Stage::new();
    let mut tokens = BTreeMap::new();
    for role in ["publisher", "viewer", "operator"] {
        tokens.insert(role, stage.create(&[&format!("the-{role}"), "--role", role]));
    }
    let description = stage.ask(&stage.admin(), "GET", "/openapi.json").expect(200).json();
    let mut cells = 0;
    for (path, operations) in description["paths"].as_object().expect("paths") {
        let at = path.replace("{n}", "1").replace("{id}", "x").replace("{feed}", "x").replace("{name}", "x");
        for (method, operation) in operations.as_object().expect("operations") {
            let method = method.to_uppercase();
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            let stranger = stage.node.http().send(&method, &at, &[], Vec::new()).expect("an answer");
            assert_eq!(stranger.status != 401, is_open, "{method} {path} without a token");
            for (role, token) in &tokens {
                let needed = operation["x-role"].as_str();
                let included = *role == "operator" && needed == Some("viewer");
                let may = needed.is_none() || needed == Some(role) || included;
                let answer = stage.ask(token, &method, &at);
                assert_eq!(!matches!(answer.status, 401 | 403), may, "{role}: {method} {path}: {}", answer.text());
                cells += 1;
            }
        }
    }
    assert!(cells > 60, "{cells}");
}

#[test]
fn a_token_ends_when_it_is_revoked_or_expires_and_restarts_change_nothing() {
    let mut stage = Stage::new();
    let kept = stage.create(&["kept", "--role", "viewer", "--expires", "30d"]);
    let short = stage.create(&["short", "--role", "viewer", "--expires", "1s"]);
    let revoked = stage.create(&["revoked", "--role", "viewer"]);
    stage.ask(&revoked, "GET", "/v1/feeds").expect(200);
    stage.as_admin(&["token", "revoke", "revoked"]).ok();
    stage.ask(&revoked, "GET", "/v1/feeds").problem(401);
    assert!(
        stage.as_admin(&["token", "create", "kept", "--role", "viewer"]).failed_with(1).contains("there is a token")
    );
    assert!(stage.as_admin(&["token", "revoke", "admin"]).failed_with(1).contains("last admin"));
    stage.as_admin(&["token", "revoke", "nobody"]).failed_with(1);
    for wrong in [
        &["Ann", "--role", "viewer"][..],
        &["hms.ann", "--role", "viewer"],
        &["ann", "--role", "viewer", "--feed", "f"],
    ] {
        stage.as_admin(&[&["token", "create"], wrong].concat()).failed_with(1);
    }
    wait::until("the end of the second", || (stage.ask(&short, "GET", "/v1/feeds").status == 401).then_some(()));
    let told = stage.with(&short, &["sync", "list"]).failed_with(1);
    assert!(told.contains("`short` has expired"), "{told}");

    stage.node.restart();
    stage.ask(&kept, "GET", "/v1/feeds").expect(200);
    for ended in [&short, &revoked] {
        stage.ask(ended, "GET", "/v1/feeds").problem(401);
    }
    let listed = stage.as_admin(&["token", "list"]).ok();
    assert!(listed.contains("kept") && listed.contains("short") && !listed.contains("revoked"), "{listed}");
    let records = stage.operator_records();
    let has = |action: &str, name: &str| records.iter().any(|it| (it.0.as_str(), it.2.as_str()) == (action, name));
    assert!(has("create_token", "revoked") && has("revoke_token", "revoked"), "{records:?}");
}

#[test]
fn the_owner_gets_in_again_when_no_admin_is_left() {
    let mut stage = Stage::new();
    let second = stage.create(&["second", "--role", "admin", "--expires", "1s"]);
    stage.with(&second, &["token", "revoke", "admin"]).ok();
    assert!(!stage.admin_file().exists());
    wait::until("the end of the second", || (stage.ask(&second, "GET", "/v1/feeds").status == 401).then_some(()));
    stage.node.restart();
    stage.as_admin(&["token", "list"]).ok();

    // A damaged file lets nobody in, and says what to do.
    stage.node.terminate();
    let file = stage.node.data_dir().join("tokens.json");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, text.replace("admin", "anyone")).expect("it is writable");
    let told = process::run(&mut stage.node.serve(), b"");
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stderr.contains("tokens.json") && told.stderr.contains("rm "), "{told:?}");
}

#[test]
fn no_token_is_in_the_log_the_audit_the_metrics_or_the_data() {
    let stage = Stage::new();
    let viewer = stage.create(&["vera", "--role", "viewer"]);
    stage.ask(&viewer, "GET", "/v1/feeds").expect(200);
    let guess = "hms_a-wrong-guess-that-nobody-may-read-either";
    stage.ask(guess, "GET", "/v1/feeds").problem(401);
    wait::until("the line about the guess", || {
        stage.node.log_lines().iter().any(|line| line.contains("not known was refused")).then_some(())
    });
    let admin = stage.admin();
    let mut texts = stage.node.log_lines();
    for path in ["/v1/audit", "/metrics", "/v1/tokens", "/v1/supervision"] {
        texts.push(stage.ask(&admin, "GET", path).expect(200).text());
    }
    bytes_below(&stage.node.data_dir(), &mut texts);
    for secret in [admin.as_str(), &viewer, guess] {
        let secret = secret.trim_start_matches("hms_");
        assert!(!texts.iter().any(|text| text.contains(secret)), "a token can be read");
    }
}

/// All files but the one that is there to hold a token.
fn bytes_below(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            bytes_below(&entry, found);
        } else if !entry.ends_with("admin.token") {
            found.push(String::from_utf8_lossy(&std::fs::read(entry).unwrap_or_default()).into_owned());
        }
    }
}

#[test]
fn without_a_flag_a_node_listens_on_every_address() {
    let mut node = Node::new();
    let mut serve = node.ask_for_tokens().serve();
    // It gets past its configuration: that there is somebody on the port already is another matter.
    let _taken = node.port().listen();
    let told = process::run(serve.args(["--listen", &format!("0.0.0.0:{}", node.port().number())]), b"");
    assert!(told.stderr.contains("can't listen"), "{told:?}");
}

/// A node with TLS, a client of it, and where its files are.
fn secure(authority: &Authority, more: &str) -> Node {
    let mut node = Node::new();
    let (cert, key) = authority.pair("127.0.0.1");
    node.file("node.pem", &cert);
    node.file("node.key", &key);
    node.file("ca.pem", &authority.pem());
    node.settings(&format!("tls: {{cert: node.pem, key: node.key{more}}}\n")).ask_for_tokens();
    node
}

fn trusting(node: &Node, authority: &Authority, identity: Option<(String, String)>) -> Client {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("PEM");
    let mut builder = http::builder().tls_certs_only([root]).pool_max_idle_per_host(0);
    if let Some((cert, key)) = identity {
        builder = builder.identity(reqwest::Identity::from_pem((cert + &key).as_bytes()).expect("PEM"));
    }
    Client::over(builder, format!("https://{}", node.port().address()))
}

#[test]
fn the_endpoint_speaks_tls_and_a_new_certificate_needs_no_restart() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut node = secure(&authority, "");
    node.speak_through(trusting(&node, &authority, None)).start();
    let admin = node.data_dir().join("admin.token").display().to_string();
    let ca = node.path("ca.pem").display().to_string();
    node.cli(["sync", "list", "--token-file", &admin, "--ca-file", &ca]).ok();
    node.cli(["sync", "list", "--token-file", &admin]).failed_with(3);
    let plain = Client::new(node.port().address());
    assert!(plain.send("GET", "/healthz", &[], Vec::new()).is_err(), "it is answered without TLS");

    // What is no certificate is not taken.
    let (cert, key) = other.pair("127.0.0.1");
    node.file("node.pem", &cert);
    node.reconfigure("tls: {cert: node.pem, key: node.key}\n");
    let refused = |line: &String| line.contains("goes on with the configuration") && line.contains("node.key");
    wait::until("the refusal", || node.log_lines().iter().any(refused).then_some(()));
    node.http().get("/healthz").expect(200);

    node.file("node.key", &key);
    node.reconfigure("tls: {cert: node.pem, key: node.key}\n");
    let renewed = trusting(&node, &other, None);
    wait::until("the new certificate", || renewed.send("GET", "/healthz", &[], Vec::new()).ok());
    assert!(node.http().send("GET", "/healthz", &[], Vec::new()).is_err(), "the old one is still shown");
    node.speak_through(renewed);
    let told = node.http().get("/healthz").expect(200);
    assert_eq!(told.header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn with_a_client_ca_nobody_comes_in_without_a_certificate_which_is_no_token_and_stands_in_the_audit() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let mut node = secure(&authority, ", client_ca: clients.pem");
    node.file("clients.pem", &clients.pem());
    let (cert, key) = clients.client("ann");
    let (cert_file, key_file) = (node.file("ann.pem", &cert), node.file("ann.key", &key));
    node.speak_through(trusting(&node, &authority, Some((cert, key)))).start();
    for stranger in [None, Some(strangers.client("ann"))] {
        let stranger = trusting(&node, &authority, stranger);
        assert!(stranger.send("GET", "/healthz", &[], Vec::new()).is_err(), "it is answered");
    }
    node.http().get("/v1/feeds").problem(401);
    let admin = node.data_dir().join("admin.token").display().to_string();
    let [ca, cert, key] = [node.path("ca.pem"), cert_file, key_file].map(|path| path.display().to_string());
    let list = ["sync", "list", "--token-file", &admin, "--ca-file", &ca];
    node.cli(list).failed_with(3);
    node.cli(list.into_iter().chain(["--client-cert", &cert, "--client-key", &key])).ok();
    node.cli(list.into_iter().chain(["--client-cert", &cert])).failed_with(2);
    let create = ["token", "create", "vera", "--role", "viewer", "--token-file", &admin, "--ca-file", &ca];
    node.cli(create.into_iter().chain(["--client-cert", &cert, "--client-key", &key])).ok();
    let token = std::fs::read_to_string(&admin).expect("it was made");
    let headers = [("authorization", format!("Bearer {}", token.trim()))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let audit = node.http().send("GET", "/v1/audit", &headers, Vec::new()).expect("an answer").expect(200).text();
    let records = audit.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let created: Vec<Value> = records.filter(|record| record["details"]["name"] == "vera").collect();
    assert_eq!(created.iter().map(|record| &record["subject"]).collect::<Vec<_>>(), ["admin (CN=ann)"]);

    // The one who vouches is replaced: who was let in is a stranger now.
    node.file("clients.pem", &strangers.pem());
    node.reconfigure("tls: {cert: node.pem, key: node.key, client_ca: clients.pem}\n");
    let now_known = trusting(&node, &authority, Some(strangers.client("bob")));
    wait::until("the new authority", || now_known.send("GET", "/healthz", &[], Vec::new()).ok());
    assert!(node.http().send("GET", "/healthz", &[], Vec::new()).is_err(), "the old one still vouches");
}
