//! The one thread that decides: it takes all requests that wait into a group, has it put on disk, and only then lets it
//! be seen and answers. While a large group is written and synced, which another thread does (`syncing`), the next one is made.
//! What is accepted is decided in `admission`, what is removed in `retention`.

use std::borrow::Borrow;
use std::collections::VecDeque;
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
use super::syncing::{Flight, Landed, NotStored, Syncer, fly, put, sync};
use crate::mark::{Mark, Marked};

/// Requests are taken into one group up to this size.
const GROUP_BYTES: u64 = 8 * 1024 * 1024;
/// To make so much more of the next group meanwhile takes less time than to wake another thread, and be woken by it.
const WORTH_A_THREAD: u64 = 64 * 1024;
const MAINTENANCE: Duration = Duration::from_secs(10);
/// Between two steps of maintenance that has more to do.
const SOON: Duration = Duration::from_millis(100);

/// What the thread is asked to do.
pub(super) enum Job {
    Publish(Batch, Answer),
    Maintain(Timestamp, oneshot::Sender<()>),
    /// Put on disk what feeds have come to.
    RecordHeads(oneshot::Sender<()>),
    Close,
    /// The group that was written is on disk, or not.
    Landed(Landed),
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
    pub jobs: Receiver<Job>,
    /// Jobs that have to wait for those before them.
    pub aside: VecDeque<Job>,
    /// What is gathered.
    pub open: Option<Gathered<Group>>,
    /// What is being written.
    pub flying: Option<Gathered<Arc<Group>>>,
    pub syncer: Syncer,
    /// The count of readers' moves at which no more room could be made on the node.
    pub no_room_at: Option<u64>,
}

/// A group and those who wait for it.
pub(super) struct Gathered<G> {
    pub group: G,
    answers: Vec<(Answer, Result<Taken, PublishError>)>,
    /// Of the requests.
    bytes: u64,
}

/// The segment that is written.
pub(super) struct Active {
    pub number: u64,
    /// Away while a group is written.
    pub file: Option<Box<dyn JournalFile>>,
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
    pub fn run(mut self) {
        let mut due = Instant::now() + MAINTENANCE;
        loop {
            match self.next(due) {
                Some(Job::Publish(batch, answer)) => self.take(batch, answer),
                Some(Job::Landed(landed)) => self.land(landed),
                Some(Job::Maintain(now, done)) => {
                    self.settle();
                    while self.maintain(now) {}
                    let _ = done.send(()); // who asked may have gone
                }
                Some(Job::RecordHeads(done)) => {
                    self.settle();
                    self.record_heads();
                    let _ = done.send(());
                }
                Some(Job::Close) => return self.end(),
                None => {}
            }
            if due <= Instant::now() {
                self.settle();
                let more = self.maintain((self.options.clock)());
                due = Instant::now() + if more { SOON } else { MAINTENANCE };
            }
        }
    }

    fn end(mut self) {
        self.settle();
        self.store_ids(); // otherwise the next start builds their table again
        if self.check_writable().is_ok() {
            let _ = self.cut(); // the next start does it too
        }
    }

