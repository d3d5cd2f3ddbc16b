//! The memory of event ids: which id was used on which feed, and for what. It tells a repeat from a
//! conflict. Of ids in sealed segments only a filter is in memory; the rest is `NNN.ids`, which outlives
//! its segment until `dedupe_window` has passed. While the segment stands it can be rebuilt from it.
//!
//! `NNN.ids` (integers little-endian, ids big-endian so that bytes sort as numbers do):
//!
//! | at | what | |
//! | --- | --- | --- |
//! | 0 | `HMSIDS01` | |
//! | 8 | u64 | number of ids |
//! | 16 | i64 | newest publication among them |
//! | 24 | u64 | words of the filter, 8 to a block |
//! | 32 | u64 × words | the filter |
//! | | u32 | CRC-32 of all the above |
//! | | 32 × ids | id u128 (hash of feed and id), content u64 (hash), offset u64; ascending by id |

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use hms_actors::id::{Offset, Timestamp};
use sha2::{Digest, Sha256};

use super::files::{Folder, IDS, INDEX, LOG};
use super::filter::Filter;
use super::record::Cursor;
use super::same::Content;
use crate::mark;

const MAGIC: &[u8; 8] = b"HMSIDS01";
const ROW: usize = 32;
/// Rows that are read together.
const READ: u64 = 128;

/// What is remembered of an event: who it is, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    pub id: u128,
    pub content: u64,
}

/// What an id was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub content: u64,
    pub offset: Offset,
}

/// Ids and what they were used for.
pub(super) type Recent = HashMap<u128, Known, BuildHasherDefault<AsItIs>>;

/// All ids that are remembered.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Of the active segment.
    pub recent: Recent,
    /// Of the segment that was sealed last, until they are in a table.
    pub sealing: Option<Sealing>,
    /// Of sealed and of retired segments, ascending.
    pub tables: Vec<Table>,
    /// A filter of several tables that is being made.
    making: Option<Making>,
}

impl Ids {
    pub fn new(recent: Recent, tables: Vec<Table>) -> Self {
        Self { recent, tables, ..Self::default() }
    }

    /// What older segments know of these ids, the latest use of each. One table after the other: its filter stays near
    /// while all of them are looked for. Where tables share a filter, most ids are looked for in that one alone.
    pub fn older(&self, ids: impl Iterator<Item = u128> + Clone) -> io::Result<Recent> {
        let mut found = Recent::default();
        if let Some(sealing) = &self.sealing {
            found.extend(ids.clone().filter_map(|id| sealing.ids.get(&id).map(|&known| (id, known))));
        }
        let together = |one: &Table, next: &Table| matches!((&one.shared, &next.shared), (Some(one), Some(next)) if Arc::ptr_eq(one, next));
        let mut held: Vec<u128> = Vec::new();
        for tables in self.tables.chunk_by(together).rev() {
            let may_hold = |id: &u128| tables[0].shared.as_ref().is_none_or(|filter| filter.may_hold(*id));
            held.clear();
            held.extend(ids.clone().filter(may_hold));
            for table in tables.iter().rev() {
                for &id in held.iter().filter(|&&id| table.filter.may_hold(id)) {
                    if let Slot::Vacant(unknown) = found.entry(id)
                        && let Some(known) = table.rows.find(id)?
                    {
                        unknown.insert(known);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The segment's ids go into a table, which a thread of its own writes.
    pub fn seal(&mut self, folder: &Folder, segment: u64, newest: Timestamp) {
        let ids = Arc::new(std::mem::take(&mut self.recent));
        let (into, of_thread) = (folder.clone(), ids.clone());
        let write = move || Table::write(&into, segment, &of_thread, newest);
        let writing = Builder::new().name("feeds-ids".to_owned()).spawn(write).ok();
        self.sealing = Some(Sealing { segment, newest, ids, writing });
    }

    /// Whether the ids of a segment could not be built again without it.
    pub fn are_only_in(&self, segment: u64) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.segment == segment)
    }

    /// Waits for the table that is being written. One that could not be is written now; if that fails too, its ids stay
    /// in memory.
    pub fn sealed(&mut self, folder: &Folder) -> io::Result<()> {
        if let Some(mut sealing) = self.sealing.take() {
            let written = sealing.writing.take().and_then(|writing| writing.join().ok()?.ok());
            let written =
                written.map_or_else(|| Table::write(folder, sealing.segment, &sealing.ids, sealing.newest), Ok);
            match written {
                Ok(table) => self.tables.push(table),
                Err(error) => {
                    self.sealing = Some(sealing);
                    return Err(error);
                }
            }
        }
        self.share();
        Ok(())
    }

    /// Lets neighbours share a filter as soon as there are enough that have none, and one that is made. Nothing is lost
    /// with one that can't be made: it is tried again.
    fn share(&mut self) {
        if let Some(made) = self.making.take_if(|making| making.filter.is_finished()) {
            match made.filter.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))) {
                Ok(filter) => {
                    let filter = Arc::new(filter);
                    let of_it = self.tables.iter_mut().filter(|table| made.segments.contains(&table.segment));
                    of_it.for_each(|table| table.shared = Some(filter.clone()));
                }
                Err(error) => tracing::warn!(%error, "a filter of event ids can't be made yet: publishing costs more"),
            }
        }
        let alone = |tables: &&[Table]| tables.iter().all(|table| table.shared.is_none());
        if self.making.is_none()
            && let Some(tables) = self.tables.windows(SHARING).find(alone)
        {
            let segments = tables.iter().map(|table| table.segment).collect();
            let rows: Vec<Arc<Rows>> = tables.iter().map(|table| table.rows.clone()).collect();
            let filter = Builder::new().name("feeds-ids".to_owned()).spawn(move || shared_by(&rows));
            self.making = filter.ok().map(|filter| Making { segments, filter });
        }
    }
}

