//! The partners by themselves: a test is worth what its partners are.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chaos_tests::authority::Authority;
use chaos_tests::http::builder;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::partners::oauth::SchedulingService;
use chaos_tests::partners::sshd::Sshd;
use chaos_tests::process::{self, Output};
use chaos_tests::wait;

fn post(partner: &HttpPartner, path: &str) -> Result<u16, reqwest::Error> {
    let client = builder().build()?;
    Ok(client.post(partner.url(path)).header("idempotency-key", path).body("{}").send()?.status().as_u16())
}

/// A client that trusts one authority, for which `name` is the partner.
fn client(root: &Authority, partner: &HttpPartner, name: &str) -> reqwest::blocking::Client {
    let root = reqwest::Certificate::from_pem(root.pem().as_bytes()).expect("a certificate");
    let address = ([127, 0, 0, 1], partner.port()).into();
    builder().tls_certs_only([root]).resolve(name, address).build().expect("a client")
}

#[test]
fn a_certificate_is_good_for_its_name_and_for_those_who_trust_its_authority() {
    let authority = Authority::new();
    let partner = HttpPartner::tls(authority.server("gis.vdot.gov"));
    let get = |root: &Authority, name: &str| {
        let request = client(root, &partner, name).get(format!("https://{name}:{}/api", partner.port()));
        request.send().map(|answer| answer.status().as_u16())
    };
    assert_eq!(get(&authority, "gis.vdot.gov").expect("a trusted name"), 200);
    assert!(get(&authority, "gis.vdot.example").is_err(), "another name");
    assert!(get(&Authority::new(), "gis.vdot.gov").is_err(), "another authority");
    assert_eq!(partner.received().len(), 1);
}

#[test]
fn requests_are_recorded_as_they_came_and_answered_by_the_script() {
    let partner = HttpPartner::plain();
    partner.script([Answer::Status(503), Answer::After(Duration::from_millis(1), 201)]);
    let statuses: Vec<_> = ["/a?b=c", "/2", "/3"].map(|path| post(&partner, path).expect("an answer")).into();
    assert_eq!(statuses, [503, 201, 200]);
    let first = &partner.received()[0];
    assert_eq!((first.method.as_str(), first.path.as_str(), first.text().as_str()), ("POST", "/a?b=c", "{}"));
    assert_eq!(first.header("Idempotency-Key"), Some("/a?b=c"));
}

#[test]
fn a_request_whose_connection_is_closed_has_its_effect_once() {
    let partner = HttpPartner::plain();
    partner.script([Answer::Close]);
    post(&partner, "/same").expect_err("a closed connection");
    post(&partner, "/same").expect("an answer");
    assert_eq!(partner.received().iter().map(|request| request.answered).collect::<Vec<_>>(), [None, Some(200)]);
    assert_eq!(partner.effects().len(), 1);
}

#[test]
fn a_partner_that_is_down_refuses_connections_and_comes_back_on_its_port() {
    let mut partner = HttpPartner::plain();
    partner.down();
    assert!(post(&partner, "/a").expect_err("nobody listens").is_connect());
    partner.up();
    assert_eq!(post(&partner, "/a").expect("an answer"), 200);
}

#[test]
fn the_scheduling_service_takes_only_its_newest_token() {
    let authority = Authority::new();
    let service = SchedulingService::new(authority.server("crew.vdot.gov"));
    let client = client(&authority, &service.http, "crew.vdot.gov");
    let url = |path: &str| format!("https://crew.vdot.gov:{}{path}", service.http.port());
    let token = || {
        let request = client.post(url("/oauth/token")).body("grant_type=client_credentials");
        request.send().expect("an answer").text().expect("a body")
    };
    let task = |token: &str| client.post(url("/tasks")).bearer_auth(token).send().expect("an answer").status();
    assert!(token().contains("token-1"));
    assert_eq!(task("token-1"), 200);
    service.revoke();
    assert_eq!(task("token-1"), 401);
    assert!(token().contains("token-3"));
    assert_eq!(task("token-3"), 200);
    assert_eq!((service.token_requests().len(), service.tasks().len()), (2, 2));
}

