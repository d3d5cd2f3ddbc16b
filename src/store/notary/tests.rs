//! The notary on a real store: what it signs, what it finds at a start, and what it refuses to continue.

use std::fs;
use std::path::Path;

use hms_actors::ports::Ledger;
use tempfile::tempdir;

use super::*;
use crate::proof::SigningKey;
use crate::proof::tree::{extends, includes, leaf};
use crate::store::tests::{applied, delivered, key, open};

/// So slow that only those who ask get a checkpoint.
const ASKED: Pace = Pace { every: Duration::from_secs(3600), records: u64::MAX };

fn notary(store: &Store, data: &Path) -> Result<Arc<Notary>, Failure> {
    store.notary(data, None, ASKED, &[])
}

/// A store of `count` more deliveries.
async fn grow(store: &Store, from: u64, count: u64) {
    let epoch = Ledger::open(store, &key("a")).await.unwrap().epoch;
    for offset in from..from + count {
        store.commit(&key("a"), epoch, vec![delivered(offset)]).await.unwrap();
    }
}

async fn begun(data: &Path, count: u64) -> Arc<Store> {
    let store = open(data);
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    grow(&store, 0, count).await;
    store
}

fn keys(notary: &Notary) -> Vec<VerifierKey> {
    notary.keys().lines().map(|line| line.parse().unwrap()).collect()
}

fn refused(data: &Path) -> String {
    let store = open(data);
    notary(&store, data).err().expect("it is refused").message
}

#[tokio::test]
async fn every_record_is_proved_in_every_checkpoint_also_after_a_restart() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 0).await;
    let mut checkpoints = Vec::new();
    for round in 0..8 {
        let notary = notary(&store, dir.path()).unwrap();
        grow(&store, round * 40, 40).await;
        let signed = notary.current().await.unwrap();
        assert_eq!(signed.checkpoint.size, store.audit_size());
        assert_eq!(Signed::open(&signed.note, &keys(&notary)).unwrap(), *signed);
        assert_eq!(fs::read_to_string(dir.path().join("audit.checkpoint")).unwrap(), signed.note);
        checkpoints.push(signed.checkpoint.clone());
        for later in &checkpoints {
            for seq in (0..later.size).step_by(17) {
                let (_, line) = store.read_lines(seq, 1).unwrap().remove(0);
                let proof = notary.inclusion(seq, later.size).unwrap();
                assert!(includes(leaf(&line), seq, later.size, &proof, &later.root), "{seq} in {}", later.size);
            }
            for earlier in checkpoints.iter().filter(|earlier| earlier.size <= later.size) {
                let proof = notary.consistency(earlier.size, later.size).unwrap();
                assert!(extends((earlier.size, &earlier.root), (later.size, &later.root), &proof));
            }
        }
        let size = store.audit_size();
        for beyond in [notary.inclusion(0, size + 1), notary.inclusion(size, size), notary.consistency(0, size + 1)] {
            assert!(matches!(beyond, Err(NoProof::Beyond(_))));
        }
    }
}

#[tokio::test]
async fn it_signs_by_itself_after_so_many_records_or_so_long() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 0).await;
    let many = Pace { every: Duration::from_secs(3600), records: 5 };
    let by_number = store.notary(dir.path(), None, many, &[]).unwrap();
    let mut signed = by_number.follow();
    let before = signed.borrow_and_update().checkpoint.size;
    grow(&store, 0, 5).await;
    signed.changed().await.unwrap();
    assert_eq!(signed.borrow().checkpoint.size, before + 5);
    drop(by_number);
    let soon = Pace { every: Duration::from_millis(1), records: u64::MAX };
    let by_time = store.notary(dir.path(), None, soon, &[]).unwrap();
    let mut signed = by_time.follow();
    signed.mark_unchanged();
    grow(&store, 5, 1).await;
    signed.changed().await.unwrap();
    assert_eq!(signed.borrow().checkpoint.size, before + 6);
}