/// Tables that share a filter: what an event costs grows with all tables, and so by as much less.
const SHARING: usize = 16;

/// Ids in a block of a table's filter: less than 1 in 1,000 unknown ones costs a look into the file.
const IN_A_BLOCK: usize = 21;

/// The same in a filter that is shared: each table has one of its own for what this one lets pass.
const IN_A_SHARED_BLOCK: usize = 51;

/// A filter that tables of these segments are to share.
#[derive(Debug)]
struct Making {
    segments: Vec<u64>,
    filter: JoinHandle<io::Result<Filter>>,
}

fn shared_by(tables: &[Arc<Rows>]) -> io::Result<Filter> {
    let ids: u64 = tables.iter().map(|rows| rows.count).sum();
    let mut filter = Filter::sized(ids as usize, IN_A_SHARED_BLOCK);
    tables.iter().try_for_each(|rows| rows.each(|id| filter.insert(id)))?;
    Ok(filter)
}

/// Ids of a segment on their way into a table.
#[derive(Debug)]
pub(super) struct Sealing {
    pub segment: u64,
    newest: Timestamp,
    ids: Arc<Recent>,
    writing: Option<JoinHandle<io::Result<Table>>>,
}

/// The hash of a hash.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("ids are numbers");
    }
    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Print {
    pub fn of(feed: &str, id: &str, content: Content<'_>) -> Self {
        let mut hash = Sha256::new();
        hash.update(feed);
        hash.update([0]); // no name holds it
        hash.update(id);
        let id: [u8; 32] = hash.finalize().into();
        Self { id: u128::from_be_bytes(first(&id)), content: u64::from_be_bytes(first(&content.hash())) }
    }
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    *hash.first_chunk().expect("a hash has 32 bytes")
}

/// The ids of a segment that is written no more.
#[derive(Debug)]
pub(super) struct Table {
    pub segment: u64,
    pub newest: Timestamp,
    /// Of the file.
    pub bytes: u64,
    rows: Arc<Rows>,
    filter: Filter,
    /// One that holds the ids of its neighbours too.
    shared: Option<Arc<Filter>>,
}

/// Where the rows of a table stand.
#[derive(Debug)]
struct Rows {
    path: PathBuf,
    at: u64,
    count: u64,
}

impl Table {
    /// Writes the table of a sealed segment to stay, and with it the segment's index, which stands there already.
    fn write(folder: &Folder, segment: u64, ids: &Recent, newest: Timestamp) -> io::Result<Self> {
        let bytes = Self::encode(ids, newest);
        File::open(folder.file(segment, INDEX))?.sync_all()?;
        folder.replace(segment, IDS, &bytes)?;
        let table = Self::open(folder.file(segment, IDS), segment)?;
        mark::remove(&folder.file(segment, LOG));
        table.ok_or_else(|| io::Error::other("the table of ids is damaged"))
    }