/// OpenSSH's own client, which trusts only what `known_hosts` says of `finance.state.vt.gov`.
fn sftp(sshd: &Sshd, known_hosts: &str, commands: &str) -> Output {
    let home = tempfile::tempdir().expect("a temporary folder");
    process::run(&mut client_of(sshd, known_hosts, home.path()), commands.as_bytes())
}

fn client_of(sshd: &Sshd, known_hosts: &str, home: &Path) -> Command {
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        path.display().to_string()
    };
    let mut command = Command::new("sftp");
    command.args([
        format!("-oUserKnownHostsFile={}", write("known_hosts", known_hosts)),
        format!("-oIdentityFile={}", write("key", &sshd.client_key())),
        format!("-oPort={}", sshd.port()),
        "-oHostKeyAlias=finance.state.vt.gov".to_owned(),
        "-oStrictHostKeyChecking=yes".to_owned(),
        "-oConnectTimeout=5".to_owned(),
    ]);
    command.args(["-b", "-", "-F", "none", "sync@127.0.0.1"]);
    command
}

#[test]
fn a_server_that_goes_down_takes_its_sessions_with_it() {
    let mut sshd = Sshd::new();
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = client_of(&sshd, &sshd.known_as("finance.state.vt.gov"), home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut session = command.spawn().expect("sftp is installed");
    let mut commands = session.stdin.take().expect("stdin is piped");
    commands.write_all(b"mkdir /inbox/before\n").expect("the session reads");
    wait::until("the session", || (sshd.names("/inbox") == ["before"]).then_some(()));
    sshd.down();
    commands.write_all(b"mkdir /inbox/after\n").expect("the session reads");
    drop(commands);
    let status = process::ended(&mut session, "the session");
    assert!(!status.success());
    assert_eq!(sshd.names("/inbox"), ["before"]);
}

#[test]
fn a_client_with_the_key_writes_where_it_may_and_nowhere_else() {
    let sshd = Sshd::new();
    let known = sshd.known_as("finance.state.vt.gov");
    sshd.put("/inbox/a.csv", "one\n");
    sftp(&sshd, &known, "rename /inbox/a.csv /inbox/b.csv\n").ok();
    assert_eq!(sshd.names("/inbox"), ["b.csv"]);
    assert_eq!(sshd.text("/inbox/b.csv").as_deref(), Some("one\n"));

    sshd.writable("/inbox", false);
    let refused = sftp(&sshd, &known, "rename /inbox/b.csv /inbox/c.csv\n").failed_with(1);
    assert!(refused.contains("Permission denied"), "{refused}");

    sshd.allow_client(false);
    let refused = sftp(&sshd, &known, "ls\n").failed_with(255);
    assert!(refused.contains("Permission denied (publickey)"), "{refused}");
}

#[test]
fn a_changed_host_key_is_another_server() {
    let mut sshd = Sshd::new();
    let known = sshd.known_as("finance.state.vt.gov");
    sshd.change_host_key();
    let refused = sftp(&sshd, &known, "ls\n").failed_with(255);
    assert!(refused.contains("Host key verification failed"), "{refused}");
    sftp(&sshd, &sshd.known_as("finance.state.vt.gov"), "ls\n").ok();
}

#[test]
fn a_server_that_is_down_refuses_connections_and_comes_back_with_its_files() {
    let mut sshd = Sshd::new();
    let known = sshd.known_as("finance.state.vt.gov");
    sshd.put("/inbox/a.csv", "one\n");
    sshd.down();
    let refused = sftp(&sshd, &known, "ls\n").failed_with(255);
    assert!(refused.contains("Connection refused"), "{refused}");
    sshd.up();
    sftp(&sshd, &known, "ls /inbox/a.csv\n").ok();
}

#[test]
fn a_hanging_server_takes_connections_and_says_nothing() {
    let sshd = Sshd::new();
    sshd.hang();
    let known = sshd.known_as("finance.state.vt.gov");
    let refused = sftp(&sshd, &known, "ls\n").failed_with(255);
    assert!(refused.contains("timed out"), "{refused}");
    sshd.go_on();
    sftp(&sshd, &known, "ls\n").ok();
}
