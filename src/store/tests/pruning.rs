//! Records that are moved out: what stays of them, what a start makes of it, and what is refused.

use std::collections::BTreeSet;
use std::fs;

use tempfile::tempdir;

use super::*;
use crate::proof::tree::{extends, includes, leaf};
use crate::proof::{Checkpoint, Hash};

/// So slow that only those who ask get a checkpoint.
const ASKED: Pace = Pace { every: Duration::from_secs(3600), records: u64::MAX };

fn notary(store: &Store, data: &Path) -> Arc<Notary> {
    store.notary(data, None, ASKED, &[]).unwrap()
}

/// A store with a dead letter, an open ticket and deliveries: small files, so that there are several.
async fn grown(data: &Path) -> Arc<Store> {
    let store = with_targets(data, &["a", "b"]).await;
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    store.commit(&key("a"), epoch, vec![dead(0), opened(Cause::Refused)]).await.unwrap();
    for offset in 1..40 {
        store.commit(&key("a"), epoch, vec![failed(offset), delivered(offset)]).await.unwrap();
    }
    store
}

fn opened(cause: Cause) -> Entry {
    let (last_error, reason) = ("no".to_owned(), "refused".to_owned());
    Entry::TicketOpened { cause, attempts: 3, backlog: 7, last_error, reason }
}

/// All that follows from the records.
fn rows(store: &Store) -> BTreeSet<(String, Vec<u8>)> {
    let state = store.core.state();
    state.rows().map(|row| (format!("{row:?}"), state.row(&row).unwrap())).collect()
}

fn prune(store: &Store, notary: &Notary, before: u64, anchored: &Checkpoint) -> Result<Pruned, Failure> {
    std::thread::scope(|scope| scope.spawn(|| store.prune(before, anchored, notary, "ops")).join().unwrap())
}

async fn anchored(notary: &Notary) -> Checkpoint {
    notary.current().await.unwrap().checkpoint.clone()
}

fn all_leaves(store: &Store) -> Vec<Hash> {
    store.read_lines(0, usize::MAX).unwrap().iter().map(|(_, line)| leaf(line)).collect()
}

#[tokio::test]
async fn what_was_moved_out_is_proved_as_before_and_what_followed_from_it_is_known_without_the_cache() {
    for before in [1, 17, 40, 63, 81] {
        let dir = tempdir().unwrap();
        let store = grown(dir.path()).await;
        let old = notary(&store, dir.path());
        let checkpoint = anchored(&old).await;
        let (leaves, known) = (all_leaves(&store), rows(&store));
        assert_eq!(leaves.len(), 81);
        assert_eq!(prune(&store, &old, before, &checkpoint).unwrap(), Pruned { first: before, moved: before });
        assert_eq!(store.audit_first(), before);
        assert!(store.read_lines(before - 1, 1).unwrap().is_empty());
        assert_eq!(store.read_lines(before, 1).unwrap()[0].0, before);
        drop(old);
        store.close();
        drop(store);

        fs::remove_dir_all(dir.path().join("state")).unwrap();
        let store = open(dir.path());
        assert_eq!(store.audit_first(), before);
        let notary = notary(&store, dir.path());
        let signed = anchored(&notary).await;
        assert_eq!(signed.size, 82, "one record says that it was done");
        for (seq, leaf) in (0..).zip(&leaves) {
            assert!(includes(*leaf, seq, 82, &notary.inclusion(seq, 82).unwrap(), &signed.root), "{seq}");
        }
        let shown = notary.consistency(checkpoint.size, 82).unwrap();
        assert!(extends((checkpoint.size, &checkpoint.root), (82, &signed.root), &shown));
        let without_counters = |rows: BTreeSet<(String, Vec<u8>)>| {
            rows.into_iter().filter(|(name, _)| name != "Counters").collect::<Vec<_>>()
        };
        assert_eq!(without_counters(rows(&store)), without_counters(known), "before {before}");
        assert_eq!(store.next_revision(&recipe_id("r.sync")), 2);
        assert_eq!(prune(&store, &notary, before, &signed).unwrap(), Pruned { first: before, moved: 0 });
    }
}

