//! A disk that is full is full, and one that fails has failed: on a small file system of its own.

use std::path::PathBuf;
use std::process::Command;

use hms_actors::work::{Unit, Work};
use tempfile::{TempDir, tempdir};

use super::*;

/// A tmpfs, unmounted at the end. `None` where the test may not mount.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn of(size: &str) -> Option<Self> {
        let dir = tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options.as_str(), "hms-test"]).arg(dir.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: this test needs the right to mount a tmpfs");
        }
        mounted.then_some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let block = vec![7; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn units(offsets: std::ops::Range<Offset>) -> Work {
    Work::Requests(vec![Unit { revision: 1, offsets: offsets.collect(), letter: None, seal: 0 }])
}

#[tokio::test]
async fn what_was_begun_can_be_recorded_on_a_full_disk_and_nothing_new_begins() {
    let Some(disk) = Disk::of("12m") else { return };
    let store = open(disk.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    store.begin(&key("a"), epoch, units(0..3000)).await.unwrap();
    let filler = disk.fill();
    for first in (0..3000).step_by(500) {
        let mut entries: Vec<Entry> = (first..first + 499).map(delivered).collect();
        entries.push(dead(first + 499));
        store.commit(&key("a"), epoch, entries).await.unwrap();
    }
    let refused = store.begin(&key("a"), epoch, units(3000..6000)).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Node);
    assert!(refused.message.contains("room for the records"), "{refused}");
    std::fs::remove_file(filler).unwrap();
    store.begin(&key("a"), epoch, units(3000..6000)).await.unwrap();
    store.healthy().unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_leaves_no_half_record_and_passes() {
    let Some(disk) = Disk::of("6m") else { return };
    let store = open(disk.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    let filler = disk.fill();
    let mut next = 0;
    let refused = loop {
        let entries = (next..next + 100).map(delivered).collect();
        match store.commit(&key("a"), epoch, entries).await {
            Ok(_) => next += 100,
            Err(failure) => break failure,
        }
    };
    assert_eq!(refused.kind, FailureKind::Node);
    assert_eq!(store.settled(&key("a")).unwrap().below(), next);
    assert_eq!(store.audit_size(), next + 1);
    store.healthy().unwrap();
    std::fs::remove_file(filler).unwrap();
    store.commit(&key("a"), epoch, vec![delivered(next)]).await.unwrap();
    drop(store);
    assert_eq!(open(disk.path()).settled(&key("a")).unwrap().below(), next + 1);
}

#[tokio::test]
async fn a_failed_write_is_final_for_the_whole_store() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    store.core.health.fail("sync: input/output error");
    let refused = store.commit(&key("a"), epoch, vec![delivered(0)]).await.unwrap_err();
    assert!(refused.message.contains("not writable since `sync: input/output error`"), "{refused}");
    assert!(store.begin(&key("a"), epoch, units(0..1)).await.is_err());
    assert!(store.healthy().is_err());
    assert!(!store.settled(&key("a")).unwrap().contains(0));
}
