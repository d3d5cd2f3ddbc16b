//! What a kill, a power loss or a bad disk leaves, and what a start makes of it.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::feeds::{OpenError, frame};

/// A folder with one open segment: three requests for feed `a` of one event, one of three, one of two.
async fn five_requests(dir: &Path, hand: &Hand) -> Vec<Vec<NewEvent>> {
    let events = numbered(0..8);
    let requests = [0..1, 1..2, 2..3, 3..6, 6..8].map(|range| events[range].to_vec()).to_vec();
    let log = open(dir, roomy(hand));
    for request in &requests {
        log.publish(&name("a"), request.clone()).await.unwrap();
    }
    requests
}

fn roomy(hand: &Hand) -> Options {
    Options { segment_bytes: 1 << 20, ..hand.options() }
}

/// The folder's files elsewhere, with the last log changed.
fn copy_with(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let logs = files(dir, "log");
    for from in [logs.as_slice(), &files(dir, "idx"), &files(dir, "ids")].concat() {
        fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
    }
    let last = copy.path().join(logs.last().unwrap().file_name().unwrap());
    let mut bytes = fs::read(&last).unwrap();
    change(&mut bytes);
    fs::write(&last, bytes).unwrap();
    copy
}

fn damaged(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains(".damaged-")).collect()
}

/// Where the frames of the last log begin, and where the last ends.
fn frame_starts(dir: &Path) -> Vec<usize> {
    let bytes = fs::read(files(dir, "log").last().unwrap()).unwrap();
    let scan = frame::scan(&bytes, 1, frame::Tail::Synced);
    scan.frames.iter().map(|frame| frame.at).chain([bytes.len()]).collect()
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_whole_requests_and_takes_the_others_again() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let requests = five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    // The first frame holds the heads; it is synced before the file gets its name.
    for (cut, room) in (starts[1]..=starts[9]).flat_map(|cut| [(cut, 0), (cut, 100)]) {
        let copy = copy_with(dir.path(), |bytes| {
            bytes.truncate(cut);
            bytes.resize(cut + room, 0);
        });
        let log = open(copy.path(), roomy(&hand));
        let whole = [0, 1, 2, 3, 6, 8].into_iter().rfind(|&events| starts[events + 1] <= cut).unwrap() as u64;
        assert_eq!(offsets(&log, &name("a")).await, (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        for request in &requests {
            log.publish(&name("a"), request.clone()).await.unwrap();
        }
        drop(log);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(offsets(&log, &name("a")).await, (0..8).collect::<Vec<_>>(), "cut at {cut}");
        assert!(damaged(copy.path()).is_empty());
    }
}

#[tokio::test]
async fn a_killed_log_ends_in_room_and_a_sealed_or_closed_one_where_its_events_do() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    publish_each(&log, &name("a"), 0..60).await;
    let logs = files(dir.path(), "log");
    let content = |path: &PathBuf| frame::written(&fs::read(path).unwrap(), 0) as u64;
    let room = |path: &PathBuf| fs::metadata(path).unwrap().len() - content(path);
    let (last, sealed) = logs.split_last().unwrap();
    assert!(room(last) > 10_000 && sealed.len() > 1 && sealed.iter().all(|path| room(path) < 8));
    let killed = copy_with_marks(dir.path(), |_| {});
    drop(log);
    assert!(room(last) < 8);
    let log = open(killed.path(), hand.options());
    assert_eq!(offsets(&log, &name("a")).await, (0..60).collect::<Vec<_>>());
    assert!(log.missing(&name("a"), 0).is_empty() && damaged(killed.path()).is_empty());
}

#[tokio::test]
async fn room_ahead_is_nothing_that_was_lost() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    let mut bytes = fs::read(files(dir.path(), "log").last().unwrap()).unwrap();
    let content = bytes.len();
    bytes.resize(content + 5_000, 0);
    let mut cut = bytes.clone();
    cut[starts[8]..].fill(0);
    let mut scan = frame::scan(&cut, 1, frame::Tail::MayBeTorn);
    assert_eq!(scan.state, frame::Condition::Torn { end: starts[7] }, "with its last event a request is gone");
    scan.expect(&cut, 1, content as u64);
    assert_eq!(scan.state, frame::Condition::Damaged { bytes: content - starts[8] });
    bytes[starts[3] + 20] ^= 1;
    let damaged = frame::scan(&bytes, 1, frame::Tail::MayBeTorn).state;
    assert_eq!(damaged, frame::Condition::Damaged { bytes: starts[4] - starts[3] });
}

