//! The node's disk is full: on a file system of its own, so that full is full. Publishers are refused, deliveries
//! wait and say why, and both go on when there is room, without a restart.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use chaos_tests::node::Node;
use chaos_tests::wait;

use super::edges::{Edge, Published};

/// A tmpfs, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).expect("the home is writable");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "hms-test"]).arg(at);
        let output = mount.output().expect("the program mount is there");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "this test needs the right to mount a tmpfs (run it as root): {why}");
        Self(at.to_owned())
    }

    /// Takes all room that is left.
    fn fill(&self) -> Filler {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a name needs no room");
        for size in [1 << 20, 4096, 1] {
            let block = vec![7; size];
            while file.write_all(&block).is_ok() {}
        }
        Filler(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

struct Filler(PathBuf);

impl Filler {
    fn make_room(self) {
        fs::remove_file(self.0).expect("it is there");
    }
}

/// The disk goes before the node's home does.
struct Stage {
    disk: Disk,
    edge: Edge,
}

impl Stage {
    fn new(size: &str) -> Self {
        let mut edge = Edge::new(Node::new());
        let disk = Disk::mount(&edge.node.data_dir(), size);
        edge.start();
        Self { disk, edge }
    }
}

#[test]
fn a_full_disk_refuses_publishers_and_loses_nothing_that_was_acknowledged() {
    let Stage { edge, disk } = &mut Stage::new("96m");
    let mut refused = 0;
    for n in 0.. {
        match edge.try_publish(&format!("e{n}"), 512 << 10) {
            Published::Acknowledged => {}
            Published::Refused(status) => {
                assert_eq!(status, 507);
                refused = n;
                break;
            }
        }
    }
    assert!(refused > 5, "there was room for {refused}");
    edge.judge();

    let filler = disk.fill();
    assert_eq!(edge.try_publish("full", 0), Published::Refused(507));
    let ready = edge.node.http().get("/readyz");
    filler.make_room();
    assert_eq!(ready.status, 200, "a full disk is no failed store: {}", ready.text());
    assert_eq!(edge.try_publish(&format!("e{refused}"), 512 << 10), Published::Refused(507), "the reserve stays");
    edge.node.restart();
    edge.judge();
}

#[test]
fn deliveries_wait_on_a_full_disk_say_why_and_go_on_by_themselves() {
    let Stage { edge, disk } = &mut Stage::new("96m");
    edge.publish("before");
    edge.judge();
    edge.partner.down();
    let spool = edge.node.path("spool");
    let aside = edge.node.path("spool-aside");
    fs::rename(&spool, &aside).expect("it is there");
    // Their plan is larger than the room that the journal of begun work has ahead.
    for n in 0..700 {
        edge.publish(&format!("e{n}-{}", "x".repeat(200)));
    }
    edge.complains("http", "connect");
    let filler = disk.fill();
    fs::rename(&aside, &spool).expect("it is there");
    edge.complains("spool", "No space left on device");
    edge.partner.up();
    // What was begun before the disk was full has its room; nothing new is begun.
    wait::until("what was begun over HTTP", || edge.accepted().iter().any(|id| id.starts_with("e0-")).then_some(()));
    assert_eq!(edge.try_publish("full", 0), Published::Refused(507));
    assert!(edge.node.is_running());
    filler.make_room();
    edge.publish("after");
    edge.judge();
    edge.node.restart();
    edge.judge();
}

#[test]
fn a_node_that_is_killed_on_a_full_disk_starts_there_and_goes_on_when_there_is_room() {
    let Stage { edge, disk } = &mut Stage::new("96m");
    edge.partner.down();
    for n in 0..20 {
        edge.publish(&format!("e{n}"));
    }
    edge.complains("http", "connect");
    let filler = disk.fill();
    edge.node.kill9();
    edge.node.start();
    assert_eq!(edge.try_publish("full", 0), Published::Refused(507));
    edge.partner.up();
    filler.make_room();
    edge.publish("after");
    edge.judge();
}
