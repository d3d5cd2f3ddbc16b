//! What the node knows of its feeds in memory: heads, readers, and where events lie. Readers look things
//! up here, the writer alone changes what is stored. Locked for short moments only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hms_actors::few::Few;
use hms_actors::head::FeedHead;
use hms_actors::id::{FeedName, Offset, Timestamp};

use super::files::{Folder, INDEX, LOG};
use super::index::{self, Entry, Run};
use super::record::Head;

/// What readers, publishers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Why the log has stopped for good.
    pub failed: OnceLock<String>,
    /// Bytes of requests that wait to be written.
    pub queued: AtomicU64,
    /// Whether all readers are known, so that events may be removed.
    pub retention: AtomicBool,
    /// Counts the moves of readers: without one there is no more room to be found than last time.
    pub moves: AtomicU64,
}

impl Shared {
    pub fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            failed: OnceLock::new(),
            queued: AtomicU64::new(0),
            retention: AtomicBool::new(false),
            moves: AtomicU64::new(0),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so that a panic elsewhere in it does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub feeds: HashMap<FeedName, Feed>,
    pub store: Segments,
    /// Feeds that take no events, and where they would go on.
    pub withheld: HashMap<FeedName, Offset>,
}

/// The segments that stand, the active one among them.
#[derive(Debug)]
pub(super) struct Segments {
    pub folder: Folder,
    pub all: BTreeMap<u64, Segment>,
    /// The number of the one that is written, and its file for reading.
    pub active: (u64, Arc<File>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Segment {
    pub log_bytes: u64,
    pub index_bytes: u64,
    /// Bytes of frames that are still kept; the others are garbage.
    pub live: u64,
}

#[derive(Debug, Default)]
pub(super) struct Feed {
    pub head: FeedHead,
    /// Ascending by segment and by offset.
    pub runs: VecDeque<Run>,
    /// Entries of the run in the active segment.
    pub tail: Vec<Entry>,
    /// Of frames that are kept.
    pub bytes: u64,
    pub readers: Few<String, Reader>,
    /// Everything below was let go by retention. What is missing above was lost.
    floor: Offset,
    /// It has come to more than the disk knows.
    unrecorded: bool,
}

/// Who still needs events.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Everything below is behind it...
    pub position: Offset,
    /// ...but for these, which it needs whole until it has passed them.
    pub kept: Vec<Range<Offset>>,
}

impl Reader {
    pub fn advance(&mut self, below: Offset) {
        self.position = below.max(self.position);
        self.kept.retain(|kept| kept.end > below);
    }

    fn needed(&self) -> Offset {
        self.kept.iter().map(|kept| kept.start).fold(self.position, Offset::min)
    }
}

/// Where consecutive events of a feed lie, with open files: what happens to the names meanwhile is no matter.
#[derive(Debug)]
pub(super) struct Located {
    pub first: Offset,
    pub log: Arc<File>,
    pub entries: Entries,
}

#[derive(Debug)]
pub(super) enum Entries {
    Here(Vec<Entry>),
    /// In an index file: from the `skip`th of the run, so many.
    Stored {
        index: File,
        run: Run,
        skip: u32,
        count: u32,
    },
}

impl Entries {
    pub fn load(self) -> io::Result<Vec<Entry>> {
        match self {
            Self::Here(entries) => Ok(entries),
            Self::Stored { index, run, skip, count } => index::entries(&index, &run, skip, count),
        }
    }
}

impl State {
    pub fn feed(&mut self, name: &FeedName) -> &mut Feed {
        self.feeds.entry(name.clone()).or_default()
    }

    /// The first events that are kept at or after `from` and below `until`, all of one run.
    pub fn locate(&self, feed: &FeedName, from: Offset, until: Offset, most: u32) -> io::Result<Option<Located>> {
        let Some(feed) = self.feeds.get(feed) else { return Ok(None) };
        let n = feed.runs.partition_point(|run| run.end() <= from);
        let Some(run) = feed.runs.get(n).filter(|run| run.first.max(from) < until) else { return Ok(None) };
        let first = run.first.max(from);
        let skip = (first - run.first) as u32;
        let count = (run.count - skip).min(most).min(u32::try_from(until - first).unwrap_or(u32::MAX));
        let (log, entries) = if run.segment == self.store.active.0 {
            let here = feed.tail[skip as usize..(skip + count) as usize].to_vec();
            (self.store.active.1.clone(), Entries::Here(here))
        } else {
            let log = File::open(self.store.folder.file(run.segment, LOG))?;
            let index = File::open(self.store.folder.file(run.segment, INDEX))?;
            (Arc::new(log), Entries::Stored { index, run: *run, skip, count })
        };
        Ok(Some(Located { first, log, entries }))
    }

    /// Lets a feed go on that was withheld; says whether it was.
    pub fn release(&mut self, name: &FeedName) -> bool {
        let to = self.withheld.remove(name);
        to.is_some_and(|to| {
            self.feed(name).skip_to(to);
            true
        })
    }

    /// What every feed that ever held an event has come to.
    pub fn heads(&self) -> Vec<Head> {
        self.feeds.iter().map(|(name, feed)| feed.come_to(name)).filter(|head| head.next > 0).collect()
    }

