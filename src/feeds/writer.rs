//! The one thread that writes: it takes all requests that wait, appends them together, syncs once, and
//! only then lets them be seen and answers. What is accepted is decided in `admission`, what is removed in
//! `retention`.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hms_actors::id::Timestamp;
use tokio::sync::oneshot;

use super::PublishError;
use super::admission::Group;
use super::batch::{Batch, Taken};
use super::files::{Folder, JournalFile, LOG};
use super::frame;
use super::ids::Ids;
use super::log::Options;
use super::record::encode_heads;
use super::state::Shared;
use crate::fault;
use crate::mark::{Mark, Marked};

/// Requests are taken into one group up to this size.
const GROUP_BYTES: u64 = 8 * 1024 * 1024;
const MAINTENANCE: Duration = Duration::from_secs(10);
/// Between two steps of maintenance that has more to do.
const SOON: Duration = Duration::from_millis(100);

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Publish(Batch, Answer),
    Maintain(Timestamp, oneshot::Sender<()>),
    Close,
}

pub(super) type Answer = oneshot::Sender<Result<Taken, PublishError>>;

/// Makes the active segment's file; tests put one with faults in its place.
pub(super) type OpenJournal = Arc<dyn Fn(File) -> Box<dyn JournalFile> + Send + Sync>;

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub options: Options,
    pub folder: Folder,
    pub open_journal: OpenJournal,
    pub ids: Ids,
    pub active: Active,
    /// The count of readers' moves at which no more room could be made on the node.
    pub no_room_at: Option<u64>,
}

/// The segment that is written.
pub(super) struct Active {
    pub number: u64,
    pub file: Box<dyn JournalFile>,
    pub mark: Mark,
    /// Where its first event is or will be.
    pub start: u64,
    /// All of it is synced.
    pub length: u64,
    /// Events in it, also those that are let go.
    pub events: u64,
    pub seal_at: u64,
    /// Publication of its first event.
    pub since: Option<Timestamp>,
    pub newest: Timestamp,
}

impl Active {
    /// So much more of it is synced.
    fn grow(&mut self, bytes: u64, events: u64) {
        self.length += bytes;
        self.events += events;
        self.set_mark();
    }

    pub fn set_mark(&self) {
        self.mark.set(Marked { length: self.length, entries: self.events });
    }
}

