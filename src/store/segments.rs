//! Reading the audit: any record by its number, without scanning everything. Only synced records are seen.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hms_actors::failure::Failure;

use super::audit::{damaged, segment_path};
use super::file::at;
use super::group::lock;

/// Every so many lines one position is remembered.
const STRIDE: u64 = 128;

/// One answer holds at most this many bytes (and at least one line).
const MAX_READ: usize = 8 << 20;

/// The reading end; cheap to clone. Its calls block on the disk.
#[derive(Clone)]
pub(super) struct Reader {
    segments: Arc<Mutex<Vec<Segment>>>,
}

/// A file of the journal, as far as it is synced.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub first: u64,
    pub path: PathBuf,
    pub length: u64,
    /// `None` until a sealed segment is read for the first time.
    pub lines: Option<Lines>,
}

impl Segment {
    /// A segment that is followed by another; looked into when it is read.
    pub fn sealed(dir: &Path, first: u64) -> Self {
        Self { first, path: segment_path(dir, first), length: 0, lines: None }
    }
}

/// How many lines a segment has, and where every [`STRIDE`]th begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    pub count: u64,
    marks: Vec<u64>,
}

impl Lines {
    /// Counts lines that stand at `start`.
    pub fn add(&mut self, lines: &[u8], start: u64) {
        let mut position = start;
        for end in memchr::memchr_iter(b'\n', lines) {
            if self.count.is_multiple_of(STRIDE) {
                self.marks.push(position);
            }
            self.count += 1;
            position = start + end as u64 + 1;
        }
    }
}

impl Reader {
    pub fn new(segments: Arc<Mutex<Vec<Segment>>>) -> Self {
        Self { segments }
    }

    /// The oldest record that is kept, if any is.
    pub fn first(&self) -> u64 {
        lock(&self.segments).first().map_or(0, |oldest| oldest.first)
    }

    /// The first record of the file that still grows.
    pub fn active(&self) -> u64 {
        lock(&self.segments).last().map_or(0, |active| active.first)
    }

    /// Copies the records from `seq` on, out of the closed file in which they are, to where they get a file of their own.
    /// False if they have one.
    pub fn cut(&self, seq: u64, to: &Path) -> Result<bool, Failure> {
        let Some((segment, lines)) = self.segment_of(seq)?.filter(|(segment, _)| segment.first < seq) else {
            return Ok(false);
        };
        let mut rest = seek(&segment, &lines, seq).map_err(|e| at(&segment.path, "read", &e))?;
        let copied = File::create(to).and_then(|mut file| {
            std::io::copy(&mut rest, &mut file)?;
            file.sync_all()
        });
        copied.map_err(|e| at(to, "write", &e))?;
        Ok(true)
    }

    /// Records below `seq`, with which a file begins, are not there any more.
    pub fn forget_before(&self, seq: u64, dir: &Path) {
        let mut segments = lock(&self.segments);
        segments.retain(|segment| segment.first >= seq);
        if segments.first().is_none_or(|oldest| oldest.first > seq) {
            segments.insert(0, Segment::sealed(dir, seq));
        }
    }

    /// The number that the next synced record will get.
    pub fn size(&self) -> u64 {
        lock(&self.segments).last().map_or(0, |active| active.first + active.lines.as_ref().map_or(0, |l| l.count))
    }

    /// Exact stored lines without their newlines, from number `from` on, at most `limit` of them. Fewer than
    /// are there when they are big: ask again from where the answer ends.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, Failure> {
        let mut found = Vec::new();
        self.visit(from, limit, |seq, line| found.push((seq, Bytes::copy_from_slice(line))))?;
        Ok(found)
    }

    /// The same without a copy of each line; how many there were.
    pub fn visit(&self, from: u64, limit: usize, mut each: impl FnMut(u64, &[u8])) -> Result<usize, Failure> {
        let (mut visited, mut room) = (0, MAX_READ);
        while visited < limit && room > 0 {
            let seq = from + visited as u64;
            let Some((segment, lines)) = self.segment_of(seq)? else { break };
            match visit_segment(&segment, &lines, seq, limit - visited, &mut room, &mut each) {
                Ok(0) => break,
                Ok(more) => visited += more,
                // Moved out since it was looked for.
                Err(_) if seq < self.first() => break,
                Err(error) => return Err(at(&segment.path, "read", &error)),
            }
        }
        Ok(visited)
    }

    /// A record that was found not to be one.
    pub fn damaged(&self, seq: u64, why: &str) -> Failure {
        let segments = lock(&self.segments);
        let segment = &segments[segments.partition_point(|s| s.first <= seq).saturating_sub(1)];
        damaged(&segment.path, seq.saturating_sub(segment.first) + 1, None, why)
    }

    fn segment_of(&self, seq: u64) -> Result<Option<(Segment, Lines)>, Failure> {
        let (mut segment, next) = {
            let segments = lock(&self.segments);
            let Some(index) = segments.partition_point(|s| s.first <= seq).checked_sub(1) else { return Ok(None) };
            (segments[index].clone(), segments.get(index + 1).map(|s| s.first))
        };
        if let Some(lines) = segment.lines.take() {
            return Ok((seq < segment.first + lines.count).then_some((segment, lines)));
        }
        // Scanned outside the lock: the writer needs it after each sync. Two readers may scan at once.
        let lines = scan_sealed(&mut segment)?;
        if let Some(next) = next.filter(|&next| next != segment.first + lines.count) {
            let why = format!("it has {} records, but the next file begins with record {next}", lines.count);
            return Err(damaged(&segment.path, lines.count, None, &why));
        }
        let mut segments = lock(&self.segments);
        if let Ok(index) = segments.binary_search_by_key(&segment.first, |s| s.first) {
            segments[index] = Segment { lines: Some(lines.clone()), ..segment.clone() };
        }
        Ok(Some((segment, lines)))
    }
}

fn scan_sealed(segment: &mut Segment) -> Result<Lines, Failure> {
    let path = &segment.path;
    let file = File::open(path).map_err(|e| at(path, "open", &e))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut lines, mut line) = (Lines::default(), Vec::new());
    segment.length = 0;
    while reader.read_until(b'\n', &mut line).map_err(|e| at(path, "read", &e))? > 0 {
        lines.add(&line, segment.length);
        segment.length += line.len() as u64;
        line.clear();
    }
    Ok(lines)
}

fn visit_segment(
    segment: &Segment,
    lines: &Lines,
    from: u64,
    limit: usize,
    room: &mut usize,
    each: &mut impl FnMut(u64, &[u8]),
) -> std::io::Result<usize> {
    let mut reader = seek(segment, lines, from)?;
    let (mut visited, mut line) = (0, Vec::new());
    while visited < limit && *room > 0 && reader.read_until(b'\n', &mut line)? > 0 {
        line.pop_if(|last| *last == b'\n');
        *room = room.saturating_sub(line.len());
        each(from + visited as u64, &line);
        line.clear();
        visited += 1;
    }
    Ok(visited)
}

/// What the segment holds from record `seq` on.
fn seek(segment: &Segment, lines: &Lines, seq: u64) -> std::io::Result<BufReader<std::io::Take<File>>> {
    let skip = seq - segment.first;
    let start = lines.marks[(skip / STRIDE) as usize];
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::with_capacity(64 << 10, file.take(segment.length - start));
    for _ in 0..skip % STRIDE {
        reader.skip_until(b'\n')?;
    }
    Ok(reader)
}
