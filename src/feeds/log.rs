//! `FeedLog`: the embedded durable log of events, as the rest of the node sees it.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::head::FeedHead;
use hms_actors::id::{FeedName, Offset, Timestamp};
use hms_actors::ports::EventLog;
use tokio::sync::oneshot;

use super::batch::{Batch, Taken};
use super::files::{Folder, Journal};
use super::reader::{self, Span};
use super::recovery::{OpenError, Problem, Recovered, recover};
use super::state::{Entries, Feed, Reader, Shared, first_published};
use super::syncing::Syncer;
use super::writer::{Job, OpenJournal, Writer};
use super::{Accepted, NewEvent, PublishError};

/// Requests that may wait for the writer, in number and in bytes.
const QUEUE: usize = 4_096;
const QUEUE_BYTES: u64 = 64 * 1024 * 1024;
/// Positions in a segment are 32 bits wide.
const MAX_SEGMENT: u64 = 1 << 30;

/// How the log keeps events.
#[derive(Clone)]
pub struct Options {
    /// A segment that has reached this is sealed.
    pub segment_bytes: u64,
    /// Events are kept at least as long, and until every reader has passed.
    pub retention: Duration,
    /// Ids are remembered as long as the event is kept, and at least as long as this.
    pub dedupe_window: Duration,
    /// Bytes on disk, all feeds together.
    pub disk: u64,
    /// Bytes of events of one feed.
    pub feed_disk: u64,
    /// Bytes of the file system that publishing leaves free, for the records of deliveries.
    pub reserve: u64,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// `false` in the benchmark of the log alone, where all events are new. No setting leads there.
    pub remember_ids: bool,
}

impl Options {
    /// The defaults of the node's configuration.
    pub fn new(clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        Self {
            segment_bytes: 64 << 20,
            retention: week,
            dedupe_window: week,
            disk: 16 << 30,
            feed_disk: 4 << 30,
            reserve: 64 << 20,
            clock,
            remember_ids: true,
        }
    }
}

/// A feed, as `GET /v1/feeds` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedInfo {
    pub name: FeedName,
    /// The offset that the next event will get.
    pub head: Offset,
    /// The first offset that is kept; the head if none is.
    pub oldest: Offset,
    /// Of the events that are kept.
    pub bytes: u64,
    pub readers: Vec<ReaderInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderInfo {
    pub name: String,
    pub position: Offset,
    pub lag: u64,
}

/// The log. One journal for all feeds: many feeds cost no more syncs than one.
///
/// Events are removed only after `start_retention`: readers live in memory, and until all of them are
/// registered again after a start, nobody knows what is still needed.
pub struct FeedLog {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the log is open.
    lock: File,
}

