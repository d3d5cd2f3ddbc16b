//! The rows of partners that take files: SFTP, with a real sshd, and folders of this machine.

use chaos_tests::node::Node;
use chaos_tests::partners::sshd::Sshd;
use chaos_tests::process;
use chaos_tests::proxy::{Fault, Proxy};
use chaos_tests::wait;

use super::Arrival::{Maybe, Never};
use super::Means::{Configuration, Refused, Transient};
use super::seen::Outside;
use super::{FEED, Rows, holds, recipe};

/// A target of the SFTP table.
fn sftp(name: &str, host: &str, path: &str) -> String {
    recipe(name, &format!("    adapter: sftp\n    host: {host}\n    path: {path}\n    format: csv\n    timeout: 2s\n"))
}

const ROWS: &str = "first,1250.10\nsecond,1250.10\n";

#[test]
fn each_fault_of_an_sftp_partner_has_its_meaning() {
    let (mut node, mut sshd) = (Node::new(), Sshd::new());
    let mut stranger = Sshd::new();
    let proxy = Proxy::start(([127, 0, 0, 1], sshd.port()).into());
    let silent = Proxy::start(([127, 0, 0, 1], sshd.port()).into());
    let hosts = ["host_key", "unknown_key", "credentials", "permission", "folder", "disk_full", "down", "silent"];
    let mut connect_to = String::from("connect_to:\n");
    let mut known = String::new();
    for name in hosts {
        let port = match name {
            "down" => proxy.addr().port(),
            "silent" => silent.addr().port(),
            _ => sshd.port(),
        };
        connect_to += &format!("  {}.example:22: 127.0.0.1:{port}\n", name.replace('_', "-"));
        node.file(&format!("secrets/{}_SSH_KEY", name.to_uppercase()), &sshd.client_key());
        known += &match name {
            "host_key" => stranger.known_as("host-key.example"),
            "unknown_key" => String::new(),
            _ => sshd.known_as(&format!("{}.example", name.replace('_', "-"))),
        };
    }
    node.settings(&format!(
        "{connect_to}known_hosts: {}\nsecrets_dir: {}\n",
        node.file("known_hosts", &known).display(),
        node.path("secrets").display()
    ));
    node.file("secrets/CREDENTIALS_SSH_KEY", &stranger.client_key());
    stranger.down();
    sshd.make_folder("/permission");
    sshd.writable("/permission", false);
    sshd.make_folder("/disk_full");
    sshd.small_disk("/disk_full", 64 << 10);
    sshd.fill_disk("/disk_full");
    proxy.set(Fault::Refuse);
    silent.set(Fault::BlackHole);

    node.start();
    let mut rows = Rows::new();
    for name in hosts {
        let folder = match name {
            "permission" | "folder" | "disk_full" => name,
            _ => "inbox",
        };
        node.apply(&sftp(name, &format!("{}.example", name.replace('_', "-")), &format!("/{folder}/{name}.csv")));
        let means = match name {
            "down" | "silent" => Transient(Never),
            "disk_full" => Transient(Maybe),
            _ => Configuration,
        };
        rows.insert(name.to_owned(), means);
    }
    holds(&node, &rows, || {
        let both = sshd.known_as("host-key.example") + &sshd.known_as("unknown-key.example");
        let others = known.lines().filter(|line| !line.starts_with("host-key")).map(|line| format!("{line}\n"));
        node.file("known_hosts", &(others.collect::<String>() + &both));
        node.file("secrets/CREDENTIALS_SSH_KEY", &sshd.client_key());
        sshd.writable("/permission", true);
        sshd.make_folder("/folder");
        sshd.free_disk("/disk_full");
        proxy.heal();
        silent.heal();
    });
    for name in hosts {
        let folder =
            if rows[name] == Configuration && sshd.path(&format!("/{name}")).exists() { name } else { "inbox" };
        let folder = if name == "disk_full" { name } else { folder };
        assert_eq!(sshd.text(&format!("/{folder}/{name}.csv")).as_deref(), Some(ROWS), "{name}");
    }
}

