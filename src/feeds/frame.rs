//! Frames and the header of a segment file, and telling a torn tail from damage. What a frame holds is
//! the affair of `record`.
//!
//! A segment file is a header and then frames (integers little-endian):
//!
//! | header | | | frame | |
//! | --- | --- | --- | --- | --- |
//! | 0 | `HMSFEED\n` | | 0 | u32 length of the payload |
//! | 8 | u32 version: 1 | | 4 | u32 CRC-32 of the length's bytes and the payload |
//! | 12 | u64 number of the segment | | 8 | payload |
//! | 20 | u32 CRC-32 of the above | | | |
//!
//! Behind the last frame of the segment that is written there may be room ahead (`ahead.rs`), in zeros.
//!
//! Lengths stay below 2^28, so their last byte is a control character, which neither JSON nor any text of
//! an event can hold: a frame can't be forged inside an event, and looking for the next frame after a
//! damaged one is safe.

use super::record;

const MAGIC: &[u8; 8] = b"HMSFEED\n";
const VERSION: u32 = 1;
pub(super) const HEADER: usize = 24;
/// Bytes of a frame beside its payload.
pub(super) const OVERHEAD: usize = 8;
pub(super) const MAX_PAYLOAD: usize = (1 << 28) - 1;
/// No event's frame is shorter: stamp, four texts, two optional ones, no extensions.
pub(super) const SHORTEST: u64 = OVERHEAD as u64 + 29;

/// Where a frame lies in its segment. `length` is that of the whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub at: usize,
    pub length: usize,
}

/// What a segment file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub frames: Vec<Frame>,
    pub state: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Whole,
    /// The file ends in bytes that were being written when the node died: nobody was told of them.
    Torn {
        end: usize,
    },
    /// Bytes that had been synced can't be read any more.
    Damaged {
        bytes: usize,
    },
}

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Good,
    Bad,
    OtherVersion(u32),
}

/// Whether bad bytes can be what a crash left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// The segment was being written.
    MayBeTorn,
    /// All of it had been synced.
    Synced,
}

pub(super) fn header(number: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&out[..20]);
    out[20..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn check_header(bytes: &[u8], number: u64) -> Header {
    if bytes.starts_with(&header(number)) {
        return Header::Good;
    }
    match bytes.get(..HEADER) {
        Some(head) if head[..8] == *MAGIC && u32_at(head, 20) == crc32fast::hash(&head[..20]) => {
            match u32_at(head, 8) {
                VERSION => Header::Bad, // of another segment
                other => Header::OtherVersion(other),
            }
        }
        _ => Header::Bad,
    }
}

/// Appends a frame around the payload.
pub(super) fn put(out: &mut Vec<u8>, payload: &[u8]) {
    let at = out.len();
    open(out);
    out.extend_from_slice(payload);
    close(&mut out[at..]);
}

/// Appends what stands before a payload, to be filled in when the frame is closed.
pub(super) fn open(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; OVERHEAD]);
}

/// Fills in what stands before the payload.
pub(super) fn close(frame: &mut [u8]) {
    let length = ((frame.len() - OVERHEAD) as u32).to_le_bytes();
    frame[..4].copy_from_slice(&length);
    // The length stands in the checksum's place for a moment: so both parts of what it covers are one.
    frame[4..OVERHEAD].copy_from_slice(&length);
    let crc = crc32fast::hash(&frame[4..]);
    frame[4..OVERHEAD].copy_from_slice(&crc.to_le_bytes());
}

/// The payload of the frame at the start of `bytes`; `None` if there is no whole and valid one.
pub(super) fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..OVERHEAD)?;
    let length = u32_at(head, 0) as usize;
    if length == 0 || length > MAX_PAYLOAD {
        return None;
    }
    let payload = bytes.get(OVERHEAD..OVERHEAD + length)?;
    (checksum(&head[..4], payload) == u32_at(head, 4)).then_some(payload)
}

