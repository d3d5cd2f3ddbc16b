//! From the files to a log that can go on: what is missing beside a segment is built again, a torn tail is
//! cut, damage is set aside and said aloud.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hms_actors::id::{FeedName, Offset, Timestamp};

use super::files::{Folder, IDS, INDEX, LOG};
use super::frame::{self, Condition, HEADER, Header, Scan, Tail};
use super::ids::{Ids, Known, Print, Recent, Table};
use super::index::{self, Listed, Run};
use super::record::{Head, decode_heads};
use super::sealing::begin;
use super::state::{Segment, Segments, State};
use super::writer::{Active, OpenJournal};
use crate::fault;
use crate::mark::{self, Mark};

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`{}` is in use by another node: one data directory, one node", .0.display())]
    Locked(PathBuf),
    #[error("`{}` is a journal of version {found}, written by a newer program; this one reads version 1", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error(
        "`{}` is missing, though events in it were acknowledged: restore the file from a backup. Without one its events \
         are lost; to go on without them: rm {}", .0.display(), mark::path_of(.0).display()
    )]
    Missing(PathBuf),
    #[error("the feeds' journal in `{}` can't be opened: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What a start found.
pub(super) struct Recovered {
    pub state: State,
    pub ids: Ids,
    pub active: Active,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("version {0}")]
    Version(PathBuf, u32),
    #[error("missing")]
    Missing(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the folder and leaves it in order.
pub(super) fn recover(folder: &Folder, open: &OpenJournal, segment_bytes: u64) -> Result<Recovered, Problem> {
    folder.remove_temporary()?;
    let logs = folder.list(LOG)?;
    for marked in folder.list(&format!("{LOG}.{}", mark::EXTENSION))? {
        let log = folder.file(marked, LOG);
        match logs.last() {
            // Left by a crash before the removal of a sealed one's.
            Some(&last) if marked < last && !logs.contains(&marked) => mark::remove(&log),
            Some(&last) if marked <= last => {}
            _ => return Err(Problem::Missing(log)),
        }
    }
    for orphan in folder.list(INDEX)?.into_iter().filter(|segment| !logs.contains(segment)) {
        folder.remove(orphan, INDEX)?;
    }
    let mut loading = Loading { folder, feeds: Vec::new(), segments: BTreeMap::new(), tables: BTreeMap::new() };
    for retired in folder.list(IDS)?.into_iter().filter(|segment| !logs.contains(segment)) {
        loading.retired_ids(retired)?;
    }
    let Some((&last, sealed)) = logs.split_last() else {
        let (active, reading) = begin(folder, 1, &[], open, segment_bytes)?;
        return loading.into_log(active, reading, &[], Contents::default());
    };
    for &segment in sealed {
        loading.sealed(segment)?;
    }
    loading.last(last, open, segment_bytes)
}

/// What has been loaded so far.
struct Loading<'a> {
    folder: &'a Folder,
    feeds: Vec<(FeedName, Run)>,
    segments: BTreeMap<u64, Segment>,
    tables: BTreeMap<u64, Table>,
}

/// What the frames of a segment hold.
#[derive(Default)]
struct Contents {
    lists: Vec<Listed>,
    ids: Recent,
    since: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Loading<'_> {
    fn retired_ids(&mut self, segment: u64) -> io::Result<()> {
        match Table::open(self.folder.file(segment, IDS), segment)? {
            Some(table) => drop(self.tables.insert(segment, table)),
            None => tracing::error!(
                segment,
                "a table of event ids is damaged and its events are gone: repeats of them will be taken for new ones"
            ),
        }
        Ok(())
    }

    /// A segment that is written no more: by its index and ids, or from its own frames if those are no good.
    fn sealed(&mut self, segment: u64) -> Result<(), Problem> {
        let log_bytes = fs::metadata(self.folder.file(segment, LOG))?.len();
        let index = if_present(fs::read(self.folder.file(segment, INDEX)))?.unwrap_or_default();
        let runs = index::decode(&index, segment, log_bytes);
        let table = if_present(Table::open(self.folder.file(segment, IDS), segment))?.flatten();
        match (runs, table) {
            (Some(runs), Some(table)) => {
                self.add(segment, log_bytes, index.len() as u64, runs);
                self.tables.insert(segment, table);
            }
            (_, table) => {
                tracing::warn!(segment, "the index of a segment is missing or damaged and is built again");
                let (bytes, mut scan) = self.scan(segment, Tail::Synced)?;
                scan.expect(&bytes, segment, mark::of(&self.folder.file(segment, LOG)).length);
                let (bytes, scan) = self.repaired(segment, bytes, scan)?;
                self.rebuild(segment, &bytes, &scan, table)?;
            }
        }
        mark::remove(&self.folder.file(segment, LOG));
        Ok(())
    }

