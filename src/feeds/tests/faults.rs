//! A disk that is full, and a disk that fails.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicU8;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::feeds::files::{Journal, JournalFile};

/// What the disk does.
const WORKS: u8 = 0;
const FULL: u8 = 1;
const FAILS_TO_WRITE: u8 = 2;
const FAILS_TO_SYNC: u8 = 3;
/// Fails to sync once it has cut a file.
const FAILS_TO_SEAL: u8 = 4;

struct Faulty {
    file: Journal,
    fault: Arc<AtomicU8>,
}

impl JournalFile for Faulty {
    fn append(&mut self, end: u64, bytes: &[u8]) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            FULL | FAILS_TO_WRITE => {
                self.file.append(end, &bytes[..bytes.len() - 1])?; // a short write: whole frames of it may be good
                let full = self.fault.load(Ordering::SeqCst) == FULL;
                Err(if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other }.into())
            }
            _ => self.file.append(end, bytes),
        }
    }
    fn sync(&mut self) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            FAILS_TO_SYNC => Err(io::Error::other("the disk is gone")),
            _ => self.file.sync(),
        }
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let _ = self.fault.compare_exchange(FAILS_TO_SEAL, FAILS_TO_SYNC, Ordering::SeqCst, Ordering::SeqCst);
        self.file.truncate(length)
    }
}

fn open_faulty(dir: &Path, hand: &Hand) -> (Arc<FeedLog>, Arc<AtomicU8>) {
    let fault = Arc::new(AtomicU8::new(WORKS));
    let shared = fault.clone();
    let faulty =
        move |file| Box::new(Faulty { file: Journal::new(file), fault: shared.clone() }) as Box<dyn JournalFile>;
    (FeedLog::open_on(dir, hand.options(), Arc::new(faulty)).unwrap(), fault)
}

#[tokio::test]
async fn a_full_disk_refuses_the_request_and_takes_it_when_there_is_room_again() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let (log, fault) = open_faulty(dir.path(), &hand);
    log.publish(&feed, numbered(0..3)).await.unwrap();
    fault.store(FULL, Ordering::SeqCst);
    let refused = log.publish(&feed, numbered(2..6)).await.unwrap_err();
    assert!(matches!(refused, PublishError::DiskFull { .. }), "{refused}");
    assert_eq!((offsets(&log, &feed).await, log.healthy()), (vec![0, 1, 2], Ok(())));
    assert!(log.publish(&feed, numbered(0..3)).await.unwrap().iter().all(|event| event.duplicate));
    fault.store(WORKS, Ordering::SeqCst);
    let accepted = log.publish(&feed, numbered(2..6)).await.unwrap();
    assert_eq!(accepted.iter().filter(|event| event.duplicate).count(), 1, "what was refused was forgotten");
    drop(log);
    let log = open(dir.path(), hand.options());
    assert_eq!(offsets(&log, &feed).await, (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failed_sync_is_final_and_nothing_of_it_was_shown() {
    for fault_kind in [FAILS_TO_SYNC, FAILS_TO_WRITE] {
        let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
        let feed = name("a");
        let (log, fault) = open_faulty(dir.path(), &hand);
        log.publish(&feed, numbered(0..3)).await.unwrap();
        fault.store(fault_kind, Ordering::SeqCst);
        let refused = log.publish(&feed, numbered(3..6)).await.unwrap_err();
        assert!(matches!(refused, PublishError::Unwritable { .. }), "{refused}");
        fault.store(WORKS, Ordering::SeqCst);
        assert!(matches!(log.publish(&feed, numbered(3..6)).await, Err(PublishError::Unwritable { .. })));
        assert!(log.healthy().is_err());
        assert_eq!((offsets(&log, &feed).await, log.head(&feed).get()), (vec![0, 1, 2], 3));
        drop(log);
        let log = open(dir.path(), hand.options());
        log.publish(&feed, numbered(0..6)).await.unwrap();
        assert_eq!(offsets(&log, &feed).await, (0..6).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_failed_sync_of_a_segment_that_is_sealed_is_final_too() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let (log, fault) = open_faulty(dir.path(), &hand);
    fault.store(FAILS_TO_SEAL, Ordering::SeqCst);
    let mut taken = 0;
    let refused = loop {
        match log.publish(&feed, numbered(taken..taken + 1)).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 100, "a segment of 2 KiB was not sealed");
    };
    assert!(matches!(refused, PublishError::Unwritable { .. }), "{refused}");
    fault.store(WORKS, Ordering::SeqCst);
    assert!(log.publish(&feed, numbered(taken..taken + 1)).await.is_err() && log.healthy().is_err());
    drop(log);
    assert_eq!(files(dir.path(), "log").len(), 1);
    assert_eq!(offsets(&open(dir.path(), hand.options()), &feed).await, (0..taken).collect::<Vec<_>>());
}

#[tokio::test]
async fn publishing_leaves_the_reserve_of_the_file_system_alone() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), Options { reserve: u64::MAX, ..hand.options() });
    let refused = log.publish(&name("a"), numbered(0..1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::DiskFull { .. }), "{refused}");
    assert!(log.feeds().is_empty());
}