#[tokio::test]
async fn a_wrong_byte_in_the_last_group_is_a_torn_tail() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    for at in starts[7]..starts[9] {
        let copy = copy_with(dir.path(), |bytes| bytes[at] ^= 0x55);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(offsets(&log, &name("a")).await, (0..6).collect::<Vec<_>>(), "byte {at}");
        assert!(damaged(copy.path()).is_empty());
    }
}

#[tokio::test]
async fn a_wrong_byte_before_synced_frames_is_damage_set_aside_and_the_rest_is_kept() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    let original = fs::read(&files(dir.path(), "log")[0]).unwrap();
    for at in starts[2]..starts[3] {
        let copy = copy_with(dir.path(), |bytes| bytes[at] ^= 0x55);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(offsets(&log, &name("a")).await, [0, 2, 3, 4, 5, 6, 7], "byte {at}");
        let aside = damaged(copy.path());
        let mut expected = original.clone();
        expected[at] ^= 0x55;
        assert_eq!(fs::read(&aside[0]).unwrap(), expected, "the file is kept as it was found");
        let new = log.publish(&name("a"), vec![event("new", "{}")]).await.unwrap();
        assert!(new[0].offset > 8, "the lost event's offset may be in a receipt, whatever it was");
        drop(log);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(offsets(&log, &name("a")).await, [0, 2, 3, 4, 5, 6, 7, new[0].offset]);
        assert_eq!(damaged(copy.path()).len(), 1);
    }
}

/// The folder with its marks, as the disk has it, and with the last log changed.
fn copy_with_marks(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = copy_with(dir, change);
    for mark in files(dir, "mark") {
        fs::copy(&mark, copy.path().join(mark.file_name().unwrap())).unwrap();
    }
    copy
}

fn gap(offsets: std::ops::Range<Offset>) -> Vec<std::ops::Range<Offset>> {
    std::iter::once(offsets).collect()
}

#[tokio::test]
async fn the_end_of_what_was_synced_is_missed_and_its_offsets_are_lost_and_not_given_out_again() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let requests = five_requests(dir.path(), &hand).await;
    let (starts, feed) = (frame_starts(dir.path()), name("a"));
    // With its first event a feed loses its name: what else was in it is told of in the log only.
    for cut in starts[2]..starts[9] {
        let copy = copy_with_marks(dir.path(), |bytes| {
            bytes.truncate(cut);
            bytes.resize(cut + 5_000 * (cut % 2), 0); // room ahead is nothing that is missed
        });
        let log = open(copy.path(), roomy(&hand));
        let kept = (0..8).rfind(|&events| starts[events + 1] <= cut).unwrap() as u64;
        assert_eq!(offsets(&log, &feed).await, (0..kept).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(log.missing(&feed, 0), gap(kept..8), "exactly what was there, cut at {cut}");
        assert_eq!(damaged(copy.path()).len(), 1);
        // Its publisher can bring it back, under new offsets; what is there is still known.
        let again = log.publish(&feed, requests.concat()).await.unwrap();
        let of_new: Vec<u64> = again.iter().filter(|event| !event.duplicate).map(|event| event.offset).collect();
        assert_eq!(of_new, (8..16 - kept).collect::<Vec<_>>(), "cut at {cut}");
        drop(log);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(log.missing(&feed, 0), gap(kept..8));
        assert!(log.publish(&feed, requests.concat()).await.unwrap().iter().all(|event| event.duplicate));
    }
}