impl Writer {
    /// The thread's life.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut due = Instant::now() + MAINTENANCE;
        loop {
            let first = match jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (batch, then) = gather(first, jobs);
            if !batch.is_empty() {
                self.commit(batch);
            }
            match then {
                Some(Job::Close) => return,
                Some(Job::Maintain(now, done)) => {
                    while self.maintain(now) {}
                    let _ = done.send(()); // who asked may have gone
                }
                _ => {}
            }
            if due <= Instant::now() {
                let more = self.maintain((self.options.clock)());
                due = Instant::now() + if more { SOON } else { MAINTENANCE };
            }
        }
    }

    /// Writes the requests as one group.
    fn commit(&mut self, requests: Vec<(Batch, Answer)>) {
        let bytes = requests.iter().map(|(batch, _)| batch.bytes()).sum();
        let now = (self.options.clock)();
        self.make_room(bytes, now);
        let mut group = Group::new(self.active.length, now, self.used());
        let admit = |(batch, answer): (Batch, Answer)| {
            let fates = self.admit(&batch, &mut group);
            (answer, fates.map(|fates| Taken::new(batch, fates)))
        };
        let answers: Vec<_> = requests.into_iter().map(admit).collect();
        let stored = self.store(&group);
        match &stored {
            Ok(()) => self.show(&group),
            Err(_) => self.forget(&group),
        }
        self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
        for (answer, taken) in answers {
            let _ = answer.send(taken.and_then(|taken| stored.clone().map(|()| taken))); // who asked may have gone
        }
        if self.active.length >= self.active.seal_at {
            self.try_seal();
        }
    }

    /// Puts the group on disk to stay.
    fn store(&mut self, group: &Group) -> Result<(), PublishError> {
        if let Some(message) = self.shared.failed.get() {
            return Err(PublishError::Unwritable { message: message.clone() });
        }
        if group.buffer.is_empty() {
            return Ok(());
        }
        self.check_free(group.buffer.len() as u64)?;
        self.write(&group.buffer)
    }

    /// Writes that events were removed, before their bytes are. If it fails, they come back with the next start.
    pub fn record_trimmed(&mut self) {
        let trimmed = self.shared.state().take_trimmed();
        if trimmed.is_empty() || self.shared.failed.get().is_some() {
            return;
        }
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &encode_heads(self.active.length as u32, &trimmed));
        match self.write(&bytes) {
            Ok(()) => {
                self.active.grow(bytes.len() as u64, 0);
                self.shared.state().store.segment(self.active.number).log_bytes += bytes.len() as u64;
            }
            Err(error) => tracing::warn!(%error, "what retention removes can't be recorded"),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        if let Err(error) = self.active.file.append(bytes) {
            return Err(self.take_back(&error));
        }
        fault::point("feeds.after_write");
        let written = self.active.length..self.active.length + bytes.len() as u64;
        fault::sync(|| self.folder.file(self.active.number, LOG), written, || self.active.file.sync())
            .map_err(|error| self.fail(format!("syncing the journal failed: {error}")))?;
        fault::point("feeds.after_sync");
        Ok(())
    }

    /// Leaves the file system the room that deliveries need to be recorded.
    fn check_free(&self, bytes: u64) -> Result<(), PublishError> {
        match self.folder.free_bytes() {
            Ok(free) if free < bytes.saturating_add(self.options.reserve) => Err(PublishError::DiskFull {
                message: format!("{free} bytes are free, {} of them are kept for deliveries", self.options.reserve),
            }),
            _ => Ok(()), // if it can't be told, the write will tell
        }
    }

    /// After a failed write: a full disk is met by cutting off what was written of the group, all else is final.
    fn take_back(&mut self, error: &io::Error) -> PublishError {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return self.fail(format!("writing the journal failed: {error}"));
        }
        let file = &mut self.active.file;
        match file.truncate(self.active.length).and_then(|()| file.sync()) {
            Ok(()) => PublishError::DiskFull { message: error.to_string() },
            Err(error) => self.fail(format!("cutting the journal after a write to a full disk failed: {error}")),
        }
    }

    /// Stops for good. What the disk has after a failed sync is not known, so nothing is tried again.
    fn fail(&self, message: String) -> PublishError {
        tracing::error!(%message, "the event store has stopped accepting; restart after the cause is mended");
        let message = self.shared.failed.get_or_init(|| message).clone();
        PublishError::Unwritable { message }
    }

    /// Lets everybody see the group's events.
    fn show(&mut self, group: &Group) {
        let mut state = self.shared.state();
        for (name, staged) in &group.feeds {
            let feed = state.feed(name);
            feed.extend(self.active.number, staged.first, &staged.entries);
            feed.announce(staged.next());
        }
        let length = group.buffer.len() as u64;
        let segment = state.store.segment(self.active.number);
        segment.log_bytes += length;
        segment.live += length;
        drop(state);
        self.active.grow(length, group.events());
        if length > 0 {
            self.active.since.get_or_insert(group.published);
            self.active.newest = self.active.newest.max(group.published);
        }
    }

    /// Nothing of the group is in the log: its ids were not used.
    fn forget(&mut self, group: &Group) {
        for id in group.feeds.values().flat_map(|staged| &staged.ids) {
            self.ids.recent.remove(id);
        }
    }

    /// Bytes on disk.
    pub fn used(&self) -> u64 {
        let ids: u64 = self.ids.tables.iter().map(|table| table.bytes).sum();
        self.shared.state().store.bytes() + ids
    }
}

/// The publications that wait, up to a group's size, and the other job that came after them.
fn gather(first: Option<Job>, jobs: &Receiver<Job>) -> (Vec<(Batch, Answer)>, Option<Job>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut next = first;
    while let Some(Job::Publish(request, answer)) = next {
        bytes += request.bytes();
        batch.push((request, answer));
        next = if bytes < GROUP_BYTES { jobs.try_recv().ok() } else { None };
    }
    (batch, next)
}