#[tokio::test]
async fn an_audit_that_was_rolled_back_is_not_continued() {
    let dir = tempdir().unwrap();
    let older = tempdir().unwrap();
    let store = begun(dir.path(), 10).await;
    drop(notary(&store, dir.path()).unwrap());
    store.close();
    drop(store);
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
        }
    };
    copy(&dir.path().join("audit"), &older.path().join("audit"));
    let anchored = {
        let store = open(dir.path());
        grow(&store, 10, 10).await;
        let notary = notary(&store, dir.path()).unwrap();
        let current = notary.current().await.unwrap();
        assert_eq!(current.checkpoint.size, 21);
        current.note.clone()
    };
    // Only the records: the last checkpoint tells of it, also if the records go on from there in another way.
    fs::remove_dir_all(dir.path().join("audit")).unwrap();
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    copy(&older.path().join("audit"), &dir.path().join("audit"));
    let why = refused(dir.path());
    assert!(why.contains("is a checkpoint of 21 records, and there are only 11") && why.contains("Restore"), "{why}");
    let store = open(dir.path());
    grow(&store, 100, 15).await;
    let why = notary(&store, dir.path()).err().expect("another history").message;
    assert!(why.contains("is a checkpoint of 21 records, and its root is another"), "{why}");
    drop(store);
    // All of it, the last checkpoint too: only what was anchored elsewhere tells of it.
    fs::remove_file(dir.path().join("audit.checkpoint")).unwrap();
    fs::remove_file(dir.path().join("audit.pub")).unwrap();
    let store = open(dir.path());
    let why = store.notary(dir.path(), None, ASKED, &[("anchor".to_owned(), anchored)]).err().unwrap().message;
    assert!(why.contains("anchor is a checkpoint of 21 records, and its root is another"), "{why}");
}

#[tokio::test]
async fn a_record_that_was_changed_is_found_by_whoever_hashes_it_again() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 3).await;
    drop(notary(&store, dir.path()).unwrap());
    drop(store);
    fs::remove_dir_all(dir.path().join("audit/tree")).unwrap();
    let path = dir.path().join("audit/00000000000000000000.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"length\":10", "\"length\":11", 1)).unwrap();
    assert!(refused(dir.path()).contains("its root is another"));
    fs::write(&path, text).unwrap();
    notary(&open(dir.path()), dir.path()).unwrap();
}

#[tokio::test]
async fn hashes_that_are_damaged_or_gone_are_made_anew_or_prove_nothing() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 700).await;
    let before = notary(&store, dir.path()).unwrap().current().await.unwrap();
    let flip = |file: &str, at: usize| {
        let path = dir.path().join("audit/tree").join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    for (file, at) in [("1", 40), ("0", 690 * 32), ("0.mark", 3)] {
        flip(file, at);
        let notary = notary(&store, dir.path()).unwrap();
        assert_eq!(notary.current().await.unwrap().checkpoint, before.checkpoint, "{file}");
        notary.inclusion(300, 701).unwrap();
    }
    // In a tile that a start does not look at.
    flip("0", 300 * 32);
    let damaged = notary(&store, dir.path()).unwrap();
    assert!(matches!(damaged.inclusion(301, 701), Err(NoProof::Failed(why)) if why.message.contains("made anew")));
    damaged.inclusion(3, 701).unwrap();
    drop(damaged);
    fs::remove_dir_all(dir.path().join("audit/tree")).unwrap();
    notary(&store, dir.path()).unwrap().inclusion(301, 701).unwrap();
}

