//! Work that was begun and must be finished as it was begun: units of requests, and append plans
//! that hold their bytes. Stored durably before the first byte leaves the node.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{Event, EventRef};
use crate::id::{Offset, Revision, Timestamp};
use crate::ports::Rows;

/// What a target has begun. One value per target; a new one replaces the old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Requests(Vec<Unit>),
    File(Box<FileWork>),
}

/// The events of one request and the revision of the recipe that shapes it, over every retry and restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub revision: Revision,
    /// Ascending, not necessarily without gaps: a batch leaves out events whose key is busy. Shared: what is begun is
    /// stored again with all that is begun after it.
    #[serde(with = "runs")]
    pub offsets: Arc<[Offset]>,
    /// The dead letter that this delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<u64>,
    /// What the partner said that it begins new work with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seal: u32,
}

fn is_zero(seal: &u32) -> bool {
    *seal == 0
}

/// Ascending offsets as they are stored: one by itself as its number, neighbours as `[first, last]`.
mod runs {
    use std::sync::Arc;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::id::Offset;

    /// No unit has more events.
    const MOST: Offset = 1 << 24;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Run {
        One(Offset),
        All([Offset; 2]),
    }

    pub fn serialize<S: Serializer>(offsets: &[Offset], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(offsets.chunk_by(|before, next| before.checked_add(1) == Some(*next)).map(
            |run| match run {
                [one] => Run::One(*one),
                _ => Run::All([run[0], run[run.len() - 1]]),
            },
        ))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Offset]>, D::Error> {
        let mut offsets = Vec::new();
        for run in Vec::<Run>::deserialize(deserializer)? {
            match run {
                Run::One(offset) => offsets.push(offset),
                Run::All([first, last]) if first <= last && last - first < MOST => offsets.extend(first..=last),
                Run::All(_) => return Err(D::Error::custom("offsets of a unit that can't be")),
            }
        }
        Ok(offsets.into())
    }
}

/// A write to a partner's file: the last one of its target, open or settled.
/// It is open while any of its events is unsettled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWork {
    pub plan: Plan,
    /// A new file stands complete under its temporary name: from here on the rename may have happened.
    pub ready: bool,
}

impl FileWork {
    /// Of a target that has written nothing yet.
    pub fn nothing() -> Self {
        let place = Place { host: String::new(), port: 0, user: String::new(), path: String::new() };
        let plan = Plan {
            place,
            revision: 0,
            planned_at: Timestamp::default(),
            file_offset: 0,
            new_file: false,
            anchor: [0; 32],
            bytes: Bytes::new(),
            lead: 0,
            rows: Arc::default(),
            letter: None,
        };
        Self { plan, ready: false }
    }
}

/// Where a file is. Empty `host` and `user` and port 0 mean this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub path: String,
}

/// One planned write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub place: Place,
    pub revision: Revision,
    /// The moment used for the dates in the path.
    pub planned_at: Timestamp,
    /// Where in the file the bytes go.
    pub file_offset: u64,
    /// The file did not exist: write under a temporary name, then rename.
    pub new_file: bool,
    /// SHA-256 of the last 64 KiB (or fewer) before `file_offset`.
    pub anchor: [u8; 32],
    /// The bytes themselves. Recovery uses these and never encodes again.
    pub bytes: Bytes,
    /// Bytes before the first row: a line end that the file lacked, or a header.
    pub lead: u32,
    /// The events, with the length of each one's row, in order. Shared: a plan is passed on often.
    pub rows: Arc<[Row]>,
    /// The dead letter that this delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub offset: Offset,
    pub id: String,
    pub published: Timestamp,
    pub length: u32,
    /// Of its bytes. Not stored, because they are: made with the bytes, where that holds nobody up.
    #[serde(skip)]
    pub sha256: [u8; 32],
}

impl From<&Row> for EventRef {
    fn from(row: &Row) -> Self {
        Self { offset: row.offset, id: row.id.clone() }
    }
}

impl Row {
    /// Of each of the events.
    pub fn of(events: &[Event], rows: &Rows) -> Vec<Self> {
        let mut rest = &rows.bytes[..];
        let row = |(event, &length): (&Event, &u32)| {
            let (bytes, later) = rest.split_at((length as usize).min(rest.len()));
            rest = later;
            let Event { offset, id, published, .. } = event;
            let (id, sha256) = (id.clone(), Sha256::digest(bytes).into());
            Self { offset: *offset, id, published: *published, length, sha256 }
        };
        events.iter().zip(&rows.lengths).map(row).collect()
    }
}

impl Plan {
    /// Each row with its place in the file and its bytes (empty if the plan is inconsistent).
    pub fn pieces(&self) -> impl Iterator<Item = (&Row, u64, &[u8])> {
        let mut at = self.lead as usize;
        self.rows.iter().map(move |row| {
            let start = at;
            at += row.length as usize;
            (row, self.file_offset.saturating_add(start as u64), self.bytes.get(start..at).unwrap_or_default())
        })
    }

    /// How many of its bytes are those of events before this one.
    pub fn length_before(&self, offset: Offset) -> usize {
        match self.rows.partition_point(|row| row.offset < offset) {
            0 => 0,
            rows => self.lead as usize + self.rows[..rows].iter().map(|row| row.length as usize).sum::<usize>(),
        }
    }

    /// Fills in what is not stored of its rows.
    pub fn hash_rows(&mut self) {
        let hashed = |(row, _, bytes): (&Row, u64, &[u8])| Row { sha256: Sha256::digest(bytes).into(), ..row.clone() };
        self.rows = self.pieces().map(hashed).collect();
    }

    /// Where the file ends when the plan has been carried out and nobody else wrote.
    pub fn end(&self) -> u64 {
        self.file_offset + self.bytes.len() as u64
    }
}