    /// What the feeds have come to that were shortened, or go on further up, since this was asked last.
    pub fn take_unrecorded(&mut self) -> Vec<Head> {
        let take =
            |(name, feed): (&FeedName, &mut Feed)| std::mem::take(&mut feed.unrecorded).then(|| feed.come_to(name));
        self.feeds.iter_mut().filter_map(take).collect()
    }

    /// Drops the events of a feed below `to`.
    pub fn trim(&mut self, feed: &FeedName, to: Offset) -> io::Result<()> {
        match self.feeds.get_mut(feed) {
            Some(feed) => feed.trim(to, &mut self.store),
            None => Ok(()),
        }
    }
}

impl Feed {
    pub fn oldest(&self) -> Offset {
        self.runs.front().map_or(self.head.get(), |run| run.first)
    }

    fn come_to(&self, name: &FeedName) -> Head {
        Head { feed: name.clone(), next: self.head.get(), oldest: self.floor }
    }

    /// The offsets from `from` up to the head at which there is no event any more.
    pub fn missing(&self, from: Offset) -> Vec<Range<Offset>> {
        let mut missing = Vec::new();
        let mut at = from;
        for run in &self.runs {
            if at < run.first {
                missing.push(at..run.first);
            }
            at = at.max(run.end());
        }
        let head = self.head.get();
        if at < head {
            missing.push(at..head);
        }
        missing
    }

    /// Whether the event was given this offset, is not there, and retention has not let it go.
    pub fn has_lost(&self, offset: Offset) -> bool {
        let next = self.runs.partition_point(|run| run.end() <= offset);
        let held = self.runs.get(next).is_some_and(|run| run.first <= offset);
        (self.floor..self.head.get()).contains(&offset) && !held
    }

    /// A feed that was only asked about does not exist yet.
    pub fn exists(&self) -> bool {
        self.head.get() > 0 || !self.readers.is_empty()
    }

    /// What all readers have behind them; `None` without readers.
    pub fn passed(&self) -> Option<Offset> {
        self.readers.values().map(Reader::needed).min()
    }

    /// What of a run may go that is older than retention: what readers have passed, all if there are none.
    pub fn releasable(&self, run: &Run) -> Offset {
        self.passed().map_or(run.end(), |passed| passed.min(run.end()))
    }

    /// Drops the events below `to`. The segments' bytes become garbage, nothing is written.
    pub fn trim(&mut self, to: Offset, store: &mut Segments) -> io::Result<()> {
        self.unrecorded |= to > self.floor;
        self.floor = to.max(self.floor);
        while let Some(run) = self.runs.front_mut().filter(|run| run.first < to) {
            let active = run.segment == store.active.0;
            let count = u32::try_from(to - run.first).unwrap_or(u32::MAX).min(run.count);
            let freed = if count == run.count {
                run.bytes
            } else if active {
                lengths(&self.tail[..count as usize])
            } else {
                let index = File::open(store.folder.file(run.segment, INDEX))?;
                lengths(&index::entries(&index, run, 0, count)?)
            };
            self.bytes -= freed;
            store.segment(run.segment).live -= freed;
            if active {
                self.tail.drain(..count as usize);
            }
            if count == run.count {
                self.runs.pop_front();
            } else {
                run.first += Offset::from(count);
                run.count -= count;
                run.bytes -= freed;
                run.at = run.at.wrapping_add(count * index::ENTRY as u32);
            }
        }
        Ok(())
    }

    /// Takes up events that are on disk to stay in the active segment. The head follows by `announce`.
    pub fn extend(&mut self, segment: u64, first: Offset, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let before = self.runs.back().filter(|run| run.segment == segment && run.end() == first).copied();
        if before.is_none() {
            self.runs.push_back(Run { segment, first, ..Run::EMPTY });
        }
        let run = self.runs.back_mut().expect("there is one now");
        entries.iter().for_each(|&entry| run.push(entry));
        self.bytes += lengths(entries);
        self.tail.extend_from_slice(entries);
    }

    /// Gives out no offset below `to`.
    pub fn skip_to(&mut self, to: Offset) {
        self.unrecorded |= to > self.head.get();
        self.announce(to);
    }

    /// Tells those who wait what offset comes next.
    pub fn announce(&self, head: Offset) {
        self.head.raise(head);
    }
}

fn lengths(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| u64::from(entry.length)).sum()
}

impl Segments {
    pub fn segment(&mut self, number: u64) -> &mut Segment {
        self.all.entry(number).or_default()
    }

    /// Bytes on disk, without the memory of ids.
    pub fn bytes(&self) -> u64 {
        self.all.values().map(|segment| segment.log_bytes + segment.index_bytes).sum()
    }
}

/// The time of publication of the first event kept at or after `offset`.
pub(super) fn first_published(state: &State, feed: &FeedName, offset: Offset) -> io::Result<Option<Timestamp>> {
    let Some(located) = state.locate(feed, offset, Offset::MAX, 1)? else { return Ok(None) };
    Ok(located.entries.load()?.first().map(|entry| entry.published))
}