#[tokio::test]
async fn a_new_key_of_the_same_name_goes_on_and_the_old_one_stays_known() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 3).await;
    let first = notary(&store, dir.path()).unwrap();
    let (old, before) = (keys(&first), first.current().await.unwrap());
    drop(first);
    let name = old[0].name().to_owned();
    let (new, text) = SigningKey::generate(|_| name).unwrap();
    let rotated = store.notary(dir.path(), Some(text), ASKED, &[]).unwrap();
    assert_eq!(keys(&rotated), [old[0].clone(), new.public().clone()]);
    let after = rotated.current().await.unwrap();
    assert_eq!(after.checkpoint, before.checkpoint);
    assert!(Signed::open(&after.note, &[new.public().clone()]).is_ok(), "signed anew");
    let (_, other) = SigningKey::generate(|_| "other".to_owned()).unwrap();
    let why = store.notary(dir.path(), Some(other), ASKED, &[]).err().unwrap().message;
    assert!(why.contains("a log keeps its name"), "{why}");
}

#[tokio::test]
async fn a_key_is_made_once_for_its_owner_alone_and_a_missing_checkpoint_is_not_made_up() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 3).await;
    let known = notary(&store, dir.path()).unwrap().keys();
    let file = |name: &str| dir.path().join(name);
    assert_eq!(fs::metadata(file("audit.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(file("audit.pub")).unwrap(), known);
    assert_eq!(notary(&store, dir.path()).unwrap().keys(), known);
    let private = fs::read(file("audit.key")).unwrap();
    fs::remove_file(file("audit.key")).unwrap();
    let why = notary(&store, dir.path()).err().unwrap().message;
    assert!(why.contains("audit.key is missing") && !file("audit.key").exists(), "{why}");
    fs::write(file("audit.key"), private).unwrap();
    fs::remove_file(file("audit.checkpoint")).unwrap();
    let why = notary(&store, dir.path()).err().unwrap().message;
    assert!(why.contains("audit.checkpoint is missing"), "{why}");
    fs::write(file("audit.checkpoint"), "log\n1\nAAAA\n").unwrap();
    let why = notary(&store, dir.path()).err().unwrap().message;
    assert!(why.contains("is not to be trusted"), "{why}");
}

#[tokio::test]
async fn claims_are_compared_also_when_no_hash_can_be_written() {
    let dir = tempdir().unwrap();
    let store = begun(dir.path(), 20).await;
    let signed = notary(&store, dir.path()).unwrap().current().await.unwrap();
    let claim = |size, root| vec![Claim { place: "elsewhere".to_owned(), size, root }];
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    assert!(broken_later(Edge::default(), &store.audit, &claim(size, root)).unwrap().is_none());
    assert!(broken_later(Edge::default(), &store.audit, &claim(size - 1, root)).unwrap().is_some());
    assert!(broken_later(Edge::default(), &store.audit, &claim(size + 1, root)).is_err());
}

/// What the tree and its signatures cost, in turns within one run:
/// `cargo test --release -p hms-sync --lib -- --ignored --nocapture what_the_tree_costs`
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn what_the_tree_costs() {
    const TARGETS: u64 = 16;
    const COMMITS: u64 = 400;
    let names: Vec<String> = (0..TARGETS).map(|n| format!("t{n}")).collect();
    let mut took = [Duration::ZERO; 2];
    for round in 0..10 {
        let with = round % 2 == 1;
        let dir = tempdir().unwrap();
        let store = Store::open(dir.path(), crate::store::tests::clock()).unwrap();
        store.recipe_changed(applied(1, &names.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
        let notary = with.then(|| store.notary(dir.path(), None, Pace::default(), &[]).unwrap());
        let began = Instant::now();
        let all = names.iter().map(|name| async {
            let epoch = Ledger::open(&*store, &key(name)).await.unwrap().epoch;
            for first in (0..COMMITS * 8).step_by(8) {
                let entries = (first..first + 8).map(delivered).collect();
                store.commit(&key(name), epoch, entries).await.unwrap();
            }
        });
        futures_util::future::join_all(all).await;
        took[usize::from(with)] += began.elapsed();
        drop(notary);
    }
    let records = (TARGETS * COMMITS * 8 * 5) as f64;
    let rate = |took: Duration| records / took.as_secs_f64();
    let [without, with] = took.map(rate);
    println!("{without:.0} records/s without, {with:.0} with: {:.1} % less", 100.0 * (1.0 - with / without));
}