#[tokio::test]
async fn a_wrong_byte_in_the_last_synced_group_is_damage() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    for at in starts[8]..starts[9] {
        let copy = copy_with_marks(dir.path(), |bytes| bytes[at] ^= 0x55);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(log.missing(&name("a"), 0), gap(7..8), "byte {at}");
    }
}

#[tokio::test]
async fn lost_events_of_a_sealed_segment_can_be_brought_back_though_their_ids_are_remembered() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    publish_each(&log, &feed, 0..60).await;
    drop(log);
    let first = &files(dir.path(), "log")[0];
    let mut bytes = fs::read(first).unwrap();
    let starts: Vec<usize> = frame::scan(&bytes, 1, frame::Tail::Synced).frames.iter().map(|frame| frame.at).collect();
    bytes[starts[3] + 40] ^= 1;
    fs::write(first, bytes).unwrap();
    fs::remove_file(first.with_extension("idx")).unwrap();
    let log = open(dir.path(), hand.options());
    assert_eq!((log.missing(&feed, 0), log.missing(&feed, 3)), (gap(2..3), vec![]));
    let again = log.publish(&feed, numbered(0..60)).await.unwrap();
    let new: Vec<_> = again.iter().filter(|event| !event.duplicate).collect();
    assert_eq!((new.len(), new[0].id.as_str(), new[0].offset), (1, "e2", 60));
}

#[tokio::test]
async fn a_journal_whose_last_file_is_missing_is_refused_until_a_human_lets_go_of_it() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let log = files(dir.path(), "log").remove(0);
    let whole = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let refused = FeedLog::open(dir.path(), roomy(&hand)).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Missing(path) if *path == log), "{refused}");
    assert!(refused.to_string().contains(&format!("rm {}.mark", log.display())), "{refused}");
    fs::write(&log, whole).unwrap();
    assert_eq!(offsets(&open(dir.path(), roomy(&hand)), &name("a")).await.len(), 8);
    fs::remove_file(&log).unwrap();
    fs::remove_file(crate::mark::path_of(&log)).unwrap();
    open(dir.path(), roomy(&hand));
}

#[tokio::test]
async fn a_damaged_header_or_heads_record_loses_no_event() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    for at in 0..frame_starts(dir.path())[1] {
        let copy = copy_with(dir.path(), |bytes| bytes[at] ^= 0x55);
        let log = open(copy.path(), roomy(&hand));
        assert_eq!(offsets(&log, &name("a")).await, (0..8).collect::<Vec<_>>(), "byte {at}");
        assert_eq!(damaged(copy.path()).len(), 1);
        let again = log.publish(&name("a"), numbered(0..8)).await.unwrap();
        assert!(again.iter().all(|event| event.duplicate));
    }
}

#[tokio::test]
async fn holes_in_a_group_that_was_never_synced_are_a_torn_tail() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let starts = frame_starts(dir.path());
    // Pages reach the disk in any order: the middle of the last request but one is missing, and what follows.
    let copy = copy_with(dir.path(), |bytes| {
        bytes.truncate(starts[7]);
        bytes[starts[5]..starts[6]].fill(0);
    });
    let log = open(copy.path(), roomy(&hand));
    assert_eq!(offsets(&log, &name("a")).await, [0, 1, 2]);
    assert!(damaged(copy.path()).is_empty());
}

#[tokio::test]
async fn a_missing_or_damaged_index_or_table_of_ids_is_built_again() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    publish_each(&log, &name("a"), 0..60).await;
    drop(log);
    for kind in ["idx", "ids"] {
        for harm in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, b"nonsense").unwrap()]
        {
            files(dir.path(), kind).iter().for_each(|path| harm(path));
            let log = open(dir.path(), hand.options());
            assert_eq!(offsets(&log, &name("a")).await, (0..60).collect::<Vec<_>>());
            let again = log.publish(&name("a"), numbered(0..60)).await.unwrap();
            assert!(again.iter().all(|event| event.duplicate));
        }
    }
    assert!(damaged(dir.path()).is_empty());
}

