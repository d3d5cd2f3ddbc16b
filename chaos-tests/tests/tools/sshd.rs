//! How the partner that reads files fails: parts of it stop or die, its disk is full, others use its files. The client
//! is OpenSSH's own.

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use chaos_tests::partners::sshd::Sshd;
use chaos_tests::process::{self, Lines, Output, Signal};
use chaos_tests::wait;
use tempfile::TempDir;

fn client(sshd: &Sshd, home: &Path, timeout: u32) -> Command {
    use std::os::unix::fs::PermissionsExt;
    let key = home.join("key");
    std::fs::write(&key, sshd.client_key()).expect("a file");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let mut command = Command::new("sftp");
    command.args(["-F", "none", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"]);
    command.arg(format!("-oConnectTimeout={timeout}")).arg(format!("-oPort={}", sshd.port()));
    command.arg(format!("-oIdentityFile={}", key.display())).args(["-b", "-", "sync@127.0.0.1"]).current_dir(home);
    command
}

fn once(sshd: &Sshd, commands: &str, timeout: u32) -> Output {
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(home.path().join("rows"), [b'r'; 10_000]).expect("a file");
    process::run(&mut client(sshd, home.path(), timeout), commands.as_bytes())
}

/// A client that is connected.
struct Session {
    _home: TempDir,
    child: Child,
    commands: ChildStdin,
    lines: Lines,
}

impl Session {
    fn open(sshd: &Sshd) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut command = client(sshd, home.path(), 60);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sftp");
        let (commands, lines) = (child.stdin.take().expect("piped"), Lines::default());
        lines.follow(BufReader::new(child.stdout.take().expect("piped")));
        let mut session = Self { _home: home, child, commands, lines };
        session.say("pwd");
        session.wait_for("Remote working directory");
        session
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the session reads");
    }

    fn wait_for(&self, line: &str) {
        let found = || self.lines.all().iter().any(|found| found.starts_with(line)).then_some(());
        wait::until(line, found);
    }

    fn made(&mut self, sshd: &Sshd, folder: &str) {
        self.say(&format!("mkdir /inbox/{folder}"));
        wait::until(folder, || sshd.names("/inbox").contains(&folder.to_owned()).then_some(()));
    }

    /// Asks for one thing more; whether all that was asked for was done.
    fn end(mut self) -> bool {
        // A client that has ended already does not read it.
        let _ = writeln!(self.commands, "ls /inbox");
        drop(self.commands);
        process::ended(&mut self.child, "the session").success()
    }
}

#[test]
fn a_killed_listener_refuses_while_sessions_go_on_and_leaves_none_behind() {
    let mut sshd = Sshd::new();
    let mut session = Session::open(&sshd);
    sshd.signal_listener(Signal::KILL);
    session.made(&sshd, "after");
    assert!(once(&sshd, "pwd\n", 5).failed_with(255).contains("Connection refused"));
    let sessions = sshd.sessions();
    assert!(!sessions.is_empty());
    sshd.up();
    assert!(!session.end(), "a machine that comes up has no old sessions");
    wait::until("the old sessions to be gone", || {
        sessions.iter().all(|id| process::name(*id).is_empty()).then_some(())
    });
}

#[test]
fn killed_sessions_end_while_new_ones_are_taken() {
    let sshd = Sshd::new();
    let session = Session::open(&sshd);
    sshd.signal_sessions(Signal::KILL);
    assert!(!session.end());
    once(&sshd, "pwd\n", 60).ok();
}

#[test]
fn stopped_sessions_say_nothing_while_new_ones_are_taken_and_go_on_later() {
    let sshd = Sshd::new();
    let mut session = Session::open(&sshd);
    sshd.signal_sessions(Signal::STOP);
    session.say("mkdir /inbox/late");
    once(&sshd, "mkdir /inbox/new\n", 60).ok();
    assert_eq!(sshd.names("/inbox"), ["new"]);
    sshd.signal_sessions(Signal::CONT);
    wait::until("the stopped session", || (sshd.names("/inbox") == ["late", "new"]).then_some(()));
    assert!(session.end());
}

#[test]
fn a_stopped_listener_says_nothing_to_new_sessions_only() {
    let mut sshd = Sshd::new();
    let mut session = Session::open(&sshd);
    sshd.signal_listener(Signal::STOP);
    assert!(once(&sshd, "pwd\n", 1).failed_with(255).contains("timed out"));
    session.made(&sshd, "meanwhile");
    sshd.signal_listener(Signal::CONT);
    once(&sshd, "pwd\n", 60).ok();
}

#[test]
fn a_full_disk_takes_nothing_until_there_is_room() {
    let mut sshd = Sshd::new();
    sshd.small_disk("/inbox", 64 * 1024);
    once(&sshd, "put rows /inbox/one\n", 60).ok();
    sshd.fill_disk("/inbox");
    once(&sshd, "put rows /inbox/two\n", 60).failed_with(1);
    sshd.free_disk("/inbox");
    once(&sshd, "put rows /inbox/two\n", 60).ok();
    assert_eq!(sshd.text("/inbox/two").map(|text| text.len()), Some(10_000));
}

#[test]
fn others_use_the_files_as_they_like() {
    let sshd = Sshd::new();
    sshd.put("/inbox/a", "one\ntwo\n");
    sshd.append("/inbox/a", "foreign\n");
    assert_eq!(sshd.text("/inbox/a").as_deref(), Some("one\ntwo\nforeign\n"));
    sshd.cut("/inbox/a", 4);
    assert_eq!(sshd.text("/inbox/a").as_deref(), Some("one\n"));
    sshd.begin_anew("/inbox/a", "new\n");
    assert_eq!(sshd.text("/inbox/a").as_deref(), Some("new\n"));
    sshd.pick_up("/inbox/a", "/inbox/a.taken");
    assert_eq!(sshd.names("/inbox"), ["a.taken"]);
    once(&sshd, "rename /inbox/a.taken /inbox/b\n", 60).ok();
}
