//! Closing the active segment and beginning the next, and rewriting a sealed one with only what is still
//! kept. Each step leaves files from which a start can go on. What is still kept is decided in `retention`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hms_actors::id::Timestamp;

use super::files::{Folder, INDEX, LOG};
use super::frame;
use super::index::{self, Entry, Listed};
use super::record::{Head, encode_heads};
use super::state::{Segment, State};
use super::writer::{Active, OpenJournal, Writer};
use crate::mark::Mark;

impl Writer {
    /// Seals the active segment. If that fails it goes on being written, and a later try may succeed.
    pub fn try_seal(&mut self) {
        if self.shared.failed.get().is_some() {
            return; // what the journal's file holds is not known any more
        }
        if let Err(error) = self.seal()
            && self.shared.failed.get().is_none()
        {
            tracing::warn!(segment = self.active.number, %error, "the segment can't be sealed yet");
            self.active.seal_at = self.active.length + self.options.segment_bytes / 8;
        }
    }

    /// The index first, then the next segment; the table of ids is written while that is filled. What of the two is not
    /// on disk after a crash is built again from the segment.
    fn seal(&mut self) -> io::Result<()> {
        self.ids.sealed(&self.folder)?;
        // Its index says how long it is.
        self.cut()?;
        self.sync().map_err(io::Error::other)?;
        let sealed = self.active.number;
        let mut lists = self.shared.state().tails();
        let index = index::encode(sealed, self.active.length, &mut lists);
        self.folder.put(sealed, INDEX, &index)?;
        let heads = self.shared.state().heads();
        let (active, reading) =
            begin(&self.folder, sealed + 1, &heads, &self.open_journal, self.options.segment_bytes)?;

        let mut state = self.shared.state();
        for list in &lists {
            let feed = state.feed(&list.feed);
            feed.tail = Vec::new();
            if let Some(run) = feed.runs.back_mut() {
                run.at = list.run.at;
            }
        }
        state.store.segment(sealed).index_bytes = index.len() as u64;
        state.store.all.insert(active.number, Segment { log_bytes: active.length, ..Segment::default() });
        state.store.active = (active.number, reading);
        state.take_unrecorded(); // the new segment opens with it
        drop(state);
        let newest = self.active.newest;
        self.active = active;
        self.ids.seal(&self.folder, sealed, newest);
        Ok(())
    }

    /// Rewrites a sealed segment; says whether it worked. If not, nothing has changed.
    pub fn try_rewrite(&mut self, segment: u64) -> bool {
        self.store_ids();
        if self.ids.are_only_in(segment) {
            return false;
        }
        let done = self.rewrite(segment);
        if let Err(error) = &done {
            tracing::warn!(segment, %error, "the segment can't be rewritten");
        }
        done.is_ok()
    }

    fn rewrite(&mut self, segment: u64) -> io::Result<()> {
        self.record_heads();
        let old = self.shared.state().listed(segment)?;
        let log = File::open(self.folder.file(segment, LOG))?;
        let mut bytes = frame::header(segment).to_vec();
        let mut lists = Vec::with_capacity(old.len());
        for list in old {
            let mut moved = Listed::start(list.feed, segment, list.run.first);
            for entry in list.entries {
                moved.push(Entry { position: bytes.len() as u32, ..entry });
                copy_frame(&log, entry, &mut bytes)?;
            }
            lists.push(moved);
        }
        let index = index::encode(segment, bytes.len() as u64, &mut lists);
        let new_log = self.folder.prepare(segment, LOG, &bytes)?;
        let new_index = self.folder.prepare(segment, INDEX, &index)?;

        // Readers look names up under the lock: they see both files old or both new. After a crash in
        // between, the index is of another length than the log and is built again.
        let mut state = self.shared.state();
        new_log.put_in_place()?;
        new_index.put_in_place()?;
        for list in &lists {
            let feed = state.feed(&list.feed);
            let run = feed.runs.iter_mut().find(|run| run.segment == segment && run.first == list.run.first);
            if let Some(run) = run {
                *run = list.run;
            }
        }
        let of = state.store.segment(segment);
        of.log_bytes = bytes.len() as u64;
        of.index_bytes = index.len() as u64;
        drop(state);
        self.folder.sync()
    }
}

/// Begins a segment, whole and synced before it gets its name, with what every feed has come to.
pub(super) fn begin(
    folder: &Folder,
    number: u64,
    heads: &[Head],
    open_journal: &OpenJournal,
    segment_bytes: u64,
) -> io::Result<(Active, Arc<File>)> {
    let mut bytes = frame::header(number).to_vec();
    frame::put(&mut bytes, &encode_heads(0, heads));
    let length = bytes.len() as u64;
    folder.replace(number, LOG, &bytes)?;
    let file = Some(open_journal(folder.appender(number)?));
    let (mark, _) = Mark::open(&folder.file(number, LOG));
    let active = Active {
        number,
        file,
        mark,
        start: length,
        length,
        events: 0,
        seal_at: length + segment_bytes,
        since: None,
        newest: Timestamp(i64::MIN),
    };
    active.set_mark();
    Ok((active, Arc::new(File::open(folder.file(number, LOG))?)))
}

/// Damage isn't spread: a frame that does not check is an error, and the old file stays.
fn copy_frame(log: &File, entry: Entry, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + entry.length as usize, 0);
    log.read_exact_at(&mut out[start..], u64::from(entry.position))?;
    match frame::payload(&out[start..]) {
        Some(_) => Ok(()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("damaged at byte {}", entry.position))),
    }
}

impl State {
    /// What is kept in the active segment.
    fn tails(&self) -> Vec<Listed> {
        let active = self.store.active.0;
        let tail = |(name, feed): (&_, &super::state::Feed)| {
            let run = feed.runs.back().filter(|run| run.segment == active)?;
            Some(Listed { feed: Clone::clone(name), run: *run, entries: feed.tail.clone() })
        };
        self.feeds.iter().filter_map(tail).collect()
    }

    /// What is kept in a sealed segment.
    fn listed(&self, segment: u64) -> io::Result<Vec<Listed>> {
        let index = File::open(self.store.folder.file(segment, INDEX))?;
        let mut lists = Vec::new();
        for (name, feed) in &self.feeds {
            let from = feed.runs.partition_point(|run| run.segment < segment);
            for run in feed.runs.range(from..).take_while(|run| run.segment == segment) {
                let entries = index::entries(&index, run, 0, run.count)?;
                lists.push(Listed { feed: name.clone(), run: *run, entries });
            }
        }
        Ok(lists)
    }
}