#[tokio::test]
async fn a_kill_while_the_table_of_ids_is_written_loses_no_event_no_id_and_no_damage_goes_unnoticed() {
    let (dir, hand, feed) = (tempfile::tempdir().unwrap(), Hand::default(), name("a"));
    let log = open(dir.path(), hand.options());
    publish_each(&log, &feed, 0..60).await;
    drop(log);
    // The segment was sealed just now: its mark is still there, and nothing is beside it.
    let last = files(dir.path(), "ids").pop().unwrap();
    let sealed = last.with_extension("log");
    fs::remove_file(&last).unwrap();
    fs::remove_file(last.with_extension("idx")).unwrap();
    let length = fs::metadata(&sealed).unwrap().len();
    crate::mark::Mark::open(&sealed).0.set(crate::mark::Marked { length, entries: 0 });
    let number = sealed.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut cut = fs::read(&sealed).unwrap();
    // Without its last frame it looks whole: the mark alone tells.
    let last_frame = frame::scan(&cut, number, frame::Tail::Synced).frames.pop().unwrap();
    cut.truncate(last_frame.at);

    let log = open(dir.path(), hand.options());
    assert_eq!(offsets(&log, &feed).await, (0..60).collect::<Vec<_>>());
    assert!(log.publish(&feed, numbered(0..60)).await.unwrap().iter().all(|event| event.duplicate));
    assert!(damaged(dir.path()).is_empty() && last.exists() && !crate::mark::path_of(&sealed).exists());
    drop(log);

    fs::remove_file(&last).unwrap();
    crate::mark::Mark::open(&sealed).0.set(crate::mark::Marked { length, entries: 0 });
    fs::write(&sealed, cut).unwrap();
    let log = open(dir.path(), hand.options());
    assert_eq!((log.missing(&feed, 0).len(), damaged(dir.path()).len()), (1, 1), "one event is lost, and that is told");
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_an_error_in_words_and_mended_by_building_its_index_again() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    publish_each(&log, &name("a"), 0..60).await;
    let sealed = &files(dir.path(), "log")[0];
    let mut bytes = fs::read(sealed).unwrap();
    let second = frame::scan(&bytes, 1, frame::Tail::Synced).frames[2].at;
    bytes[second + 40] ^= 1;
    fs::write(sealed, bytes).unwrap();
    let failure = log.read(&name("a"), 0, 60, 100, 1 << 20).await.unwrap_err();
    assert!(failure.message.contains("offset 1 is damaged"), "{failure}");
    assert_eq!(log.read(&name("a"), 2, 60, 100, 1 << 20).await.unwrap().len(), 58);
    drop(log);
    fs::remove_file(sealed.with_extension("idx")).unwrap();
    let log = open(dir.path(), hand.options());
    assert_eq!(offsets(&log, &name("a")).await, [0].into_iter().chain(2..60).collect::<Vec<_>>());
    assert_eq!(damaged(dir.path()).len(), 1);
    assert_eq!(log.head(&name("a")).get(), 60);
}

#[tokio::test]
async fn files_that_a_crash_left_half_done_are_swept_up() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    publish_each(&log, &name("a"), 0..30).await;
    drop(log);
    fs::write(dir.path().join("7-log.tmp"), b"half").unwrap();
    fs::write(dir.path().join("000000000777.idx"), b"of a segment that is gone").unwrap();
    let log = open(dir.path(), hand.options());
    assert_eq!(offsets(&log, &name("a")).await, (0..30).collect::<Vec<_>>());
    assert!(files(dir.path(), "tmp").is_empty());
    assert!(!dir.path().join("000000000777.idx").exists());
}

#[tokio::test]
async fn a_journal_of_another_version_is_left_alone() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    five_requests(dir.path(), &hand).await;
    let copy = copy_with(dir.path(), |bytes| {
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    });
    let before = fs::read(&files(copy.path(), "log")[0]).unwrap();
    let refused = FeedLog::open(copy.path(), roomy(&hand)).err().unwrap();
    assert!(matches!(refused, OpenError::Version { found: 2, .. }), "{refused}");
    assert_eq!(fs::read(&files(copy.path(), "log")[0]).unwrap(), before);
}