#[tokio::test]
async fn it_is_done_again_and_again_and_each_time_goes_on_from_the_snapshot_before() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let first = notary(&store, dir.path());
    let known = rows(&store);
    let checkpoint = anchored(&first).await;
    for before in [5, 6, 50, 80] {
        prune(&store, &first, before, &checkpoint).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("audit")).unwrap().filter(|e| name(e).ends_with(".snapshot")).count(), 1);
    drop(first);
    store.close();
    drop(store);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let store = open(dir.path());
    let same = |(name, _): &&(String, Vec<u8>)| name != "Counters";
    let now = rows(&store);
    assert_eq!(now.iter().filter(same).collect::<Vec<_>>(), known.iter().filter(same).collect::<Vec<_>>());
}

fn name(entry: &std::io::Result<fs::DirEntry>) -> String {
    entry.as_ref().unwrap().file_name().into_string().unwrap()
}

#[tokio::test]
async fn records_that_are_not_anchored_or_not_those_that_were_stay() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let notary = notary(&store, dir.path());
    let checkpoint = anchored(&notary).await;
    let shorter = Checkpoint { size: 10, ..checkpoint.clone() };
    let why = prune(&store, &notary, 11, &shorter).unwrap_err();
    assert!(why.kind == FailureKind::Refused && why.message.contains("of 10 records only"), "{why}");
    let other = Checkpoint { root: [7; 32], ..checkpoint.clone() };
    let why = prune(&store, &notary, 11, &other).unwrap_err().message;
    assert!(why.contains("are not those that were anchored: nothing was moved out"), "{why}");
    // A record that was changed on the disk since.
    let path = dir.path().join("audit/00000000000000000000.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("connection refused", "connection refuseD", 1)).unwrap();
    let why = prune(&store, &notary, 11, &checkpoint).unwrap_err().message;
    assert!(why.contains("that of record"), "{why}");
    fs::write(&path, text).unwrap();
    assert_eq!(store.audit_first(), 0);
    prune(&store, &notary, 11, &checkpoint).unwrap();
}

#[tokio::test]
async fn what_can_not_be_prepared_leaves_nothing_behind_and_can_be_tried_again() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let notary = notary(&store, dir.path());
    let checkpoint = anchored(&notary).await;
    let (audit, size) = (dir.path().join("audit"), store.audit_size());
    // In the place of the rest of the file that is cut.
    let in_the_way = audit.join(format!("{:020}.ndjson.new", 11));
    fs::create_dir(&in_the_way).unwrap();
    prune(&store, &notary, 11, &checkpoint).unwrap_err();
    assert_eq!((store.audit_first(), store.audit_size()), (0, size), "nothing was recorded either");
    assert!(!copy_of(&audit).iter().any(|(name, _)| name.contains(".snapshot")));
    fs::remove_dir(&in_the_way).unwrap();
    let files = copy_of(&audit).iter().filter(|(name, _)| name.ends_with(".ndjson")).count();
    prune(&store, &notary, 11, &checkpoint).unwrap();
    let now = copy_of(&audit).iter().filter(|(name, _)| name.ends_with(".ndjson")).count();
    assert!(now <= files, "no file was begun for records that lie in a closed one");
}

#[tokio::test]
async fn a_snapshot_that_no_record_speaks_of_is_not_believed() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let signing = notary(&store, dir.path());
    let checkpoint = anchored(&signing).await;
    prune(&store, &signing, 40, &checkpoint).unwrap();
    drop(signing);
    store.close();
    drop(store);
    let path = snapshot::path(&dir.path().join("audit"), 40);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"letter\":2", "\"letter\":9", 1)).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), text);
    drop(try_open(dir.path()).expect("the cache is there, and the snapshot is not needed"));
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let why = try_open(dir.path()).err().unwrap().message;
    assert!(why.contains("is not the snapshot that was made") && why.contains("has its hash"), "{why}");
    fs::write(&path, text).unwrap();
    drop(try_open(dir.path()).unwrap());
    // A cache of before is none: the records that it lacks are gone.
    fs::remove_file(dir.path().join("audit").join(format!("{:020}.ndjson", 40))).unwrap();
    let why = try_open(dir.path()).err().unwrap().message;
    assert!(why.contains("is missing") && why.contains("oldest records that were kept"), "{why}");
}

