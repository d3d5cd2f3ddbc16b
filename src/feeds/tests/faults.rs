//! A disk that is full, and a disk that fails.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU8;

use super::*;
use crate::feeds::files::JournalFile;

/// What the disk does.
const WORKS: u8 = 0;
const FULL: u8 = 1;
const FAILS_TO_WRITE: u8 = 2;
const FAILS_TO_SYNC: u8 = 3;

struct Faulty {
    file: File,
    fault: Arc<AtomicU8>,
}

impl JournalFile for Faulty {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            FULL | FAILS_TO_WRITE => {
                self.file.append(&bytes[..bytes.len() - 1])?; // a short write: whole frames of it may be good
                let full = self.fault.load(Ordering::SeqCst) == FULL;
                Err(if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other }.into())
            }
            _ => self.file.append(bytes),
        }
    }
    fn sync(&mut self) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            FAILS_TO_SYNC => Err(io::Error::other("the disk is gone")),
            _ => self.file.sync(),
        }
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

fn open_faulty(dir: &Path, hand: &Hand) -> (Arc<FeedLog>, Arc<AtomicU8>) {
    let fault = Arc::new(AtomicU8::new(WORKS));
    let shared = fault.clone();
    let faulty = move |file| Box::new(Faulty { file, fault: shared.clone() }) as Box<dyn JournalFile>;
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
        assert_eq!((offsets(&log, &feed).await, *log.head(&feed).borrow()), (vec![0, 1, 2], 3));
        drop(log);
        let log = open(dir.path(), hand.options());
        log.publish(&feed, numbered(0..6)).await.unwrap();
        assert_eq!(offsets(&log, &feed).await, (0..6).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn publishing_leaves_the_reserve_of_the_file_system_alone() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), Options { reserve: u64::MAX, ..hand.options() });
    let refused = log.publish(&name("a"), numbered(0..1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::DiskFull { .. }), "{refused}");
    assert!(log.feeds().is_empty());
}
