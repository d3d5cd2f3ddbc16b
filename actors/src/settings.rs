//! Settings of a recipe as the heart needs them: checked, with every default filled in.

use std::sync::Arc;
use std::time::Duration;

use crate::id::{FeedName, Offset, RecipeId, Revision, TargetName};
use crate::policy::circuit::CircuitSettings;
use crate::policy::rate::RateSettings;
use crate::ports::Schedule;

/// A recipe that can run.
#[derive(Debug, Clone)]
pub struct RecipeSettings {
    pub id: RecipeId,
    pub revision: Revision,
    pub feed: FeedName,
    pub schedule: Schedule,
    pub targets: Vec<Arc<TargetSettings>>,
    pub paused: bool,
}

/// One target of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSettings {
    pub name: TargetName,
    /// The recipe's revision in which these settings were last changed.
    pub revision: Revision,
    /// Failed attempts in a row before a human ticket.
    pub retries: u32,
    pub circuit: CircuitSettings,
    pub rate: Option<RateSettings>,
    /// An attempt that takes longer than this hangs: its actor is started again.
    pub patience: Duration,
    pub on_deny: OnDeny,
    pub lane: Lane,
}

/// How deliveries to a target go.
#[derive(Debug, Clone, PartialEq)]
pub enum Lane {
    /// Requests, several in flight, never two that share a key.
    Requests { concurrency: usize, max_events: usize },
    /// Rows of a file, in feed order, one write at a time.
    Files(FileSettings),
}

#[derive(Debug, Clone, PartialEq)]
pub struct FileSettings {
    pub write: WriteMode,
    pub on_doubt: OnDoubt,
    pub line_end: LineEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    Append,
    FilePerBatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDoubt {
    Hold,
    Resend,
}

/// What becomes of an event that a policy says no to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeny {
    /// It waits, with its key (requests) or with all that comes after it (files).
    Hold,
    DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
        }
    }
}

/// A target runs at most this many events ahead of its oldest unsettled one.
pub const MAX_AHEAD: Offset = 100_000;

/// An event is late when it is delivered more than this after its publication.
pub const LATE: Duration = Duration::from_secs(60);