    /// The bytes of a table file.
    pub fn encode(ids: &Recent, newest: Timestamp) -> Vec<u8> {
        let mut rows: Vec<(u128, Known)> = ids.iter().map(|(&id, &known)| (id, known)).collect();
        rows.sort_unstable_by_key(|&(id, _)| id);
        let mut filter = Filter::sized(rows.len(), IN_A_BLOCK);
        rows.iter().for_each(|&(id, _)| filter.insert(id));
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        out.extend_from_slice(&newest.0.to_le_bytes());
        out.extend_from_slice(&(filter.words().len() as u64).to_le_bytes());
        for word in filter.words() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        for (id, known) in rows {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&known.content.to_le_bytes());
            out.extend_from_slice(&known.offset.to_le_bytes());
        }
        out
    }

    /// Opens a table file, reading no more than its filter; `None` if it is damaged.
    pub fn open(path: PathBuf, segment: u64) -> io::Result<Option<Self>> {
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        let mut head = vec![0; 32.min(usize::try_from(bytes).unwrap_or(32))];
        file.read_exact_at(&mut head, 0)?;
        let Some((count, newest, words)) = read_head(&head) else { return Ok(None) };
        let filter_bytes = words.saturating_mul(8).saturating_add(4);
        if count.saturating_mul(ROW as u64).saturating_add(filter_bytes).saturating_add(32) != bytes {
            return Ok(None);
        }
        let mut rest = vec![0; filter_bytes as usize];
        file.read_exact_at(&mut rest, 32)?;
        head.extend_from_slice(&rest);
        let rows = Arc::new(Rows { path, at: bytes - count * ROW as u64, count });
        Ok(read_filter(&head).map(|filter| Self { segment, newest, bytes, rows, filter, shared: None }))
    }
}

impl Rows {
    /// Ids are hashes, so that their places can be guessed: two or three reads, however large the table.
    fn find(&self, id: u128) -> io::Result<Option<Known>> {
        let file = File::open(&self.path)?;
        let mut rows = 0..self.count;
        let mut between = 0..u128::MAX;
        while !rows.is_empty() {
            let part = (id - between.start) as f64 / (between.end - between.start) as f64;
            let guess = rows.start + (part * (rows.end - rows.start) as f64) as u64;
            let first = guess.saturating_sub(READ / 2).clamp(rows.start, rows.end - 1);
            let mut bytes = vec![0; (READ.min(rows.end - first) as usize) * ROW];
            file.read_exact_at(&mut bytes, self.at + first * ROW as u64)?;
            let (read, _) = bytes.as_chunks::<ROW>();
            let of = |row: Option<&[u8; ROW]>| row.map_or(0, |row| read_row(row).0);
            let (lowest, highest) = (of(read.first()), of(read.last()));
            if id < lowest {
                (rows.end, between.end) = (first, lowest);
            } else if id > highest {
                (rows.start, between.start) = (first + read.len() as u64, highest);
            } else {
                let found = read.binary_search_by_key(&id, |row| read_row(row).0);
                return Ok(found.ok().map(|n| read_row(&read[n]).1));
            }
        }
        Ok(None)
    }

    /// Calls for each id.
    fn each(&self, mut call: impl FnMut(u128)) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut rows = BufReader::with_capacity(1 << 20, file);
        let mut row = [0; ROW];
        for _ in 0..self.count {
            rows.read_exact(&mut row)?;
            call(read_row(&row).0);
        }
        Ok(())
    }
}

fn read_head(bytes: &[u8]) -> Option<(u64, Timestamp, u64)> {
    let mut rest = Cursor(bytes);
    if rest.take(8)? != MAGIC {
        return None;
    }
    Some((rest.u64()?, Timestamp(rest.u64()? as i64), rest.u64()?))
}

/// From the start of a file up to the checksum.
fn read_filter(bytes: &[u8]) -> Option<Filter> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let whole = crc32fast::hash(body) == u32::from_le_bytes(*crc);
    Filter::read(body.get(32..)?).filter(|_| whole)
}

fn read_row(row: &[u8; ROW]) -> (u128, Known) {
    let (id, rest) = row.split_first_chunk::<16>().expect("a row has 32 bytes");
    let mut rest = Cursor(rest);
    let mut number = || rest.u64().expect("a row has 32 bytes");
    (u128::from_be_bytes(*id), Known { content: number(), offset: number() })
}

#[cfg(test)]
mod tests {
    use super::super::record::View;
    use super::*;
    use std::ops::Range;