impl FeedLog {
    /// Opens the log in a folder of its own, which no other node can open meanwhile.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        Self::open_on(dir, options, Arc::new(|file| Box::new(Journal::new(file))))
    }

    pub(super) fn open_on(dir: &Path, mut options: Options, open: OpenJournal) -> Result<Arc<Self>, OpenError> {
        let io = |error| OpenError::Io { path: dir.to_owned(), error };
        options.segment_bytes = options.segment_bytes.min(MAX_SEGMENT);
        let (folder, lock) = Folder::open(dir).map_err(io)?.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
        let Recovered { state, ids, active } =
            recover(&folder, &open, options.segment_bytes).map_err(|problem| match problem {
                Problem::Version(path, found) => OpenError::Version { path, found },
                Problem::Missing(path) => OpenError::Missing(path),
                Problem::Io(error) => io(error),
            })?;
        let shared = Arc::new(Shared::new(state));
        let (jobs, waiting) = sync_channel(QUEUE);
        let syncer = Syncer::start(jobs.clone()).map_err(io)?;
        let writer = Writer {
            shared: shared.clone(),
            options,
            folder,
            open_journal: open,
            ids,
            active,
            jobs: waiting,
            aside: VecDeque::new(),
            open: None,
            flying: None,
            syncer,
            no_room_at: None,
        };
        let thread = Builder::new().name("feeds".to_owned()).spawn(move || writer.run()).map_err(io)?;
        Ok(Arc::new(Self { shared, jobs, writer: Mutex::new(Some(thread)), lock }))
    }

    /// Publishes the events of one request, whole or not at all. On return they are on disk to stay.
    /// Works from any thread and runtime. It ends when the disk answers; a caller who gives up earlier
    /// does not take the request back.
    pub async fn publish(&self, feed: &FeedName, events: Vec<NewEvent>) -> Result<Vec<Accepted>, PublishError> {
        self.take(Batch::of(feed, &events)).await.map(|taken| taken.accepted())
    }

    /// The same for a request that is read already.
    pub async fn take(&self, batch: Batch) -> Result<Taken, PublishError> {
        self.healthy().map_err(|message| PublishError::Unwritable { message })?;
        batch.check()?;
        if self.withheld(&batch.feed).is_some() {
            return Err(PublishError::Withheld { feed: batch.feed.to_string() });
        }
        let bytes = batch.bytes();
        let waiting = self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        let release = || self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
        // One request larger than the queue is let in when nothing else waits.
        if waiting > 0 && waiting + bytes > QUEUE_BYTES {
            release();
            return Err(PublishError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        match self.jobs.try_send(Job::Publish(batch, answer)) {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(self.gone())),
            Err(TrySendError::Full(_)) => {
                release();
                Err(PublishError::Overloaded)
            }
            Err(TrySendError::Disconnected(_)) => Err(self.gone()),
        }
    }

    /// Whether publishing works; otherwise why it does not.
    pub fn healthy(&self) -> Result<(), String> {
        if let Some(message) = self.shared.failed.get() {
            return Err(message.clone());
        }
        match &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err("the writer of the event log has ended".to_owned()),
        }
    }

    fn gone(&self) -> PublishError {
        PublishError::Unwritable {
            message: self.healthy().err().unwrap_or_else(|| "the event log is closed".to_owned()),
        }
    }

    /// From now on events at and above `position` are kept for this reader. Again: moves it, also back.
    pub fn register_reader(&self, feed: &FeedName, reader: &str, position: Offset) {
        self.shared.state().feed(feed).readers.or_default(reader.to_owned()).position = position;
        self.shared.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// The reader needs nothing below `below` any more. Never moves it back.
    pub fn advance(&self, feed: &FeedName, reader: &str, below: Offset) {
        if let Some(known) = self.shared.state().feeds.get_mut(feed)
            && let Some(reader) = known.readers.get_mut(reader)
        {
            reader.advance(below);
            self.shared.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The reader needs these events whole until it has passed all of them: a request is repeated with what it began
    /// with, also where a part of it is settled.
    pub fn keep(&self, feed: &FeedName, reader: &str, events: Range<Offset>) {
        let mut state = self.shared.state();
        let reader = state.feed(feed).readers.or_default(reader.to_owned());
        if !reader.kept.contains(&events) {
            reader.kept.push(events);
        }
    }

    /// The offsets from `from` up to the head that were given out and at which there is no event any more. For who
    /// has not passed them they are lost: retention lets nothing go that a reader needs.
    pub fn missing(&self, feed: &FeedName, from: Offset) -> Vec<Range<Offset>> {
        self.shared.state().feeds.get(feed).map_or_else(Vec::new, |feed| feed.missing(from))
    }

    /// Takes no event for the feed until it goes on: somebody has receipts for offsets up to `to` that it knows nothing of.
    pub fn withhold(&self, feed: &FeedName, to: Offset) {
        self.shared.state().withheld.insert(feed.clone(), to);
    }

    /// Where a feed would go on that takes no events.
    pub fn withheld(&self, feed: &FeedName) -> Option<Offset> {
        self.shared.state().withheld.get(feed).copied()
    }

    /// The feeds that take no events.
    pub fn all_withheld(&self) -> Vec<(FeedName, Offset)> {
        self.shared.state().withheld.iter().map(|(feed, &to)| (feed.clone(), to)).collect()
    }

    /// A feed that was withheld takes events again, from where it was to go on; also after a restart.
    pub async fn go_on(&self, feed: &FeedName) {
        if !self.shared.state().release(feed) {
            return;
        }
        let (done, waiting) = oneshot::channel();
        let jobs = self.jobs.clone();
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::RecordHeads(done)));
        if let Ok(Ok(())) = sent.await {
            let _ = waiting.await; // a writer that has ended takes no event either
        }
    }

    pub fn remove_reader(&self, feed: &FeedName, reader: &str) {
        if let Some(known) = self.shared.state().feeds.get_mut(feed) {
            known.readers.remove(reader);
            self.shared.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All readers are registered: from now on events may be removed.
    pub fn start_retention(&self) {
        self.shared.retention.store(true, Ordering::Relaxed);
    }

    /// Housekeeping as of `now`, all of it. It also happens by itself, a step at a time.
    pub async fn maintain(&self, now: Timestamp) {
        let (done, waiting) = oneshot::channel();
        if self.jobs.try_send(Job::Maintain(now, done)).is_ok() {
            let _ = waiting.await; // a writer that has ended does no housekeeping
        }
    }

    /// The feeds that exist, by name. One exists once it has had an event or a reader.
    pub fn feeds(&self) -> Vec<FeedInfo> {
        let state = self.shared.state();
        let existing = state.feeds.iter().filter(|(_, feed)| feed.exists());
        let mut feeds: Vec<FeedInfo> = existing.map(|(name, feed)| info(name, feed)).collect();
        drop(state);
        feeds.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        feeds
    }

    pub fn feed(&self, name: &FeedName) -> Option<FeedInfo> {
        let state = self.shared.state();
        state.feeds.get(name).filter(|feed| feed.exists()).map(|feed| info(name, feed))
    }

    /// The first offset that is kept; the head if none is.
    pub fn oldest(&self, feed: &FeedName) -> Offset {
        self.shared.state().feeds.get(feed).map_or(0, Feed::oldest)
    }

    /// When the first event at or after `offset` was published; `None` if there is none yet.
    pub fn first_published(&self, feed: &FeedName, offset: Offset) -> Result<Option<Timestamp>, Failure> {
        first_published(&self.shared.state(), feed, offset).map_err(|error| unreadable(feed, &error))
    }

    /// The first kept event published at or after `time`; the head if there is none.
    /// The clock may have been set back in between: it is the first in the order of the feed.
    pub fn offset_at(&self, feed: &FeedName, time: Timestamp) -> Result<Offset, Failure> {
        let state = self.shared.state();
        let Some(known) = state.feeds.get(feed) else { return Ok(0) };
        let head = known.head.get();
        let runs: Vec<(Offset, u32)> =
            known.runs.iter().filter(|run| run.newest >= time).map(|run| (run.first, run.count)).collect();
        for (first, count) in runs {
            let located = state.locate(feed, first, Offset::MAX, count).map_err(|error| unreadable(feed, &error))?;
            let entries = located.map_or(Ok(Vec::new()), |located| Entries::load(located.entries));
            let entries = entries.map_err(|error| unreadable(feed, &error))?;
            if let Some(n) = entries.iter().position(|entry| entry.published >= time) {
                return Ok(first + n as Offset);
            }
        }
        Ok(head)
    }

    /// Writes what waits and ends the writer. The folder is free again once the log is dropped.
    pub fn close(&self) {
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.jobs.send(Job::Close); // an error means that it has ended already
            if thread.join().is_err() {
                tracing::error!("the writer of the event log had panicked");
            }
        }
    }
}

impl Drop for FeedLog {
    fn drop(&mut self) {
        self.close();
        // By word: a child of this process between fork and exec has the file open for another moment.
        let _ = self.lock.unlock();
    }
}

#[async_trait(?Send)]
impl EventLog for FeedLog {
    async fn read(
        &self,
        feed: &FeedName,
        from: Offset,
        until: Offset,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Event>, Failure> {
        reader::read(&self.shared, Span { feed: feed.clone(), from, until, max_events, max_bytes }).await
    }

    fn head(&self, feed: &FeedName) -> FeedHead {
        self.shared.state().feed(feed).head.clone()
    }
}

fn info(name: &FeedName, feed: &Feed) -> FeedInfo {
    let head = feed.head.get();
    let reader = |(name, reader): (&String, &Reader)| ReaderInfo {
        name: name.clone(),
        position: reader.position,
        lag: head.saturating_sub(reader.position),
    };
    let readers = feed.readers.iter().map(reader).collect();
    FeedInfo { name: name.clone(), head, oldest: feed.oldest(), bytes: feed.bytes, readers }
}

fn unreadable(feed: &FeedName, error: &std::io::Error) -> Failure {
    Failure::node(format!("reading feed `{feed}`: {error}"))
}
