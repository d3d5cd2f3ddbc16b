//! Looks at a partner's file on behalf of an open plan.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::ANCHOR;
use super::recover::{Range, Seen};
use super::write::temporary_name;
use crate::failure::Failure;
use crate::id::Timestamp;
use crate::ports::{FileHost, FilePartner};
use crate::work::{FileWork, Plan};

/// How far a file that grew is searched for rows of ours. More than this is not looked at, but doubted.
const FAR: usize = 64 * 1024 * 1024;

/// One request's worth of reading.
const PIECE: usize = 1024 * 1024;

/// `settled` says how many of the plan's first bytes are: rows that stood there once.
pub(super) async fn at(
    host: &mut dyn FileHost,
    work: &FileWork,
    settled: usize,
    partner: &dyn FilePartner,
    moment: Timestamp,
) -> Result<Seen, Failure> {
    let plan = &work.plan;
    let path = &plan.place.path;
    let length = host.length(path).await?;
    let temporary = plan.new_file && host.length(&temporary_name(path)).await?.is_some();
    let mut seen = Seen {
        length,
        cut: length.is_some_and(|length| length < plan.file_offset + settled as u64),
        anchor_matches: false,
        range: Range::Nothing,
        temporary,
        date_passed: date_passed(plan, partner, moment),
    };
    if let Some(length) = length.filter(|&length| length >= plan.file_offset) {
        seen.anchor_matches = before(host, path, plan.file_offset).await?.anchor == plan.anchor;
        seen.range = range(host, plan, length).await?;
    }
    Ok(seen)
}

/// What stands before an offset.
#[derive(Debug, Clone)]
pub(super) struct Before {
    /// SHA-256 of the last 64 KiB.
    pub anchor: [u8; 32],
    /// Whether that ends a line. The start of a file does not.
    pub ends_line: bool,
}

pub(super) async fn before(host: &mut dyn FileHost, path: &str, offset: u64) -> Result<Before, Failure> {
    let length = offset.min(ANCHOR);
    let bytes = if length == 0 { Vec::new() } else { host.read(path, offset - length, length as usize).await? };
    Ok(Before { anchor: Sha256::digest(&bytes).into(), ends_line: bytes.ends_with(b"\n") })
}

fn date_passed(plan: &Plan, partner: &dyn FilePartner, moment: Timestamp) -> bool {
    let (Some(first), Some(last)) = (plan.rows.first(), plan.rows.last()) else { return false };
    partner.place(moment, (first.offset, last.offset)).is_ok_and(|place| place.path != plan.place.path)
}

async fn range(host: &mut dyn FileHost, plan: &Plan, length: u64) -> Result<Range, Failure> {
    let there = usize::try_from(length - plan.file_offset).unwrap_or(usize::MAX);
    if there == 0 {
        return Ok(Range::Nothing);
    }
    if there > FAR.max(plan.bytes.len()) {
        let start = read(host, plan, plan.bytes.len()).await?;
        return Ok(if start == plan.bytes { Range::AllOurs } else { Range::Mixed });
    }
    let found = read(host, plan, there).await?;
    Ok(if found.starts_with(&plan.bytes) {
        Range::AllOurs
    } else if plan.bytes.starts_with(&found) {
        Range::PrefixOfOurs
    } else if holds_a_row_of(plan, &found) {
        Range::Mixed
    } else {
        Range::Foreign
    })
}

async fn read(host: &mut dyn FileHost, plan: &Plan, length: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let piece = PIECE.min(length - bytes.len());
        let read = host.read(&plan.place.path, plan.file_offset + bytes.len() as u64, piece).await?;
        if read.is_empty() {
            break;
        }
        bytes.extend_from_slice(&read);
    }
    Ok(bytes)
}

/// Whether any row of ours stands as a whole line in what was found.
fn holds_a_row_of(plan: &Plan, found: &[u8]) -> bool {
    let strip = |line: &[u8]| line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l)).to_vec();
    // A quoted value may hold line ends: the row's first line stands for it.
    let first_line = |bytes: &[u8]| bytes.split_inclusive(|&b| b == b'\n').next().map(strip);
    let ours: HashSet<Vec<u8>> = plan.pieces().filter_map(|(_, _, bytes)| first_line(bytes)).collect();
    found.split_inclusive(|&b| b == b'\n').any(|line| ours.contains(&strip(line)))
}
