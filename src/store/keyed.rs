//! A journal of values by number, the last one wins: begun work and dead letters' copies of events.
//! Append-only, checksummed, synced in groups; rewritten when most of it is garbage. It does not know what
//! the values mean (`work.rs` does), and keeps only their places in memory.
//!
//! A file is a row of frames; numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `HMSK` |
//! | 4 | length of the value |
//! | 4 | CRC-32 of all that follows |
//! | 8 | how much of the file was synced when this frame was written |
//! | 8 | the key |
//! | 1 | 1 = value, 0 = removed (no value) |
//! | n | the value |
//!
//! Behind the last frame there may be room ahead (`ahead.rs`), in zeros.
//!
//! The synced length tells torn from damaged: a bad frame is the torn end of a group that nobody was
//! promised, unless a later frame says that it had been synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hms_actors::failure::Failure;

use super::file::{Appender, Health, at, sync_dir};
use super::group::Log;
use crate::mark;

/// Checked on the journal's thread, in the order of the writes.
pub(super) type Guard = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

pub(super) enum Job {
    /// Stores the values if the guard lets it; all of them or none.
    Put {
        values: Vec<(u64, Value)>,
        guard: Option<Guard>,
    },
    Remove(Vec<u64>),
    /// The value after all jobs before this one.
    Get(u64),
}

/// What is stored under a key. The bulk of it, at its end, is shared with whoever stores it and goes to the file from there:
/// an append plan has 8 MiB of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub head: Vec<u8>,
    pub bulk: Bytes,
}

pub(super) struct Keyed {
    file: Appender,
    places: BTreeMap<u64, Place>,
    live: u64,
    /// Garbage below this is left alone.
    compact_above: u64,
    health: Health,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u32,
}

const MAGIC: &[u8; 4] = b"HMSK";
const HEAD: usize = 29;
const MAX_VALUE: usize = 1 << 30;
/// A bulk that is smaller is copied: a write of its own would cost more.
const LARGE: usize = 1 << 16;

impl Keyed {
    /// Opens or creates the journal and cuts a torn end. Damage before it is refused.
    pub fn open(path: &Path, compact_above: u64, health: Health) -> Result<Self, Failure> {
        // A rewrite that was not finished; the file itself is whole.
        match fs::remove_file(temporary(path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(path, "tidy up beside", &e)),
            _ => mark::remove(&temporary(path)),
        }
        let journal = Self::load(path, compact_above, health)?;
        let dir = folder(path);
        sync_dir(dir).map_err(|e| at(dir, "sync", &e))?;
        Ok(journal)
    }