    fn hash(n: u64) -> u128 {
        u128::from_be_bytes(first(&Sha256::digest(n.to_le_bytes()).into()))
    }

    fn table(dir: &std::path::Path, ids: Range<u64>) -> Table {
        table_of(dir, 1, ids.map(|n| (hash(n), Known { content: n + 1, offset: n })).collect())
    }

    fn table_of(dir: &std::path::Path, segment: u64, ids: Recent) -> Table {
        let path = dir.join(format!("{segment}.ids"));
        std::fs::write(&path, Table::encode(&ids, Timestamp(5))).unwrap();
        Table::open(path, segment).unwrap().unwrap()
    }

    #[test]
    fn every_id_of_a_table_is_found_and_few_others_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let table = table(dir.path(), 0..5_000);
        assert_eq!((table.rows.count, table.newest), (5_000, Timestamp(5)));
        for n in 0..5_000 {
            assert!(table.filter.may_hold(hash(n)));
            assert_eq!(table.rows.find(hash(n)).unwrap(), Some(Known { content: n + 1, offset: n }));
        }
        assert_eq!(table.rows.find(hash(5_001)).unwrap(), None);
        let looked_for = (5_000..25_000).filter(|&n| table.filter.may_hold(hash(n))).count();
        assert!(looked_for < 40, "{looked_for} of 20,000");
    }

    #[test]
    fn tables_that_share_a_filter_know_together_what_each_of_them_knows() {
        const TABLES: u64 = 2 * SHARING as u64 + 3;
        let dir = tempfile::tempdir().unwrap();
        // Each repeats half of the ids of the one before.
        let ids_of = |table: u64| (table * 50..table * 50 + 100).map(hash);
        let known = |table: u64| Known { content: table, offset: table };
        let tables = (0..TABLES).map(|n| table_of(dir.path(), n, ids_of(n).map(|id| (id, known(n))).collect()));
        let mut ids = Ids::new(Recent::default(), tables.collect());
        let asked: Vec<u128> = (0..3_000).map(hash).collect();
        let knows = |ids: &Ids, tables: Range<u64>| {
            let expected: Recent = tables.flat_map(|n| ids_of(n).map(move |id| (id, known(n)))).collect();
            assert_eq!(ids.older(asked.iter().copied()).unwrap(), expected);
        };
        knows(&ids, 0..TABLES);
        let alone = |ids: &Ids| ids.tables.iter().filter(|table| table.shared.is_none()).count();
        while alone(&ids) >= SHARING || ids.making.is_some() {
            ids.share();
            std::thread::yield_now();
        }
        assert_eq!(alone(&ids), 3);
        knows(&ids, 0..TABLES);
        // Those that are forgotten leave the filter of the others as it is.
        ids.tables.drain(..5);
        knows(&ids, 5..TABLES);
        ids.share();
        assert!(ids.making.is_none());
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let opened = table(dir.path(), 0..3);
        let bytes = std::fs::read(&opened.rows.path).unwrap();
        for at in 0..bytes.len() - 3 * ROW {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            std::fs::write(&opened.rows.path, &wrong).unwrap();
            assert!(Table::open(opened.rows.path.clone(), 1).unwrap().is_none(), "byte {at}");
        }
        for length in 0..bytes.len() {
            std::fs::write(&opened.rows.path, &bytes[..length]).unwrap();
            assert!(Table::open(opened.rows.path.clone(), 1).unwrap().is_none(), "cut at {length}");
        }
    }

    #[test]
    fn the_content_tells_every_attribute_apart_that_a_repeat_must_share() {
        let view = |source, kind, subject, data| View {
            stamp: super::super::record::Stamp { more: false, base: 0, offset: 0, published: Timestamp(0) },
            feed: "f",
            id: "1",
            source,
            kind,
            subject,
            time: None,
            extensions: Vec::new(),
            data,
        };
        let all = [
            view("s", "t", None, b"{}"),
            view("st", "", None, b"{}"),
            view("s", "t", Some(""), b"{}"),
            view("s", "t", Some("x"), b"{}"),
            view("s", "t", None, b"{ }"),
        ];
        let content = |view: &View<'_>| Print::of(view.feed, view.id, view.into()).content;
        let contents: std::collections::HashSet<u64> = all.iter().map(content).collect();
        assert_eq!(contents.len(), all.len());
    }
}
