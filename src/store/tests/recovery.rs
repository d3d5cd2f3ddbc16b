//! After kill -9 and power loss: what is rebuilt is what was.

use std::fs;

use hms_actors::work::{Unit, Work};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

/// Something that happens to `r.sync`.
#[derive(Debug, Clone)]
enum Step {
    Commit(usize, Vec<Offset>),
    Dead(usize, Offset),
    Ticket(usize, bool),
    Resolve(u64),
    Apply(Vec<bool>),
    Rename,
    Pause(bool),
    Delete,
    SaveCache,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, vec(0..30u64, 1..6)).prop_map(|(t, offsets)| Step::Commit(t, offsets)),
        2 => (0..3usize, 0..30u64).prop_map(|(t, offset)| Step::Dead(t, offset)),
        2 => (0..3usize, any::<bool>()).prop_map(|(t, doubt)| Step::Ticket(t, doubt)),
        1 => (1..6u64).prop_map(Step::Resolve),
        1 => vec(any::<bool>(), 3).prop_map(Step::Apply),
        1 => Just(Step::Rename),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Delete),
        2 => Just(Step::SaveCache),
    ]
}

/// Does the step; what is refused as things stand is no step.
async fn take(store: &Store, step: Step) {
    let revision = store.next_revision(&recipe_id("r.sync"));
    let _ = match step {
        Step::Commit(t, offsets) => commit(store, t, offsets.into_iter().map(delivered).collect()).await,
        Step::Dead(t, offset) => commit(store, t, vec![dead(offset)]).await,
        Step::Ticket(t, doubt) => {
            commit(store, t, vec![ticket(if doubt { Cause::Doubt } else { Cause::Outage }, 1)]).await
        }
        Step::Resolve(number) => store.resolve_ticket(number, "resolve", "ops", None).await,
        Step::Apply(which) => {
            let targets: Vec<&str> = NAMES.iter().zip(which).filter(|(_, on)| *on).map(|(name, _)| *name).collect();
            store.recipe_changed(applied(revision, &targets)).await
        }
        Step::Rename => store.recipe_changed(applied(revision, &["b<a", "c<b"])).await,
        Step::Pause(true) => store.recipe_changed(change(Change::Paused)).await,
        Step::Pause(false) => store.recipe_changed(change(Change::Resumed)).await,
        Step::Delete => store.recipe_changed(change(Change::Deleted)).await,
        Step::SaveCache => {
            store.flush_cache();
            Ok(())
        }
    };
}

async fn commit(store: &Store, target: usize, entries: Vec<Entry>) -> Result<(), Failure> {
    let key = key(NAMES[target]);
    let epoch = Ledger::open(store, &key).await?.epoch;
    store.commit(&key, epoch, entries).await.map(drop)
}

/// A copy of the directory as it is at this moment: what another process would find after kill -9.
fn killed(data: &Path, to: &Path, with_cache: bool) {
    for folder in ["audit", "work", "state"].into_iter().filter(|&f| with_cache || f != "state") {
        copy_folder(&data.join(folder), &to.join(folder));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn assert_same(rebuilt: &Store, was: &State) {
    let now = facts(rebuilt);
    assert_eq!(now.counters, was.counters);
    assert_eq!(now.recipes, was.recipes);
    assert_eq!(now.targets, was.targets);
    assert_eq!(now.tickets, was.tickets);
    assert_eq!(now.open, was.open);
    assert_eq!(now.letters, was.letters);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_rebuilt_state_is_the_live_state_with_and_without_the_cache(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempdir().unwrap();
        let data = dir.path().join("live");
        let store = open(&data);
        runtime.block_on(async {
            store.recipe_changed(applied(1, &["a", "b"])).await.unwrap();
            for step in steps {
                take(&store, step).await;
            }
        });
        let was = facts(&store);
        for with_cache in [true, false] {
            let copy = dir.path().join(format!("copy-{with_cache}"));
            killed(&data, &copy, with_cache);
            assert_same(&open(&copy), &was);
        }
        store.close();
        drop(store);
        assert_same(&open(&data), &was);
    }
}

#[tokio::test]
async fn a_stale_cache_is_rolled_forward_also_above_a_gap() {
    let dir = tempdir().unwrap();
    let (data, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let store = open(&data);
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    commit(&store, 0, vec![delivered(0), delivered(5)]).await.unwrap();
    store.set_frontier(&recipe_id("r.sync"), 17);
    store.flush_cache();
    commit(&store, 0, vec![delivered(1), delivered(9), delivered(6)]).await.unwrap();
    killed(&data, &copy, true);
    let store = open(&copy);
    let settled = store.settled(&key("a")).unwrap();
    assert_eq!(settled.below(), 2);
    assert!([5, 6, 9].into_iter().all(|offset| settled.contains(offset)) && !settled.contains(7));
    assert_eq!(store.frontier(&recipe_id("r.sync")), Some(17));
}

#[tokio::test]
async fn a_cache_whose_lock_is_held_for_another_moment_is_waited_for() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["a"]).await;
    store.set_frontier(&recipe_id("r.sync"), 17);
    store.close();
    drop(store);
    let held = File::open(dir.path().join("state/db")).unwrap();
    // The threads of the database may still have it.
    while held.try_lock().is_err() {
        std::thread::yield_now();
    }
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
    });
    let store = open(dir.path());
    letting_go.join().unwrap();
    assert_eq!(store.frontier(&recipe_id("r.sync")), Some(17), "only the cache knows of it");
}

