//! The two journals on their own: torn tails at every byte, damage, segments, compaction.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;
use crate::mark;
use crate::store::audit::Journal;
use crate::store::group::Log;
use crate::store::keyed::{Job, Value};

fn line(seq: u64) -> Vec<u8> {
    format!("{{\"pad\":\"{}\",\"seq\":{seq}}}\n", "x".repeat((seq % 50) as usize)).into_bytes()
}

fn journal(dir: &Path) -> Result<Journal, Failure> {
    Journal::open(dir, 10_000, Health::default())
}

fn keyed(path: &Path) -> Result<Keyed, Failure> {
    Keyed::open(path, 1000, Health::default())
}

fn put(journal: &mut Keyed, key: u64, value: &[u8]) {
    let values = vec![(key, value.to_vec().into())];
    journal.commit(vec![Job::Put { values, guard: None }]).remove(0).unwrap();
    journal.tidy();
}

#[test]
fn a_torn_tail_of_the_audit_is_cut_at_every_byte_and_the_rest_is_kept() {
    let dir = tempdir().unwrap();
    let path = audit::segment_path(dir.path(), 0);
    let whole: Vec<u8> = (0..4).flat_map(line).collect();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        mark::remove(&path); // as if none of it had been synced
        let mut journal = journal(dir.path()).unwrap();
        let kept = whole[..length].iter().filter(|&&b| b == b'\n').count() as u64;
        assert_eq!(journal.reader().size(), kept, "cut at {length}");
        journal.append(&line(kept)).unwrap();
        let lines = journal.reader().read(0, 99).unwrap();
        let expected: Vec<u8> = (0..=kept).flat_map(line).collect();
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert_eq!(lines.iter().flat_map(|(_, l)| [l, &b"\n"[..]].concat()).collect::<Vec<u8>>(), expected);
    }
}

#[test]
fn a_last_line_that_is_no_json_is_cut_though_it_has_its_end() {
    let dir = tempdir().unwrap();
    let path = audit::segment_path(dir.path(), 0);
    fs::write(&path, [&line(0)[..], b"\0\0\0\0\n"].concat()).unwrap();
    assert_eq!(journal(dir.path()).unwrap().reader().size(), 1);
}

#[test]
fn damage_in_the_middle_refuses_to_start_and_names_file_and_line() {
    let dir = tempdir().unwrap();
    let path = audit::segment_path(dir.path(), 0);
    fs::write(&path, [line(0), b"{\"seq\"".to_vec(), line(1), line(2)].concat()).unwrap();
    let refused = journal(dir.path()).map(drop).unwrap_err().message;
    assert!(refused.contains("00000000000000000000.ndjson is damaged at line 2"), "{refused}");
    assert!(refused.contains(&format!("truncate -s {}", line(0).len())), "{refused}");
    fs::write(&path, [line(0), line(2), line(3)].concat()).unwrap();
    assert!(journal(dir.path()).map(drop).unwrap_err().message.contains("seq is 2, expected 1"));
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_found_when_it_is_needed() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    store.recipe_changed(applied(1, &["a"])).await.unwrap();
    let epoch = Ledger::open(&*store, &key("a")).await.unwrap().epoch;
    for offset in 0..20 {
        store.commit(&key("a"), epoch, vec![delivered(offset)]).await.unwrap();
    }
    drop(store);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let path = audit::segment_path(&dir.path().join("audit"), 0);
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
    let mut bad = whole.clone();
    bad[second] = b'!';
    fs::write(&path, &bad).unwrap();
    let refused = try_open(dir.path()).map(drop).unwrap_err().message;
    assert!(refused.contains("damaged at line 2: not a record"), "{refused}");
    fs::write(&path, &whole[..second]).unwrap();
    let refused = try_open(dir.path()).map(drop).unwrap_err().message;
    assert!(refused.contains("it has 1 records, but the next file begins with"), "{refused}");
    fs::remove_file(&path).unwrap();
    assert!(try_open(dir.path()).map(drop).unwrap_err().message.contains("has no record 0"));
}