    fn load(path: &Path, compact_above: u64, health: Health) -> Result<Self, Failure> {
        let file = Appender::open_with_room(path, health.clone())?;
        let mut journal = Self { file, places: BTreeMap::new(), live: 0, compact_above, health };
        let end = journal.replay()?;
        if end < journal.file.marked() {
            return Err(cut_short(path, end, journal.file.marked()));
        }
        if journal.rest(end)?.iter().any(|&byte| byte != 0) {
            tracing::warn!("{}: the torn end was cut at byte {end}", path.display());
        }
        journal.file.cut(end)?;
        Ok(journal)
    }

    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.places.keys().copied()
    }

    /// Removes the values that nobody refers to any more. On a full disk they stay: they are in nobody's way.
    pub fn retain(&mut self, lives: &BTreeSet<u64>) {
        let orphans: Vec<u64> = self.keys().filter(|key| !lives.contains(key)).collect();
        if orphans.is_empty() {
            return;
        }
        for failure in self.commit(vec![Job::Remove(orphans)]).into_iter().filter_map(Result::err) {
            tracing::warn!("values that nobody needs are still stored: {failure}");
        }
    }

    pub fn get(&self, key: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.places.get(&key).map(|place| self.file.read(place.offset, place.length as usize)).transpose()
    }

    /// Reads all whole frames; returns where they end.
    fn replay(&mut self) -> Result<u64, Failure> {
        let path = self.file.path().to_owned();
        let file = File::open(&path).map_err(|e| at(&path, "open", &e))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut end = 0u64;
        loop {
            let left = self.file.synced() - end;
            match read_frame(&mut reader, left).map_err(|e| at(&path, "read", &e))? {
                Some(frame) => {
                    self.note(frame.key, frame.present.then_some(frame.place(end)));
                    end += frame.length();
                }
                None if left > 0 && self.was_synced_beyond(end)? => return Err(damaged(&path, end)),
                None => return Ok(end),
            }
        }
    }

    /// What the file holds from there on.
    fn rest(&self, from: u64) -> Result<Vec<u8>, Failure> {
        self.file.read(from, (self.file.synced() - from) as usize)
    }

    /// Whether a whole frame after `bad` says that `bad` had been synced.
    fn was_synced_beyond(&self, bad: u64) -> Result<bool, Failure> {
        let rest = self.rest(bad)?;
        let frames = (1..rest.len()).filter(|&i| rest[i..].starts_with(MAGIC));
        for start in frames {
            let mut tail = &rest[start..];
            let left = tail.len() as u64;
            if let Ok(Some(frame)) = read_frame(&mut tail, left)
                && frame.synced > bad
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note(&mut self, key: u64, place: Option<Place>) {
        let size = |place: Place| HEAD as u64 + u64::from(place.length);
        let old = match place {
            Some(place) => {
                self.live += size(place);
                self.places.insert(key, place)
            }
            None => self.places.remove(&key),
        };
        self.live -= old.map_or(0, size);
    }

    /// Rewrites the live values if garbage dominates.
    fn compact_if_worth_it(&mut self) {
        let garbage = self.file.synced() - self.live;
        if garbage <= self.compact_above.max(self.live) {
            return;
        }
        match self.compacted() {
            Ok((compacted, dir)) => self.give_way_to(compacted, &dir),
            Err(failure) => {
                // The old file stays in use. Not tried again with every write: only when there is twice as much to gain.
                self.compact_above = garbage * 2;
                tracing::warn!("{} was not compacted: {failure}", self.file.path().display());
                // Best effort: the next start removes it too.
                let temporary = temporary(self.file.path());
                let _ = fs::remove_file(&temporary);
                mark::remove(&temporary);
            }
        }
    }

    /// The live values in a journal of their own, open, with the folder that both stand in.
    fn compacted(&self) -> Result<(Self, File), Failure> {
        let path = self.file.path();
        let temporary = temporary(path);
        self.write_live(&temporary)?;
        let dir = File::open(folder(path)).map_err(|e| at(folder(path), "open", &e))?;
        Ok((Self::load(&temporary, self.compact_above, self.health.clone())?, dir))
    }

    fn give_way_to(&mut self, mut compacted: Self, dir: &File) {
        match compacted.file.replace(&self.file, dir) {
            Ok(()) => {
                compacted.file.succeed(&mut self.file);
                *self = compacted;
            }
            // The old file may have lost its name: nothing more may go into it.
            Err(error) => self.health.fail(&at(self.file.path(), "replace", &error).message),
        }
    }

    fn write_live(&self, temporary: &Path) -> Result<(), Failure> {
        let failed = |e| at(temporary, "write", &e);
        let mut out = BufWriter::new(File::create(temporary).map_err(failed)?);
        let mut written = 0;
        for (&key, place) in &self.places {
            let value = self.file.read(place.offset, place.length as usize)?;
            let mut frame = Vec::with_capacity(HEAD + value.len());
            // All before it is synced by the time the file has its name.
            push_frame(&mut frame, written, key, Some(&value));
            out.write_all(&frame).map_err(failed)?;
            written += frame.len() as u64;
        }
        out.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)
    }
}

impl Log for Keyed {
    type Job = Job;
    type Answer = Option<Vec<u8>>;

    fn commit(&mut self, jobs: Vec<Job>) -> Vec<Result<Option<Vec<u8>>, Failure>> {
        let mut group = Group::after(self.file.synced());
        let drafted: Vec<_> = jobs.into_iter().map(|job| group.draft(job)).collect();
        let places = std::mem::take(&mut group.places);
        let written = match group.pieces() {
            pieces if pieces.is_empty() => Ok(()),
            pieces => self.file.append(&pieces).map(drop).map_err(Failure::from),
        };
        if written.is_ok() {
            places.into_iter().for_each(|(key, place)| self.note(key, place));
        }
        let answer = |drafted: Result<Drafted, Failure>| match drafted? {
            Drafted::Write => written.clone().map(|()| None),
            Drafted::Read(key) => self.get(key),
        };
        drafted.into_iter().map(answer).collect()
    }

    fn tidy(&mut self) {
        self.compact_if_worth_it();
    }
}

enum Drafted {
    Write,
    Read(u64),
}

/// What is written with one sync.
struct Group {
    /// How much of the file is synced, and how far it will go.
    synced: u64,
    end: u64,
    /// The frames in pieces: large values are not copied.
    closed: Vec<Bytes>,
    last: Vec<u8>,
    places: Vec<(u64, Option<Place>)>,
}

impl Group {
    fn after(synced: u64) -> Self {
        Self { synced, end: synced, closed: Vec::new(), last: Vec::new(), places: Vec::new() }
    }