#[test]
fn an_sftp_server_that_is_killed_in_a_write_gets_each_row_once() {
    let (mut node, sshd) = (Node::new(), Sshd::new());
    let proxy = Proxy::start(([127, 0, 0, 1], sshd.port()).into());
    node.settings(&format!(
        "connect_to:\n  big.example:22: 127.0.0.1:{}\nknown_hosts: {}\nsecrets_dir: {}\n",
        proxy.addr().port(),
        node.file("known_hosts", &sshd.known_as("big.example")).display(),
        node.path("secrets").display()
    ));
    node.file("secrets/BIG_SSH_KEY", &sshd.client_key());
    let target = "    adapter: sftp\n    host: big.example\n    path: /inbox/big.csv\n    format: csv\n";
    node.start().apply(&recipe("big", target));
    let text = "x".repeat(32 << 10);
    let mut expected = String::new();
    // A new file, which is written beside its name, and then one that is there.
    for (round, written) in [(1, "/inbox/.big.csv.hms-part"), (2, "/inbox/big.csv")] {
        node.cli(["sync", "pause", "big"]).ok();
        for number in 0..32 {
            let id = format!("e{round}-{number}");
            node.publish(FEED, &id, &format!(r#"{{"id":"{id}","amount":"{text}"}}"#));
            expected += &format!("{id},{text}\n");
        }
        proxy.set(Fault::Bandwidth { bytes_per_second: 256 << 10 });
        let before = sshd.path(written).metadata().map_or(0, |file| file.len());
        node.cli(["sync", "resume", "big"]).ok();
        let length = || sshd.path(written).metadata().map_or(0, |file| file.len());
        wait::until("a part of the write", || (length() > before + (64 << 10)).then_some(()));
        sshd.signal_sessions(process::Signal::KILL);
        wait::until("the failure", || {
            (Outside::look(&node).records("big", "attempt_failed").len() == round).then_some(())
        });
        assert!(sshd.text("/inbox/big.csv").unwrap_or_default().len() < expected.len(), "it was killed in the middle");
        proxy.heal();
        wait::until("the rest", || (node.target("big", "big")["backlog"] == 0).then_some(()));
        assert!(sshd.text("/inbox/big.csv").as_deref() == Some(&*expected), "the rows are not there once each");
    }
    let outside = Outside::look(&node);
    assert_eq!(outside.records("big", "delivered").len(), 64);
    let seen = outside.seen("big");
    assert_eq!(seen.failures, ["transient".to_owned()].into());
    assert!(seen.may_have_arrived && !seen.is_open && seen.ticket.is_none() && seen.dead_after.is_none(), "{seen:?}");
}

/// A disk of its own, mounted over a folder of the node's.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(path: std::path::PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&path).expect("the home is writable");
        let mut mount = std::process::Command::new("mount");
        process::run(mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path), b"").ok();
        Self(path)
    }

    fn remount(&self, options: &str) {
        let mut mount = std::process::Command::new("mount");
        process::run(mount.args(["-o", &format!("remount,{options}")]).arg(&self.0), b"").ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn each_fault_of_a_local_file_has_its_meaning() {
    let mut node = Node::new();
    // Root may write where permissions say that nobody may: a disk that can't be written says it to root too.
    let read_only = Disk::mount(node.path("read_only"), "size=64k,ro");
    let full = Disk::mount(node.path("full"), "size=64k");
    std::fs::write(node.path("full/ballast"), vec![b'x'; 64 << 10]).expect("the disk holds so much");
    node.file("no_folder", "a file where a folder should be");
    node.start();
    let mut rows = Rows::new();
    for (name, means) in [
        ("missing", Configuration),
        ("no_folder", Configuration),
        ("read_only", Configuration),
        ("full", Transient(Maybe)),
    ] {
        let path = node.path(name).join("rows.csv");
        node.apply(&recipe(name, &format!("    adapter: file\n    path: {}\n    format: csv\n", path.display())));
        rows.insert(name.to_owned(), means);
    }
    // An event that can't be a row; the recipe is what can be mended.
    let path = node.path("not_a_row.csv").display().to_string();
    let not_a_row = recipe("not_a_row", &format!("    adapter: file\n    path: {path}\n    format: csv\n"));
    node.apply(&not_a_row.replace("  fields:", "  required: [late]\n  fields:"));
    rows.insert("not_a_row".to_owned(), Refused);
    holds(&node, &rows, || {
        node.apply(&not_a_row);
        std::fs::create_dir(node.path("missing")).expect("the home is writable");
        std::fs::remove_file(node.path("no_folder")).expect("it is there");
        std::fs::create_dir(node.path("no_folder")).expect("the home is writable");
        std::fs::remove_file(node.path("full/ballast")).expect("it is there");
        read_only.remount("rw");
    });
    for name in rows.keys().filter(|name| *name != "not_a_row") {
        let text = std::fs::read_to_string(node.path(name).join("rows.csv"));
        assert_eq!(text.expect("it was delivered"), ROWS, "{name}");
    }
    // The dead letter came last: order excepts replay.
    assert_eq!(std::fs::read_to_string(path).expect("it was delivered"), "second,1250.10\nfirst,1250.10\n");
    drop(full);
}
