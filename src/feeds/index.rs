//! Where the events of each feed lie in a segment: built while events are written or scanned, kept as
//! `NNN.idx` once the segment is sealed. It can always be rebuilt from the segment.
//!
//! `NNN.idx` (integers little-endian):
//!
//! | at | what | |
//! | --- | --- | --- |
//! | 0 | `HMSINDX1` | |
//! | 8 | u64 | number of the segment |
//! | 16 | u64 | length of `NNN.log`: an index of another length is not of this file |
//! | 24 | u32 | number of runs |
//! | 28 | runs | feed as text, first offset u64, events u32, bytes u64, newest published i64, at u32 |
//! | | entries | position u32, length of the frame u32, published i64 |
//! | end | u32 | CRC-32 of all the above |
//!
//! A run is events of one feed with consecutive offsets; `at` is where its first entry lies in this file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hms_actors::id::{FeedName, Offset, Timestamp};

use super::frame::{self, Frame};
use super::record::{Cursor, put_text};

const MAGIC: &[u8; 8] = b"HMSINDX1";
pub(super) const ENTRY: usize = 16;

/// Consecutive events of one feed in one segment. All that memory holds of them once it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub segment: u64,
    pub first: Offset,
    pub count: u32,
    /// Where the first entry lies in the index file; meaningless in the active segment.
    pub at: u32,
    /// Of the frames.
    pub bytes: u64,
    /// The latest publication in it. The clock may have been set back, so it need not be the last event's.
    pub newest: Timestamp,
}

impl Run {
    pub fn end(&self) -> Offset {
        self.first + Offset::from(self.count)
    }

    pub const EMPTY: Self = Self { segment: 0, first: 0, count: 0, at: 0, bytes: 0, newest: Timestamp(i64::MIN) };

    pub fn push(&mut self, entry: Entry) {
        self.count += 1;
        self.bytes += u64::from(entry.length);
        self.newest = self.newest.max(entry.published);
    }
}

/// Where one event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub position: u32,
    pub length: u32,
    pub published: Timestamp,
}

/// A run with its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub feed: FeedName,
    pub run: Run,
    pub entries: Vec<Entry>,
}

impl Listed {
    pub fn start(feed: FeedName, segment: u64, first: Offset) -> Self {
        Self { feed, run: Run { segment, first, ..Run::EMPTY }, entries: Vec::new() }
    }

    pub fn push(&mut self, entry: Entry) {
        self.run.push(entry);
        self.entries.push(entry);
    }
}

/// Lists the events of scanned frames.
pub(super) fn of_frames(segment: u64, bytes: &[u8], frames: &[Frame]) -> Vec<Listed> {
    let mut lists: Vec<Listed> = Vec::new();
    let mut last_of: HashMap<&str, usize> = HashMap::new();
    for &found in frames {
        let Some(view) = frame::event_at(bytes, found) else { continue };
        let Ok(feed) = FeedName::parse(view.feed) else { continue };
        let offset = view.stamp.offset;
        let known = last_of.get(view.feed).copied().filter(|&n| lists[n].run.end() == offset);
        let n = known.unwrap_or_else(|| {
            lists.push(Listed::start(feed, segment, offset));
            lists.len() - 1
        });
        last_of.insert(view.feed, n);
        lists[n].push(Entry {
            position: found.at as u32,
            length: found.length as u32,
            published: view.stamp.published,
        });
    }
    lists
}