    /// Builds index and ids from frames. A table of ids that is good stays: it may know of more.
    fn rebuild(&mut self, segment: u64, bytes: &[u8], scan: &Scan, table: Option<Table>) -> Result<(), Problem> {
        let mut contents = Contents::of(segment, bytes, scan);
        let index = index::encode(segment, bytes.len() as u64, &mut contents.lists);
        self.folder.replace(segment, INDEX, &index)?;
        let table = match table {
            Some(table) => Some(table),
            None => {
                let newest = contents.newest.unwrap_or_default();
                self.folder.replace(segment, IDS, &Table::encode(&contents.ids, newest))?;
                Table::open(self.folder.file(segment, IDS), segment)?
            }
        };
        let runs = contents.lists.into_iter().map(|list| (list.feed, list.run)).collect();
        self.add(segment, bytes.len() as u64, index.len() as u64, runs);
        self.tables.extend(table.map(|table| (segment, table)));
        Ok(())
    }

    /// How many of a segment's events are lost from the ends of feeds: all that it had, without those that are there
    /// and those whose offsets lie between others'.
    fn unaccounted(&self, segment: u64, entries: u64, opening: Option<&[Head]>) -> u64 {
        let before = |feed: &FeedName| {
            let known = opening?.iter().find(|head| head.feed == *feed);
            Some(known.map_or(0, |head| head.next)) // the opening record has every feed that ever held an event
        };
        let mut ends: HashMap<&FeedName, Offset> = HashMap::new();
        let mut found = 0;
        for (feed, run) in self.feeds.iter().filter(|(_, run)| run.segment == segment) {
            let before = ends.insert(feed, run.end()).or_else(|| before(feed)).unwrap_or(run.first);
            found += run.end().saturating_sub(before);
        }
        entries.saturating_sub(found)
    }

    fn add(&mut self, segment: u64, log_bytes: u64, index_bytes: u64, runs: Vec<(FeedName, Run)>) {
        let live = runs.iter().map(|(_, run)| run.bytes).sum();
        self.segments.insert(segment, Segment { log_bytes, index_bytes, live });
        self.feeds.extend(runs);
    }

    /// The segment that was being written.
    fn last(mut self, last: u64, open: &OpenJournal, segment_bytes: u64) -> Result<Recovered, Problem> {
        let path = self.folder.file(last, LOG);
        let (mark, marked) = Mark::open(&path);
        let (mut bytes, mut scan) = self.scan(last, Tail::MayBeTorn)?;
        scan.expect(&bytes, last, marked.length);
        let heads = self.heads(&bytes, &scan);
        match scan.state {
            Condition::Whole => {}
            Condition::Torn { end } => {
                let cut = frame::written(&bytes, end) - end;
                if cut > 0 {
                    tracing::warn!(
                        segment = last,
                        bytes = cut,
                        "cut a torn tail: bytes that nobody was told are stored"
                    );
                }
                bytes.truncate(end);
            }
            Condition::Damaged { bytes: lost } => {
                let opening = opening_heads(&bytes, &scan);
                (bytes, scan) = self.repaired(last, bytes, scan)?;
                self.rebuild(last, &bytes, &scan, None)?;
                let most = match marked.entries {
                    0 => lost as u64 / frame::SHORTEST + 1,
                    entries => self.unaccounted(last, entries, opening.as_deref()),
                };
                let heads = beyond(&heads, &self.feeds, most);
                let (active, reading) = begin(self.folder, last + 1, &heads, open, segment_bytes)?;
                mark::remove(&path);
                return self.into_log(active, reading, &heads, Contents::default());
            }
        }
        let mut file = open(self.folder.appender(last)?);
        file.truncate(bytes.len() as u64)?;
        file.sync()?;
        fault::synced(|| self.folder.file(last, LOG), bytes.len() as u64);
        let contents = Contents::of(last, &bytes, &scan);
        let start = scan.frames.iter().find(|frame| frame::event_at(&bytes, **frame).is_some());
        let active = Active {
            number: last,
            file: Some(file),
            mark,
            start: start.map_or(bytes.len(), |frame| frame.at) as u64,
            length: bytes.len() as u64,
            events: contents.lists.iter().map(|list| u64::from(list.run.count)).sum(),
            seal_at: segment_bytes,
            since: contents.since,
            newest: contents.newest.unwrap_or(Timestamp(i64::MIN)),
        };
        active.set_mark();
        let reading = Arc::new(File::open(path)?);
        self.into_log(active, reading, &heads, contents)
    }