    /// What to do next. When nothing more waits, or there is no room for more, what was gathered is written.
    fn next(&mut self, due: Instant) -> Option<Job> {
        let room = self.has_room();
        if room && let Some(job) = self.aside.pop_front() {
            return Some(job);
        }
        if self.flying.is_none() && self.open.is_some() {
            let waiting = if room { self.jobs.try_recv().ok() } else { None };
            if waiting.is_none() {
                self.take_off();
            }
            return waiting;
        }
        match self.jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(job) if room || matches!(job, Job::Landed(_)) => Some(job),
            Ok(job) => {
                self.aside.push_back(job);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Close),
        }
    }

    /// Whether another request may be gathered: not where the segment is about to be sealed.
    fn has_room(&self) -> bool {
        let open = self.open.as_ref().map(|open| (open.group.end(), open.bytes));
        let flying = self.flying.as_ref().map(|flying| (flying.group.end(), 0));
        open.or(flying).is_none_or(|(end, bytes)| bytes < GROUP_BYTES && end < self.active.seal_at)
    }

    fn take(&mut self, batch: Batch, answer: Answer) {
        let bytes = batch.bytes();
        if self.used() + self.ahead() + bytes > self.options.disk {
            self.settle();
            self.make_room(bytes, (self.options.clock)());
        }
        let mut open = self.open.take().unwrap_or_else(|| Gathered {
            group: Group::new(self.active.length + self.ahead(), (self.options.clock)(), self.used() + self.ahead()),
            answers: Vec::new(),
            bytes: 0,
        });
        let fates = self.admit(&batch, &mut open.group);
        open.answers.push((answer, fates.map(|fates| Taken::new(batch, fates))));
        open.bytes += bytes;
        self.open = Some(open);
    }

    /// Bytes that were gathered and are not on disk.
    fn ahead(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| open.group.buffer.len());
        let flying = self.flying.as_ref().map_or(0, |flying| flying.group.buffer.len());
        (open + flying) as u64
    }

    /// Has the group written that was gathered.
    fn take_off(&mut self) {
        let Some(open) = self.open.take() else { return };
        let bytes = open.group.buffer.len() as u64;
        let writable = self.check_writable().and_then(|()| if bytes > 0 { self.check_free(bytes) } else { Ok(()) });
        let file = if bytes > 0 && writable.is_ok() { self.active.file.take() } else { None };
        match file {
            None => self.finish(open, writable),
            Some(file) => {
                let Gathered { group, answers, bytes } = open;
                let group = Arc::new(group);
                let path = self.folder.file(self.active.number, LOG);
                let flight = Flight { file, path, group: group.clone() };
                self.flying = Some(Gathered { group, answers, bytes });
                if bytes < WORTH_A_THREAD {
                    self.land(fly(flight));
                } else {
                    self.syncer.take(flight);
                }
            }
        }
    }

    /// A group is on disk to stay, or not. If not, that which was gathered after it is not taken either: it builds on it.
    fn land(&mut self, Landed { file, result }: Landed) {
        self.active.file = file;
        let Some(flying) = self.flying.take() else { return };
        let stored = result.map_err(|error| self.refusal(error));
        let builds_on_it = if stored.is_err() { self.open.take() } else { None };
        self.finish(flying, stored.clone());
        if let (Err(error), Some(mut open)) = (stored, builds_on_it) {
            open.answers.iter_mut().for_each(|(_, answer)| *answer = Err(error.clone()));
            self.finish(open, Err(error));
        }
    }

    /// Shows or forgets a group, and answers those who wait for it.
    fn finish<G: Borrow<Group>>(&mut self, gathered: Gathered<G>, stored: Result<(), PublishError>) {
        match stored {
            Ok(()) => self.show(gathered.group.borrow()),
            Err(_) => self.forget(gathered.group.borrow()),
        }
        self.shared.queued.fetch_sub(gathered.bytes, Ordering::Relaxed);
        for (answer, taken) in gathered.answers {
            let _ = answer.send(taken.and_then(|taken| stored.clone().map(|()| taken))); // who asked may have gone
        }
        if self.open.is_none() && self.active.length >= self.active.seal_at {
            self.try_seal();
        }
    }

    /// Brings to an end what was gathered, so that nothing is on its way. What else comes meanwhile has to wait.
    fn settle(&mut self) {
        while self.flying.is_some() || self.open.is_some() {
            if self.flying.is_none() {
                self.take_off();
                continue;
            }
            match self.jobs.recv() {
                Ok(Job::Landed(landed)) => self.land(landed),
                Ok(job) => self.aside.push_back(job),
                Err(_) => return, // nobody is left who could ask or tell
            }
        }
    }

    /// Writes that events were removed, before their bytes are, or that offsets are left out. If it fails, they come back
    /// with the next start.
    pub fn record_heads(&mut self) {
        let heads = self.shared.state().take_unrecorded();
        if heads.is_empty() || self.shared.failed.get().is_some() {
            return;
        }
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &encode_heads(self.active.length as u32, &heads));
        match self.write(&bytes) {
            Ok(()) => {
                self.active.grow(bytes.len() as u64, 0);
                self.shared.state().store.segment(self.active.number).log_bytes += bytes.len() as u64;
            }
            Err(error) => tracing::warn!(%error, "what the feeds have come to can't be recorded"),
        }
    }

    /// Cuts the room off that the file has ahead.
    pub fn cut(&mut self) -> io::Result<()> {
        self.active.file.as_mut().map_or(Ok(()), |file| file.truncate(self.active.length))
    }

    /// Syncs what is in the file while nothing is written.
    pub fn sync(&mut self) -> Result<(), PublishError> {
        let path = self.folder.file(self.active.number, LOG);
        let Active { file: Some(file), length, .. } = &mut self.active else { return Ok(()) };
        sync(&mut **file, path, *length..*length).map_err(|error| self.refusal(error))
    }

    /// Writes while nothing else is written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        let path = self.folder.file(self.active.number, LOG);
        let file = self.active.file.as_mut().expect("it is away only while a group is written, or for good");
        put(&mut **file, path, self.active.length, bytes).map_err(|error| self.refusal(error))
    }

    fn check_writable(&self) -> Result<(), PublishError> {
        let failed = self.shared.failed.get().cloned();
        failed.map_or(Ok(()), |message| Err(PublishError::Unwritable { message }))
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

    /// What publishers are told. What the disk has after a failed sync is not known, so the node stops for good and
    /// nothing is tried again.
    fn refusal(&self, error: NotStored) -> PublishError {
        match error {
            NotStored::Full(message) => PublishError::DiskFull { message },
            NotStored::Broken(message) => {
                tracing::error!(%message, "the event store has stopped accepting; restart after the cause is mended");
                let message = self.shared.failed.get_or_init(|| message).clone();
                PublishError::Unwritable { message }
            }
        }
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