/// The index file of a segment; each run is told where its entries are.
pub(super) fn encode(segment: u64, log_bytes: u64, lists: &mut [Listed]) -> Vec<u8> {
    let directory: usize = lists.iter().map(|list| run_bytes(&list.feed)).sum();
    let mut at = 28 + directory;
    let mut out = Vec::with_capacity(at);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(&log_bytes.to_le_bytes());
    out.extend_from_slice(&(lists.len() as u32).to_le_bytes());
    for Listed { feed, run, entries } in lists.iter_mut() {
        run.at = at as u32;
        at += entries.len() * ENTRY;
        put_text(&mut out, feed.as_str());
        out.extend_from_slice(&run.first.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
        out.extend_from_slice(&run.bytes.to_le_bytes());
        out.extend_from_slice(&run.newest.0.to_le_bytes());
        out.extend_from_slice(&run.at.to_le_bytes());
    }
    for entry in lists.iter().flat_map(|list| &list.entries) {
        out.extend_from_slice(&entry.position.to_le_bytes());
        out.extend_from_slice(&entry.length.to_le_bytes());
        out.extend_from_slice(&entry.published.0.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The runs of an index file; `None` if it is damaged or not of this segment file.
pub(super) fn decode(bytes: &[u8], segment: u64, log_bytes: u64) -> Option<Vec<(FeedName, Run)>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = Cursor(body);
    if rest.take(8)? != MAGIC || rest.u64()? != segment || rest.u64()? != log_bytes {
        return None;
    }
    let count = rest.u32()?;
    let mut runs = Vec::new();
    for _ in 0..count {
        let feed = FeedName::parse(rest.text()?).ok()?;
        let (first, count, bytes) = (rest.u64()?, rest.u32()?, rest.u64()?);
        let (newest, at) = (Timestamp(rest.u64()? as i64), rest.u32()?);
        runs.push((feed, Run { segment, first, count, at, bytes, newest }));
    }
    Some(runs)
}

/// Entries of a run from its index file, beginning with that of the event at `skip` within the run.
pub(super) fn entries(file: &File, run: &Run, skip: u32, count: u32) -> io::Result<Vec<Entry>> {
    let mut bytes = vec![0; count as usize * ENTRY];
    file.read_exact_at(&mut bytes, u64::from(run.at) + u64::from(skip) * ENTRY as u64)?;
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    Ok(entries.iter().map(entry).collect())
}

fn entry(bytes: &[u8; ENTRY]) -> Entry {
    let [p0, p1, p2, p3, l0, l1, l2, l3, published @ ..] = *bytes;
    Entry {
        position: u32::from_le_bytes([p0, p1, p2, p3]),
        length: u32::from_le_bytes([l0, l1, l2, l3]),
        published: Timestamp(i64::from_le_bytes(published)),
    }
}

/// Bytes of a run in the directory. Names are at most 128 bytes; of those only 128 needs a varint of two.
fn run_bytes(feed: &FeedName) -> usize {
    let name = feed.as_str().len();
    name + if name < 128 { 1 } else { 2 } + 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    proptest! {
        #[test]
        fn an_index_is_read_back_as_it_was_written(
            shape in proptest::collection::vec(("[a-z]{1,128}", 0u64..1 << 60, proptest::collection::vec(any::<(u32, u32, i64)>(), 1..9)), 0..6),
        ) {
            let mut lists: Vec<Listed> = shape.into_iter().map(|(name, first, entries)| {
                let mut list = Listed::start(FeedName::parse(&name).unwrap(), 9, first);
                for (position, length, published) in entries {
                    list.push(Entry { position, length, published: Timestamp(published) });
                }
                list
            }).collect();
            let bytes = encode(9, 77, &mut lists);
            let runs = decode(&bytes, 9, 77).unwrap();
            prop_assert_eq!(&runs, &lists.iter().map(|list| (list.feed.clone(), list.run)).collect::<Vec<_>>());
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            for list in &lists {
                prop_assert_eq!(&entries(&file, &list.run, 0, list.run.count).unwrap(), &list.entries);
                prop_assert_eq!(&entries(&file, &list.run, 1, list.run.count - 1).unwrap(), &list.entries[1..]);
            }
        }
    }

    #[test]
    fn an_index_with_any_wrong_byte_or_of_another_file_is_refused() {
        let mut list = Listed::start(FeedName::parse("f").unwrap(), 1, 0);
        list.push(Entry { position: 24, length: 40, published: Timestamp(5) });
        let bytes = encode(1, 64, &mut [list]);
        assert!(decode(&bytes, 1, 64).is_some());
        assert!(decode(&bytes, 2, 64).is_none());
        assert!(decode(&bytes, 1, 65).is_none());
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(decode(&wrong, 1, 64).is_none(), "byte {at}");
            assert!(decode(&bytes[..at], 1, 64).is_none(), "cut at {at}");
        }
    }
}
