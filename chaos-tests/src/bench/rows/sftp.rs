//! A backlog drained to a CSV file over SFTP, against OpenSSH's own `sftp put` of the same bytes to the same sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::bench::Settings;
use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::judge::{Evidence, FileCopy};
use crate::partners::sshd::Sshd;
use crate::{process, wait};

const FEED: &str = "bench";
const RECIPE: &str = "bench.sftp.sync";
const PATH: &str = "/inbox/events.csv";
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("sftp");
    let count = settings.sized(1_000_000, 500);
    for turn in 0..settings.turns {
        let sshd = Sshd::new();
        let run = node(settings, &mut row, &sshd, count);
        row.push(turn, "node", run);
        let run = put(&sshd, count);
        row.push(turn, "sftp put", run);
    }
    let goal = Goal { reach: 0.4, aim: 0.8 };
    row.compare(Figure::new("sftp", "OpenSSH `sftp put`, same bytes", "×", Some(goal)), "node", "sftp put", Run::rate);
    row
}

fn node(settings: &Settings, row: &mut Row, sshd: &Sshd, count: usize) -> Run {
    let stage = acquainted(settings, sshd);
    stage.backlog(FEED, 0, count);
    let recipe = format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n  from: beginning\n  fields: [id, status, amount_usd, lat, lon, text]\ntargets:\n  \
         - name: finance\n    adapter: sftp\n    host: finance.example\n    path: {PATH}\n    format: csv\nschedule: on_change\n"
    );
    let clock = Clock::start(Some(stage.process()), &[], &[sshd.process()]);
    stage.apply(RECIPE, &recipe);
    let file = sshd.path(PATH);
    wait::within(PATIENCE, || file.exists().then_some(())).expect("the first rows");
    stage.settled(RECIPE, &[]);
    let run = stage.kept(clock.stop(count));
    let bytes = fs::read(&file).expect("the rows are there");
    let run = run.with("bytes", bytes.len() as f64);
    let copy = FileCopy { path: PATH.to_owned(), bytes, ..FileCopy::default() };
    witness::judge(
        row,
        &stage,
        vec![Witness::new(RECIPE, "finance", Evidence::Files(vec![copy]), stage.acknowledged())],
    );
    run
}

/// A node that knows the server and has its key.
fn acquainted(settings: &Settings, sshd: &Sshd) -> Stage {
    let address = std::net::Ipv4Addr::LOCALHOST;
    let connect = format!("connect_to: {{'finance.example:22': '{address}:{}'}}\n", sshd.port());
    Stage::with(&settings.program, |node| {
        let known = node.file("known_hosts", &sshd.known_as("finance.example"));
        let secrets = node.file("secrets/FINANCE_SSH_KEY", &sshd.client_key());
        let folder = secrets.parent().expect("it is in a folder");
        format!("{connect}known_hosts: {}\nsecrets_dir: {}\n", known.display(), folder.display())
    })
}

/// The same bytes with the client that everybody has, connection and login included.
fn put(sshd: &Sshd, count: usize) -> Run {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let (key, local) = (folder.path().join("key"), folder.path().join("events.csv"));
    fs::write(&key, sshd.client_key()).expect("our folder is writable");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    fs::copy(sshd.path(PATH), &local).expect("the node has written it");
    let clock = Clock::start(None, &[], &[sshd.process()]);
    let mut command = Command::new("sftp");
    command.args(["-q", "-b", "-", "-P", &sshd.port().to_string(), "-o", "StrictHostKeyChecking=no"]);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-i"]).arg(&key);
    let batch = format!("put {} /inbox/put.csv\n", local.display());
    process::run(command.arg("sync@127.0.0.1"), batch.as_bytes()).ok();
    let run = clock.stop(count);
    let sent = fs::metadata(sshd.path("/inbox/put.csv")).expect("it was sent").len();
    assert_eq!(sent, fs::metadata(&local).expect("it is ours").len(), "bytes that `sftp put` wrote");
    run.with("bytes", sent as f64)
}