#[tokio::test]
async fn hashes_that_are_lost_after_it_stop_proofs_and_nothing_else() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let signing = notary(&store, dir.path());
    let checkpoint = anchored(&signing).await;
    prune(&store, &signing, 40, &checkpoint).unwrap();
    drop(signing);
    let tree = dir.path().join("audit/tree");
    let aside = dir.path().join("tree.backup");
    fs::rename(&tree, &aside).unwrap();
    let signing = notary(&store, dir.path());
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    store.commit(&key("a"), epoch, vec![delivered(100)]).await.unwrap();
    let signed = anchored(&signing).await;
    assert_eq!(signed.size, 83);
    let why = Failure::from(signing.inclusion(50, 83).unwrap_err()).message;
    assert!(why.contains("from a backup") && why.contains("below 40 were moved out"), "{why}");
    drop(signing);
    fs::remove_dir_all(&tree).unwrap();
    fs::rename(&aside, &tree).unwrap();
    let signing = notary(&store, dir.path());
    assert_eq!(anchored(&signing).await, signed);
    signing.inclusion(3, 83).unwrap();
    let shown = signing.consistency(checkpoint.size, 83).unwrap();
    assert!(extends((checkpoint.size, &checkpoint.root), (83, &signed.root), &shown));
}

#[tokio::test]
async fn what_a_kill_interrupted_is_undone_before_it_was_decided_and_done_after() {
    let dir = tempdir().unwrap();
    let store = grown(dir.path()).await;
    let signing = notary(&store, dir.path());
    let checkpoint = anchored(&signing).await;
    store.close();
    drop((store, signing));
    let audit = dir.path().join("audit");
    let before = copy_of(&audit);
    let store = open(dir.path());
    let signing = notary(&store, dir.path());
    prune(&store, &signing, 40, &checkpoint).unwrap();
    store.close();
    drop((store, signing));
    let after = copy_of(&audit);
    let snapshot = format!("{:020}.snapshot", 40);
    let rest = format!("{:020}.ndjson", 40);
    let put = |files: &[(String, Vec<u8>)]| {
        for (name, bytes) in files {
            fs::write(audit.join(name), bytes).unwrap();
        }
    };
    let of = |name: &str| after.iter().find(|(known, _)| known == name).unwrap().1.clone();
    // The new segments are there in each case, as the record of it is in them.
    put(&before);
    fs::rename(audit.join(&rest), audit.join(format!("{rest}.new"))).unwrap();
    let whole = copy_of(&audit);
    drop(open(dir.path()));
    assert!(!copy_of(&audit).iter().any(|(name, _)| name.ends_with(".new")), "decided: the rest got its name");
    assert_eq!(copy_of(&audit).iter().find(|(name, _)| *name == rest).unwrap().1, of(&rest));
    assert!(!audit.join(format!("{:020}.ndjson", 0)).exists());
    // Not decided.
    put(&whole);
    fs::remove_file(audit.join(&rest)).unwrap();
    fs::rename(audit.join(&snapshot), audit.join(format!("{snapshot}.new"))).unwrap();
    let store = open(dir.path());
    assert_eq!(store.audit_first(), 0);
    assert_eq!(store.read_lines(0, usize::MAX).unwrap().len() as u64, store.audit_size());
    assert!(!copy_of(&audit).iter().any(|(name, _)| name.ends_with(".new") || name.ends_with(".snapshot")));
}

fn copy_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
    let mut files: Vec<_> = files.map(|entry| (name(&entry), fs::read(entry.unwrap().path()).unwrap())).collect();
    files.sort();
    files
}