#[test]
fn any_record_of_many_segments_is_found_also_after_a_restart() {
    let dir = tempdir().unwrap();
    let mut writer = journal(dir.path()).unwrap();
    for group in (0..2000u64).collect::<Vec<_>>().chunks(7) {
        writer.append(&group.iter().flat_map(|&seq| line(seq)).collect::<Vec<u8>>()).unwrap();
    }
    assert!(fs::read_dir(dir.path()).unwrap().count() > 5);
    let after = journal(dir.path()).unwrap();
    for reader in [writer.reader(), after.reader()] {
        assert_eq!(reader.size(), 2000);
        for from in (0..2010).step_by(61) {
            let lines = reader.read(from, 300).unwrap();
            assert_eq!(lines.len() as u64, 300.min(2000u64.saturating_sub(from)));
            for (i, (seq, bytes)) in lines.iter().enumerate() {
                assert_eq!(*seq, from + i as u64);
                assert_eq!([bytes, &b"\n"[..]].concat(), line(*seq));
            }
        }
    }
}

#[test]
fn a_torn_tail_of_a_keyed_journal_is_cut_at_every_byte_and_the_rest_is_kept() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("k.log");
    let mut ends = vec![0];
    for key in 1..4 {
        put(&mut keyed(&path).unwrap(), key, &[key as u8; 20]);
        ends.push(fs::metadata(&path).unwrap().len());
    }
    let whole = fs::read(&path).unwrap();
    for (length, room) in (0..=whole.len()).flat_map(|length| [(length, 0), (length, 100)]) {
        fs::write(&path, [&whole[..length], &vec![0; room]].concat()).unwrap();
        mark::remove(&path); // as if none of it had been synced
        let kept = ends.iter().filter(|&&end| end > 0 && end <= length as u64).count();
        assert_eq!(keyed(&path).unwrap().keys().count(), kept, "cut at {length}");
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[kept]);
    }
}

