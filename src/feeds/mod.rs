//! Change feeds: the durable log of events and the envelope (CloudEvents 1.0) in which they come.

mod admission;
mod batch;
pub mod cloudevents;
mod draft;
mod files;
mod filter;
mod frame;
#[cfg(any(test, feature = "fuzzed"))]
pub(crate) mod fuzzed;
mod ids;
mod index;
mod json;
mod log;
mod reader;
mod record;
mod recovery;
mod retention;
mod same;
mod sealing;
mod state;
mod syncing;
#[cfg(test)]
mod tests;
mod writer;

pub use batch::{Batch, Taken};
pub use log::{FeedInfo, FeedLog, Options, ReaderInfo};
pub use recovery::OpenError;

use bytes::Bytes;
use hms_actors::id::Offset;

/// An event as a publisher gives it, checked; the log adds offset and time of acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub id: String,
    pub source: String,
    /// The CloudEvents `type`.
    pub kind: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub extensions: Vec<(String, String)>,
    /// A JSON object, compacted.
    pub data: Bytes,
}

/// What became of an event of an accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub id: String,
    pub offset: Offset,
    pub duplicate: bool,
}

/// Why a request was not accepted. Nothing of it is in the log then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("event id `{id}` was used before on this feed with another {differs} (offset {offset})")]
    Conflict { id: String, offset: Offset, differs: String },
    #[error(
        "feed `{feed}` has used {used} of its {limit} bytes (limits.feed_disk), all of them still needed by a reader or by nobody yet"
    )]
    FeedFull { feed: String, used: u64, limit: u64 },
    #[error("the node's feeds have used {used} of {limit} bytes (limits.disk)")]
    NodeFull { used: u64, limit: u64 },
    #[error("the disk is full: {message}")]
    DiskFull { message: String },
    /// The store has failed for good (a failed sync is final): restart after the cause is mended.
    #[error("the event store is not writable: {message}")]
    Unwritable { message: String },
    /// Its events are older than what is known of its deliveries.
    #[error(
        "feed `{feed}` takes no events for now: those it has are older than the audit, and an operator has to say what is to become of it (/readyz)"
    )]
    Withheld { feed: String },
    /// More is waiting to be synced than the node will hold in memory.
    #[error("overloaded: too many events wait to be synced")]
    Overloaded,
}
