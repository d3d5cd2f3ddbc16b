//! The audit journal: `<data>/audit/<first seq, 20 digits>.ndjson`, one record a line, each line ended by
//! `\n`. A line without its newline is the leaf of a Merkle tree that can be laid over the journal later.
//! It knows lines and numbers; what a record says is `record.rs`, when one is written is `writer.rs`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hms_actors::failure::Failure;
use serde::Deserialize;

use super::file::{AppendError, Appender, Health, at, sync_dir};
use super::group::lock;
use super::segments::{Lines, Reader, Segment};
use crate::mark;

/// The writing end. There is one, on the ledger's thread.
pub(super) struct Journal {
    dir: PathBuf,
    active: Appender,
    /// A segment of this size is followed by a new one.
    roll_at: u64,
    next: u64,
    segments: Arc<Mutex<Vec<Segment>>>,
    health: Health,
}

impl Journal {
    /// Opens the journal, cuts a torn last line (nobody has seen it) and refuses any other damage in the
    /// active segment. Sealed segments are checked when they are read.
    pub fn open(dir: &Path, roll_at: u64, health: Health) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|e| at(dir, "create", &e))?;
        let mut firsts = first_seqs(dir)?;
        if firsts.is_empty() {
            firsts.push(0);
        }
        let first = firsts.pop().expect("one was pushed if there was none");
        let path = segment_path(dir, first);
        refuse_missing(dir, &path)?;
        let (lines, length) = if path.exists() { scan_active(&path, first)? } else { Default::default() };
        let mut active = Appender::open(&path, health.clone())?;
        if length < active.marked() {
            return Err(cut_short(&path, length, active.marked()));
        }
        if length < active.synced() {
            tracing::warn!("{}: the torn last line was cut at byte {length}", path.display());
        }
        active.cut(length)?;
        sync_dir(dir).map_err(|e| at(dir, "sync", &e))?;
        let next = first + lines.count;
        let mut segments: Vec<_> = firsts.into_iter().map(|first| Segment::sealed(dir, first)).collect();
        segments.push(Segment { first, path, length, lines: Some(lines) });
        Ok(Self { dir: dir.to_owned(), active, roll_at, next, segments: Arc::new(Mutex::new(segments)), health })
    }

    /// Appends complete lines (each with its newline) and syncs them.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        if self.active.synced() >= self.roll_at {
            self.roll();
        }
        let start = self.active.append(&[lines])?;
        let mut segments = lock(&self.segments);
        let segment = segments.last_mut().expect("there is always an active segment");
        let known = segment.lines.get_or_insert_default();
        known.add(lines, start);
        segment.length = start + lines.len() as u64;
        self.next = segment.first + known.count;
        Ok(())
    }

    /// Begins a new segment. If that fails the old one just goes on growing: no record waits for it.
    pub fn roll(&mut self) {
        if self.active.synced() == 0 {
            return;
        }
        let path = segment_path(&self.dir, self.next);
        let created = fs::File::open(&self.dir).map_err(|e| at(&self.dir, "open", &e)).and_then(|dir| {
            let file = Appender::open(&path, self.health.clone())?;
            dir.sync_all().map_err(|e| at(&self.dir, "sync", &e))?;
            Ok(file)
        });
        match created {
            Ok(file) => {
                let sealed = std::mem::replace(&mut self.active, file);
                mark::remove(sealed.path());
                let lines = Some(Lines::default());
                lock(&self.segments).push(Segment { first: self.next, path, length: 0, lines });
            }
            Err(failure) => {
                tracing::warn!("no new audit segment yet: {failure}");
                // A file with this number would say that the old one ends here.
                mark::remove(&path);
                let _ = fs::remove_file(&path);
            }
        }
    }

    pub fn reader(&self) -> Reader {
        Reader::new(self.segments.clone())
    }
}

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.ndjson"))
}

/// Which files there are, by their first records.
pub(super) fn first_seqs(dir: &Path) -> Result<Vec<u64>, Failure> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| at(dir, "list", &e))? {
        let name = entry.map_err(|e| at(dir, "list", &e))?.file_name();
        firsts.extend(name.to_str().and_then(|name| numbered(name, ".ndjson")));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The number in a name of 20 digits and this ending.
pub(super) fn numbered(name: &str, ending: &str) -> Option<u64> {
    name.strip_suffix(ending).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// A mark without its file: what was written last is gone.
fn refuse_missing(dir: &Path, active: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(dir).map_err(|e| at(dir, "list", &e))? {
        let mark = entry.map_err(|e| at(dir, "list", &e))?.path();
        let later = mark.extension().is_some_and(|extension| extension == "mark") && mark >= mark::path_of(active);
        let journal = mark.with_extension("");
        if later && !journal.exists() {
            return Err(lost(&journal, "is missing"));
        }
    }
    Ok(())
}

fn cut_short(path: &Path, length: u64, marked: u64) -> Failure {
    lost(path, &format!("is whole only up to byte {length}, though {marked} bytes of it were on disk to stay"))
}

/// Nothing is forgotten unless a human says so, by removing the mark.
fn lost(path: &Path, how: &str) -> Failure {
    let mark = mark::path_of(path);
    Failure::node(format!(
        "{} {how}. The audit proves what was delivered, so nothing is dropped by itself: restore the file from a backup. \
         Without one, what the lost records tell of may be sent twice; to go on all the same: rm {}",
        path.display(),
        mark.display()
    ))
}

/// The whole lines of the active segment and the length that they take.
fn scan_active(path: &Path, first: u64) -> Result<(Lines, u64), Failure> {
    let file = fs::File::open(path).map_err(|e| at(path, "open", &e))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut lines, mut length, mut line) = (Lines::default(), 0u64, Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|e| at(path, "read", &e))? == 0 {
            return Ok((lines, length));
        }
        match check(&line, first + lines.count) {
            Ok(()) => lines.add(&line, length),
            Err(_) if at_end(&mut reader, path)? => return Ok((lines, length)),
            Err(why) => return Err(damaged(path, lines.count + 1, Some(length), &why)),
        }
        length += line.len() as u64;
    }
}

fn at_end(reader: &mut impl BufRead, path: &Path) -> Result<bool, Failure> {
    Ok(reader.fill_buf().map_err(|e| at(path, "read", &e))?.is_empty())
}

/// Whether these are the bytes of a whole line with this number.
fn check(line: &[u8], seq: u64) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Head {
        seq: u64,
    }
    let line = line.strip_suffix(b"\n").ok_or("the line has no end")?;
    let head: Head = serde_json::from_slice(line).map_err(|e| format!("not a record: {e}"))?;
    if head.seq == seq { Ok(()) } else { Err(format!("seq is {}, expected {seq}", head.seq)) }
}

/// Damage that no crash of this program leaves behind.
pub(super) fn damaged(path: &Path, line: u64, byte: Option<u64>, why: &str) -> Failure {
    let cut = byte.map_or(String::new(), |byte| {
        format!(
            ", or, if the machine has just lost power and these are its last moments, cut it: truncate -s {byte} {}; rm {}",
            path.display(),
            mark::path_of(path).display()
        )
    });
    Failure::node(format!(
        "{} is damaged at line {line}: {why}. The audit proves what was delivered, so nothing is dropped by \
         itself: restore the file from a backup{cut}",
        path.display()
    ))
}