/// What a kill leaves.
fn as_it_is(path: &Path) -> tempfile::TempDir {
    let copy = tempdir().unwrap();
    for path in [path, &mark::path_of(path)] {
        fs::copy(path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn a_small_value_finds_room_that_is_there_and_the_room_is_no_torn_end() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("k.log");
    let mut journal = keyed(&path).unwrap();
    put(&mut journal, 1, &[1; 50]);
    let length = || fs::metadata(&path).unwrap().len();
    let with_room = length();
    assert!(with_room > 10_000, "{with_room}");
    put(&mut journal, 2, &[2; 50]);
    assert_eq!(length(), with_room);
    let killed = as_it_is(&path);
    let after = keyed(&killed.path().join("k.log")).unwrap();
    assert_eq!(after.keys().collect::<Vec<_>>(), [1, 2]);
    // A large one makes the file longer by itself, and a small one after it finds room again.
    let large = vec![3; with_room as usize];
    put(&mut journal, 3, &large);
    assert_eq!(length(), 2 * 79 + 29 + with_room);
    put(&mut journal, 4, &[4; 50]);
    assert!(length() > 10_000 + with_room);
    assert_eq!(journal.get(3).unwrap().unwrap(), large);
    drop(journal);
    assert_eq!(length(), 3 * 79 + 29 + with_room, "a journal that is closed ends where its content does");
}

#[test]
fn values_whose_bulk_is_shared_stand_in_the_file_as_if_they_were_in_one_piece() {
    let dir = tempdir().unwrap();
    let bulks = [0, 1, 70_000, 65_535, 65_536, 3];
    let value = |n: usize| Value { head: vec![n as u8; n], bulk: vec![0x40 + n as u8; bulks[n]].into() };
    let files = [false, true].map(|in_one| {
        let path = dir.path().join(format!("{in_one}.log"));
        let mut journal = keyed(&path).unwrap();
        let whole = |value: Value| Vec::from(value).into();
        let put = |n: usize| {
            let values = vec![(n as u64, if in_one { whole(value(n)) } else { value(n) })];
            Job::Put { values, guard: None }
        };
        let jobs = (0..6).map(put).chain([Job::Remove(vec![1]), put(0)]).collect();
        assert!(journal.commit(jobs).iter().all(Result::is_ok));
        let read = |journal: &Keyed| (0..6).map(|n| journal.get(n as u64).unwrap()).collect::<Vec<_>>();
        let expected: Vec<_> = (0..6).map(|n| (n != 1).then(|| Vec::from(value(n)))).collect();
        assert_eq!(read(&journal), expected);
        assert_eq!(read(&keyed(&path).unwrap()), expected);
        fs::read(path).unwrap()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn a_hole_in_the_last_group_is_torn_and_a_hole_before_it_is_damage() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("k.log");
    put(&mut keyed(&path).unwrap(), 1, &[1; 50]);
    let first_end = fs::metadata(&path).unwrap().len() as usize;
    let mut journal = keyed(&path).unwrap();
    let values = vec![(2, vec![2; 50].into()), (3, vec![3; 50].into())];
    journal.commit(vec![Job::Put { values, guard: None }]).remove(0).unwrap();
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let mut torn = whole.clone();
    // The second group's first page never reached the disk, its second did: nobody was promised it.
    torn[first_end..first_end + 60].fill(0);
    fs::write(&path, &torn).unwrap();
    mark::remove(&path); // the sync had not come back
    assert_eq!(keyed(&path).unwrap().keys().collect::<Vec<_>>(), [1]);
    let mut damaged = whole;
    damaged[40] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let refused = keyed(&path).map(drop).unwrap_err().message;
    assert!(refused.contains("k.log is damaged at byte 0"), "{refused}");
}

#[test]
fn the_last_bytes_of_what_was_synced_are_missed_until_a_human_lets_go_of_them() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("k.log");
    let mut journal = keyed(&path).unwrap();
    put(&mut journal, 1, &[1; 50]);
    put(&mut journal, 2, &[2; 50]);
    drop(journal);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() - 5] ^= 1;
    for bad in [&whole[..whole.len() - 1], &whole[..79], &[], &flipped] {
        fs::write(&path, bad).unwrap();
        let refused = keyed(&path).map(drop).unwrap_err().message;
        assert!(refused.contains("158 bytes of it were on disk to stay"), "{refused}");
        assert!(refused.contains(&format!("rm {}.mark", path.display())), "{refused}");
        // Put back from a backup it is as it was.
        fs::write(&path, &whole).unwrap();
        assert_eq!(keyed(&path).unwrap().keys().count(), 2);
    }
    fs::write(&path, &whole[..79]).unwrap();
    mark::remove(&path);
    assert_eq!(keyed(&path).unwrap().keys().collect::<Vec<_>>(), [1]);
    keyed(&path).unwrap();
}

#[test]
fn an_audit_that_lost_its_last_lines_or_its_last_file_refuses_to_start() {
    let dir = tempdir().unwrap();
    let mut writer = journal(dir.path()).unwrap();
    let path = audit::segment_path(dir.path(), 0);
    (0..3).for_each(|seq| writer.append(&line(seq)).unwrap());
    drop(writer);
    let whole = fs::read(&path).unwrap();
    for bad in [&whole[..whole.len() - 1], &whole[..whole.len() - line(2).len()]] {
        fs::write(&path, bad).unwrap();
        let refused = journal(dir.path()).map(drop).unwrap_err().message;
        assert!(refused.contains("were on disk to stay") && refused.contains("rm "), "{refused}");
    }
    fs::remove_file(&path).unwrap();
    let refused = journal(dir.path()).map(drop).unwrap_err().message;
    assert!(refused.contains(&format!("{} is missing", path.display())), "{refused}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(journal(dir.path()).unwrap().reader().size(), 3);
}

#[test]
fn garbage_is_rewritten_away_and_an_unfinished_rewrite_does_no_harm() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("k.log");
    let mut journal = keyed(&path).unwrap();
    for round in 0..500u32 {
        put(&mut journal, u64::from(round % 3), &round.to_le_bytes().repeat(10));
    }
    drop(journal);
    assert!(fs::metadata(&path).unwrap().len() < 2000);
    fs::write(path.with_extension("new"), b"half").unwrap();
    let journal = keyed(&path).unwrap();
    assert!(!path.with_extension("new").exists());
    assert_eq!(journal.get(1).unwrap().unwrap(), 499u32.to_le_bytes().repeat(10));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, Vec<u8>),
    Remove(u64),
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_keyed_journal_agrees_with_a_map(steps in vec(prop_oneof![
        5 => (0..4u64, vec(any::<u8>(), 0..300)).prop_map(|(key, value)| Step::Put(key, value)),
        1 => (0..4u64).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ], 0..60)) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("k.log");
        let mut journal = keyed(&path).unwrap();
        let mut map = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    put(&mut journal, key, &value);
                    map.insert(key, value);
                }
                Step::Remove(key) => {
                    journal.commit(vec![Job::Remove(vec![key])]).remove(0).unwrap();
                    map.remove(&key);
                }
                Step::Reopen => journal = keyed(&path).unwrap(),
            }
            for key in 0..4 {
                prop_assert_eq!(journal.get(key).unwrap(), map.get(&key).cloned());
            }
        }
    }
}