    fn into_log(
        self,
        active: Active,
        reading: Arc<File>,
        heads: &[Head],
        contents: Contents,
    ) -> Result<Recovered, Problem> {
        let store = Segments { folder: self.folder.clone(), all: self.segments, active: (active.number, reading) };
        let mut state = State { feeds: HashMap::new(), store, withheld: HashMap::new() };
        for (name, run) in self.feeds {
            let feed = state.feed(&name);
            feed.bytes += run.bytes;
            feed.runs.push_back(run);
            feed.announce(run.end());
        }
        let live = contents.lists.iter().map(|list| list.run.bytes).sum();
        state.store.all.insert(active.number, Segment { log_bytes: active.length, index_bytes: 0, live });
        for list in contents.lists {
            let feed = state.feed(&list.feed);
            feed.bytes += list.run.bytes;
            feed.announce(list.run.end());
            feed.runs.push_back(list.run);
            feed.tail = list.entries;
        }
        for head in heads {
            state.feed(&head.feed).announce(head.next);
            state.trim(&head.feed, head.oldest)?;
        }
        state.take_unrecorded(); // it is on disk already
        let ids = Ids::new(contents.ids, self.tables.into_values().collect());
        Ok(Recovered { state, ids, active })
    }

    /// What the feeds have come to, later records after earlier ones. If the record that opens the last
    /// segment is lost, an older one helps.
    fn heads(&self, bytes: &[u8], scan: &Scan) -> Vec<Head> {
        let later = scan.frames.iter().filter_map(|&frame| decode_heads(frame::payload_of(bytes, frame)));
        if opening_heads(bytes, scan).is_some() {
            return later.flatten().collect();
        }
        tracing::error!("the record of the feeds' heads is damaged: taking what older segments say");
        let older = |segment: &u64| {
            let (bytes, scan) = self.scan(*segment, Tail::Synced).ok()?;
            opening_heads(&bytes, &scan)
        };
        let opening = self.segments.keys().rev().find_map(older).unwrap_or_default();
        opening.into_iter().chain(later.flatten()).collect()
    }

    fn scan(&self, segment: u64, tail: Tail) -> Result<(Vec<u8>, Scan), Problem> {
        let path = self.folder.file(segment, LOG);
        let bytes = fs::read(&path)?;
        if let Header::OtherVersion(found) = frame::check_header(&bytes, segment) {
            return Err(Problem::Version(path, found));
        }
        let scan = frame::scan(&bytes, segment, tail);
        Ok((bytes, scan))
    }

    /// Sets a damaged segment file aside as it is, and goes on with what can be read of it.
    fn repaired(&self, segment: u64, bytes: Vec<u8>, scan: Scan) -> Result<(Vec<u8>, Scan), Problem> {
        let Condition::Damaged { bytes: lost } = scan.state else { return Ok((bytes, scan)) };
        let aside = self.folder.set_aside(segment)?;
        tracing::error!(
            segment, lost, kept = scan.frames.len(), aside = %aside.display(),
            "the journal is DAMAGED: events that were on disk can't be read; the file is set aside as it is"
        );
        let mut good = frame::header(segment).to_vec();
        for frame in &scan.frames {
            good.extend_from_slice(&bytes[frame.at..frame.at + frame.length]);
        }
        self.folder.replace(segment, LOG, &good)?;
        let scan = frame::scan(&good, segment, Tail::Synced);
        Ok((good, scan))
    }
}

impl Contents {
    fn of(segment: u64, bytes: &[u8], scan: &Scan) -> Self {
        let mut contents = Self { lists: index::of_frames(segment, bytes, &scan.frames), ..Self::default() };
        for view in scan.frames.iter().filter_map(|&frame| frame::event_at(bytes, frame)) {
            let print = Print::of(view.feed, view.id, (&view).into());
            contents.ids.insert(print.id, Known { content: print.content, offset: view.stamp.offset });
            contents.since.get_or_insert(view.stamp.published);
            contents.newest = contents.newest.max(Some(view.stamp.published));
        }
        contents
    }
}

fn opening_heads(bytes: &[u8], scan: &Scan) -> Option<Vec<Head>> {
    let first = scan.frames.first().filter(|frame| frame.at == HEADER)?;
    decode_heads(frame::payload_of(bytes, *first))
}

/// Heads that no lost event can reach: its offset may be in a receipt, and must not be given out again.
fn beyond(heads: &[Head], runs: &[(FeedName, Run)], most: u64) -> Vec<Head> {
    let mut next: HashMap<FeedName, Head> = heads.iter().map(|head| (head.feed.clone(), head.clone())).collect();
    for (feed, run) in runs {
        let fresh = || Head { feed: feed.clone(), next: 0, oldest: 0 };
        let head = next.entry(feed.clone()).or_insert_with(fresh);
        head.next = head.next.max(run.end());
    }
    next.into_values().map(|head| Head { next: head.next + most, ..head }).collect()
}

fn if_present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