/// A disk that says when a write begins, and waits for what is to become of it.
struct Slow {
    file: Journal,
    begins: Sender<()>,
    ends: Arc<Mutex<Receiver<Option<io::ErrorKind>>>>,
}

impl JournalFile for Slow {
    fn append(&mut self, end: u64, bytes: &[u8]) -> io::Result<()> {
        let _ = self.begins.send(()); // the test may have heard enough
        match self.ends.lock().unwrap().recv().unwrap() {
            Some(error) => Err(error.into()),
            None => self.file.append(end, bytes),
        }
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

/// Publishes each of the later requests while the first is being written; then that ends in this way.
async fn while_the_first_is_written(
    requests: [Vec<NewEvent>; 4],
    end: Option<io::ErrorKind>,
) -> (Vec<Result<Vec<Accepted>, PublishError>>, Arc<FeedLog>, Sender<Option<io::ErrorKind>>, tempfile::TempDir) {
    let (dir, hand, feed) = (tempfile::tempdir().unwrap(), Hand::default(), name("a"));
    let ((begins, begun), (end_of, ends)) = (channel(), channel());
    let ends = Arc::new(Mutex::new(ends));
    let slow = move |file| {
        Box::new(Slow { file: Journal::new(file), begins: begins.clone(), ends: ends.clone() }) as Box<dyn JournalFile>
    };
    let roomy = Options { segment_bytes: 1 << 20, ..hand.options() };
    let log = FeedLog::open_on(dir.path(), roomy, Arc::new(slow)).unwrap();
    let mut requests = requests.into_iter();
    let first = log.publish(&feed, requests.next().unwrap());
    let later = async {
        begun.recv().unwrap();
        let later = futures_util::future::join_all(requests.map(|request| log.publish(&feed, request)));
        let release = async {
            // All are with the writer, before the news of this.
            end_of.send(end).unwrap();
            if end.is_none() {
                end_of.send(end).unwrap();
            }
        };
        futures_util::future::join(later, release).await.0
    };
    let (first, later) = futures_util::future::join(first, later).await;
    let answers = [first].into_iter().chain(later).collect();
    (answers, log, end_of, dir)
}

/// The first is so large that others are gathered while it is written.
fn later_requests() -> [Vec<NewEvent>; 4] {
    let mut first = numbered(0..3);
    first[0] = event("e0", &format!(r#"{{"n":"{}"}}"#, "x".repeat(100_000)));
    let other = vec![event("new", "{}"), event("e1", r#"{"n":"x"}"#)];
    [first, numbered(1..5), other, vec![event("e2", r#"{ "n" : 2 }"#)]]
}

#[tokio::test]
async fn what_is_gathered_while_others_are_written_knows_of_them() {
    let (answers, log, _, _dir) = while_the_first_is_written(later_requests(), None).await;
    let short =
        |accepted: &Vec<Accepted>| accepted.iter().map(|event| (event.offset, event.duplicate)).collect::<Vec<_>>();
    assert_eq!(short(answers[0].as_ref().unwrap()), [(0, false), (1, false), (2, false)]);
    assert_eq!(short(answers[1].as_ref().unwrap()), [(1, true), (2, true), (3, false), (4, false)]);
    let conflict = PublishError::Conflict { id: "e1".into(), offset: 1, differs: "data".into() };
    assert_eq!(answers[2], Err(conflict));
    assert_eq!(short(answers[3].as_ref().unwrap()), [(2, true)], "white space makes no other event");
    assert_eq!(offsets(&log, &name("a")).await, (0..5).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_gathered_after_a_group_that_failed_is_refused_with_it() {
    let full = Some(io::ErrorKind::StorageFull);
    let (answers, log, end, dir) = while_the_first_is_written(later_requests(), full).await;
    for answer in answers {
        assert!(matches!(answer, Err(PublishError::DiskFull { .. })), "{answer:?}");
    }
    assert_eq!((log.feeds().len(), log.healthy()), (0, Ok(())));
    // The disk has room again, and nothing of all that is known.
    (0..9).for_each(|_| end.send(None).unwrap());
    let accepted = log.publish(&name("a"), numbered(0..5)).await.unwrap();
    assert!(accepted.iter().zip(0..).all(|(event, n)| event.offset == n && !event.duplicate));
    drop(log);
    let log = open(dir.path(), Hand::default().options());
    assert_eq!(offsets(&log, &name("a")).await, (0..5).collect::<Vec<_>>());
}