/// Finds the frames of a whole segment file.
pub(super) fn scan(bytes: &[u8], number: u64, tail: Tail) -> Scan {
    let good_header = check_header(bytes, number) == Header::Good;
    let mut frames = Vec::new();
    let bad_at = if good_header { run_of_frames(bytes, HEADER, &mut frames) } else { 0 };
    let valid_end = if good_header && tail == Tail::MayBeTorn { end_of_requests(bytes, &frames) } else { bad_at };
    if good_header && valid_end == bytes.len() {
        return Scan { frames, state: Condition::Whole };
    }
    if bad_at == bytes.len() && good_header {
        return torn(frames, valid_end);
    }
    let later = salvage(bytes, bad_at + 1);
    let synced_past = |frame: &Frame| base_of(bytes, *frame).is_some_and(|base| base as usize > bad_at);
    if good_header && tail == Tail::MayBeTorn && !later.iter().any(synced_past) {
        return torn(frames, valid_end);
    }
    frames.extend(later);
    let kept: usize = frames.iter().map(|frame| frame.length).sum();
    let end = frames.last().map_or(0, |frame| frame.at + frame.length);
    Scan { frames, state: Condition::Damaged { bytes: written(bytes, end).saturating_sub(HEADER + kept) } }
}

impl Scan {
    /// So many bytes of the file were once synced: where fewer of them are good, that is no torn tail.
    pub fn expect(&mut self, bytes: &[u8], number: u64, synced: u64) {
        let end = match self.state {
            Condition::Whole => bytes.len(),
            Condition::Torn { end } => end,
            Condition::Damaged { .. } => return,
        };
        if (end as u64) < synced {
            *self = scan(bytes, number, Tail::Synced);
            let unread = if let Condition::Damaged { bytes } = self.state { bytes } else { 0 };
            let gone = synced.saturating_sub(written(bytes, end) as u64) as usize;
            self.state = Condition::Damaged { bytes: unread + gone };
        }
    }
}

/// Where the bytes end that were written, `end` of them surely. What follows in zeros is room ahead.
pub(super) fn written(bytes: &[u8], end: usize) -> usize {
    bytes[end..].iter().rposition(|&byte| byte != 0).map_or(end, |last| end + last + 1)
}

fn torn(mut frames: Vec<Frame>, end: usize) -> Scan {
    frames.retain(|frame| frame.at < end);
    Scan { frames, state: Condition::Torn { end } }
}

/// Collects valid frames that follow one another from `at`; where they end.
fn run_of_frames(bytes: &[u8], mut at: usize, frames: &mut Vec<Frame>) -> usize {
    while let Some(payload) = bytes.get(at..).and_then(payload) {
        let length = OVERHEAD + payload.len();
        frames.push(Frame { at, length });
        at += length;
    }
    at
}

/// Valid frames anywhere from `at` on.
fn salvage(bytes: &[u8], mut at: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while at < bytes.len() {
        at = run_of_frames(bytes, at, &mut frames) + 1;
    }
    frames
}

/// Where the last frame ends that completes its request: requests are accepted whole or not at all.
fn end_of_requests(bytes: &[u8], frames: &[Frame]) -> usize {
    let complete = |frame: &&Frame| event_at(bytes, **frame).is_none_or(|view| !view.stamp.more);
    frames.iter().rev().find(complete).map_or(HEADER, |frame| frame.at + frame.length)
}

fn base_of(bytes: &[u8], frame: Frame) -> Option<u32> {
    record::base_of(payload_of(bytes, frame))
}

/// The payload of a frame that `scan` found.
pub(super) fn payload_of(bytes: &[u8], frame: Frame) -> &[u8] {
    &bytes[frame.at + OVERHEAD..frame.at + frame.length]
}

/// The event in a frame that `scan` found.
pub(super) fn event_at(bytes: &[u8], frame: Frame) -> Option<record::View<'_>> {
    record::decode(payload_of(bytes, frame))
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(payload);
    hasher.finalize()
}

/// Four bytes that the caller has checked to be there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