    fn draft(&mut self, job: Job) -> Result<Drafted, Failure> {
        match job {
            Job::Put { values, guard } => {
                if let Some((_, value)) = values.iter().find(|(_, value)| value.len() > MAX_VALUE) {
                    return Err(Failure::node(format!("a value of {} bytes is too big for the store", value.len())));
                }
                guard.map_or(Ok(()), |guard| guard())?;
                values.into_iter().for_each(|(key, value)| self.push(key, Some(value)));
                Ok(Drafted::Write)
            }
            Job::Remove(keys) => {
                keys.into_iter().for_each(|key| self.push(key, None));
                Ok(Drafted::Write)
            }
            Job::Get(key) => Ok(Drafted::Read(key)),
        }
    }

    fn push(&mut self, key: u64, value: Option<Value>) {
        let length = value.as_ref().map_or(0, Value::len);
        let place = Place { offset: self.end + HEAD as u64, length: length as u32 };
        self.places.push((key, value.is_some().then_some(place)));
        self.end += (HEAD + length) as u64;
        let Some(Value { head, bulk }) = value else {
            return push_frame(&mut self.last, self.synced, key, None);
        };
        push_start(&mut self.last, self.synced, key, Some(&head), &bulk);
        if bulk.len() < LARGE {
            self.last.extend_from_slice(&bulk);
        } else {
            self.closed.extend([std::mem::take(&mut self.last).into(), bulk]);
        }
    }

    fn pieces(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.closed.push(self.last.into());
        }
        self.closed
    }
}

impl Value {
    fn len(&self) -> usize {
        self.head.len() + self.bulk.len()
    }
}

impl From<Vec<u8>> for Value {
    fn from(head: Vec<u8>) -> Self {
        Self { head, bulk: Bytes::new() }
    }
}

/// As it is read again.
impl From<Value> for Vec<u8> {
    fn from(Value { mut head, bulk }: Value) -> Self {
        head.extend_from_slice(&bulk);
        head
    }
}

pub(super) fn push_frame(out: &mut Vec<u8>, synced: u64, key: u64, value: Option<&[u8]>) {
    push_start(out, synced, key, value, &[]);
}

/// A frame up to the bulk at its end.
fn push_start(out: &mut Vec<u8>, synced: u64, key: u64, value: Option<&[u8]>, bulk: &[u8]) {
    let head = value.unwrap_or_default();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&((head.len() + bulk.len()) as u32).to_le_bytes());
    let crc_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(&key.to_le_bytes());
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(head);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[crc_at + 4..]);
    crc.update(bulk);
    out[crc_at..crc_at + 4].copy_from_slice(&crc.finalize().to_le_bytes());
}

pub(super) struct Frame {
    synced: u64,
    key: u64,
    present: bool,
    value_length: u32,
}

impl Frame {
    pub fn length(&self) -> u64 {
        HEAD as u64 + u64::from(self.value_length)
    }
    fn place(&self, start: u64) -> Place {
        Place { offset: start + HEAD as u64, length: self.value_length }
    }
}

/// The next frame, or `None` if the `left` bytes do not begin with a whole and sound one.
pub(super) fn read_frame(reader: &mut impl Read, left: u64) -> std::io::Result<Option<Frame>> {
    if left < HEAD as u64 {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    reader.read_exact(&mut head)?;
    let value_length = u32::from_le_bytes(array(&head[4..8]));
    if &head[..4] != MAGIC || u64::from(value_length) > left - HEAD as u64 {
        return Ok(None);
    }
    let mut value = vec![0; value_length as usize];
    reader.read_exact(&mut value)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[12..]);
    crc.update(&value);
    if crc.finalize() != u32::from_le_bytes(array(&head[8..12])) {
        return Ok(None);
    }
    let synced = u64::from_le_bytes(array(&head[12..20]));
    let key = u64::from_le_bytes(array(&head[20..28]));
    Ok(Some(Frame { synced, key, present: head[28] == 1, value_length }))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the range has this length")
}

fn folder(path: &Path) -> &Path {
    path.parent().expect("a journal stands in a folder")
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn damaged(path: &Path, byte: u64) -> Failure {
    let shown = path.display();
    lost(
        path,
        &format!("is damaged at byte {byte}, in what was on disk to stay"),
        &format!("mv {shown} {shown}.damaged; "),
    )
}

fn cut_short(path: &Path, end: u64, marked: u64) -> Failure {
    let how = match end {
        0 => "is missing or empty".to_owned(),
        _ => format!("is whole only up to byte {end}"),
    };
    lost(path, &format!("{how}, though {marked} bytes of it were on disk to stay"), "")
}

/// Nothing is forgotten unless a human says so, by removing the mark.
fn lost(path: &Path, how: &str, aside: &str) -> Failure {
    let mark = mark::path_of(path);
    Failure::node(format!(
        "{} {how}. It holds what was begun at partners, or dead letters' events, so nothing is dropped by itself: \
         restore the file from a backup. Without one, look at what the partners have, then let go of what is lost (a \
         write that was open may be repeated): {aside}rm {}",
        path.display(),
        mark.display()
    ))
}