#[tokio::test]
async fn begun_work_survives_and_work_of_targets_that_are_gone_does_not() {
    let dir = tempdir().unwrap();
    let work = Work::Requests(vec![Unit { revision: 1, offsets: [1, 2].into(), letter: None, seal: 0 }]);
    let store = open(dir.path());
    store.recipe_changed(applied(1, &["a", "b"])).await.unwrap();
    for name in ["a", "b"] {
        let epoch = Ledger::open(&*store, &key(name)).await.unwrap().epoch;
        store.begin(&key(name), epoch, work.clone()).await.unwrap();
    }
    store.recipe_changed(applied(2, &["b"])).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.work(&key("b")).await.unwrap(), Some(work));
    store.close();
    let kept = Keyed::open(&dir.path().join("work/begun.log"), 1, Health::default()).unwrap();
    assert_eq!(kept.keys().count(), 1);
}

#[tokio::test]
async fn a_name_is_kept_once_also_after_a_start_from_the_cache() {
    let dir = tempdir().unwrap();
    drop(with_targets(dir.path(), &["crews", "gis"]).await);
    let store = open(dir.path());
    let state = store.core.state();
    assert_eq!(state.targets.len(), 2);
    for TargetKey { recipe, target } in state.targets.keys() {
        let (id, stored) = state.recipes.get_key_value(recipe).unwrap();
        let name = stored.targets.keys().find(|name| *name == target).unwrap();
        let kept = [recipe.as_str(), target.as_str(), stored.id.as_str()].map(str::as_ptr);
        assert_eq!(kept, [id.as_str(), name.as_str(), id.as_str()].map(str::as_ptr));
    }
}

#[tokio::test]
async fn a_damaged_cache_is_moved_aside_and_rebuilt() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    commit(&store, 0, vec![delivered(0), ticket(Cause::Outage, 1)]).await.unwrap();
    let was = facts(&store);
    drop(store);
    let damages: [fn(&Path); 4] = [
        |state| fs::write(state.join("conf"), [0xa5; 20]).unwrap(),
        // sled reads over this one and finds an empty database.
        |state| fs::write(state.join("db"), [0xa5; 9000]).unwrap(),
        |state| forget_a_row(state),
        |state| drop(sled::open(state).unwrap().insert(b"{\"ticket\":1}\0\0\0", b"{}").unwrap()),
    ];
    let mut aside = 0;
    for damage in damages {
        damage(&dir.path().join("state"));
        assert_same(&open(dir.path()), &was);
        for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("state.damaged-") {
                fs::remove_dir_all(entry.path()).unwrap();
                aside += 1;
            }
        }
    }
    assert_eq!(aside, 3);
    assert_same(&open(dir.path()), &was);
}

/// What a file system may do to a file that sled then recovers from.
fn forget_a_row(state: &Path) {
    let db = sled::open(state).unwrap();
    let (row, _) = db.scan_prefix(b"{\"target\"").next().unwrap().unwrap();
    db.remove(row).unwrap();
}

#[tokio::test]
async fn a_cache_that_knows_more_than_the_audit_is_not_believed() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("audit")).unwrap();
    assert!(open(dir.path()).recipes().is_empty());
}

#[tokio::test]
async fn values_over_16_kib_are_cut_into_pieces_and_shrink_again() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let mut change = applied(1, &["a"]);
    if let Change::Applied(applied) = &mut change.change {
        applied.text = "# long\n".repeat(9000);
    }
    store.recipe_changed(change).await.unwrap();
    commit(&store, 0, (1..4000).filter(|o| o % 2 == 1).map(delivered).collect()).await.unwrap();
    let gaps = facts(&store);
    drop(store);
    let db = sled::open(dir.path().join("state")).unwrap();
    assert!(db.iter().values().all(|value| value.unwrap().len() < 16 << 10));
    drop(db);
    let store = open(dir.path());
    assert_same(&store, &gaps);
    commit(&store, 0, (0..4000).map(delivered).collect()).await.unwrap();
    drop(store);
    assert_eq!(open(dir.path()).settled(&key("a")).unwrap(), hms_actors::settled::Settled::starting_at(4000));
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_cache_stays_where_it_is() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let refused = try_open(dir.path()).map(drop).unwrap_err();
    assert!(refused.message.contains("in use by another process"), "{refused}");
    assert!(dir.path().join("state").exists());
    drop(store);
    open(dir.path());
}
