//! The thread that puts large groups on disk to stay, one after the other: while one is written and synced, the writer
//! makes the next.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel};
use std::thread::{Builder, JoinHandle};

use super::admission::Group;
use super::files::JournalFile;
use super::writer::Job;
use crate::fault;

/// A group on its way to the disk.
pub(super) struct Flight {
    pub file: Box<dyn JournalFile>,
    pub path: PathBuf,
    pub group: Arc<Group>,
}

/// What became of it.
pub(super) struct Landed {
    /// Gone if the thread panicked.
    pub file: Option<Box<dyn JournalFile>>,
    pub result: Result<(), NotStored>,
}

#[derive(Debug)]
pub(super) enum NotStored {
    /// The disk is full, and nothing of the bytes is left in the file.
    Full(String),
    /// What the file holds is not known.
    Broken(String),
}

/// Ends with the writer.
pub(super) struct Syncer {
    flights: Option<Sender<Flight>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// What lands is told as a job.
    pub fn start(jobs: SyncSender<Job>) -> io::Result<Self> {
        let (flights, waiting) = channel::<Flight>();
        let thread = Builder::new().name("feeds-sync".to_owned()).spawn(move || {
            for flight in waiting {
                if jobs.send(Job::Landed(fly(flight))).is_err() {
                    return; // the writer has ended
                }
            }
        })?;
        Ok(Self { flights: Some(flights), thread: Some(thread) })
    }

    pub fn take(&self, flight: Flight) {
        let flights = self.flights.as_ref().expect("it is there until this is dropped");
        // The thread ends after the writer alone.
        let _ = flights.send(flight);
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.flights = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that syncs the event log had panicked");
        }
    }
}

/// Puts the group on disk.
pub(super) fn fly(flight: Flight) -> Landed {
    let write = AssertUnwindSafe(|| {
        let Flight { mut file, path, group } = flight;
        let result = put(&mut *file, path, group.base, &group.buffer);
        Landed { file: Some(file), result }
    });
    let panicked = || NotStored::Broken("writing the journal panicked".to_owned());
    catch_unwind(write).unwrap_or_else(|_| Landed { file: None, result: Err(panicked()) })
}

/// Appends the bytes to the file, which ends at `end`, and syncs them.
pub(super) fn put(file: &mut dyn JournalFile, path: PathBuf, end: u64, bytes: &[u8]) -> Result<(), NotStored> {
    file.append(end, bytes).map_err(|error| take_back(file, end, &error))?;
    fault::point("feeds.after_write");
    sync(file, path, end..end + bytes.len() as u64)?;
    fault::point("feeds.after_sync");
    Ok(())
}

/// Syncs the file after these bytes of it were written.
pub(super) fn sync(file: &mut dyn JournalFile, path: PathBuf, written: Range<u64>) -> Result<(), NotStored> {
    fault::sync(|| path, written, || file.sync())
        .map_err(|error| NotStored::Broken(format!("syncing the journal failed: {error}")))
}

/// After a failed write: a full disk is met by cutting off what was written of the group, all else is final.
fn take_back(file: &mut dyn JournalFile, end: u64, error: &io::Error) -> NotStored {
    if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return NotStored::Broken(format!("writing the journal failed: {error}"));
    }
    match file.truncate(end).and_then(|()| file.sync()) {
        Ok(()) => NotStored::Full(error.to_string()),
        Err(error) => NotStored::Broken(format!("cutting the journal after a write to a full disk failed: {error}")),
    }
}
