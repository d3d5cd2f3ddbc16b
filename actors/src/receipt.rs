//! Receipts and the records of the audit, as the heart speaks of them. How they are written down
//! (JSON, RFC 8785) is the store's affair.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, EventRef};
use crate::failure::FailureKind;
use crate::policy::circuit::CircuitMemory;

/// What proves a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    Rest {
        status: u16,
        url: Arc<str>,
        idempotency_key: Arc<str>,
        response_sha256: [u8; 32],
        duration_ms: u64,
        /// That of the connection over which the answer came.
        transport: Option<Transport>,
    },
    /// Where the row stands: `file_offset` and `length` are the event's own row.
    /// `fsync` is false when the server does not offer it. `transport` is that of the connection over which it was
    /// settled: after a cut that may be another one than that over which the bytes went.
    File { path: Arc<str>, file_offset: u64, length: u64, fsync: bool, transport: Option<Transport> },
    /// An operator said that it arrived.
    Operator,
}

/// What protects a connection, as both sides agreed on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    pub protocol: &'static str,
    pub algorithms: Arc<str>,
}

/// One record of the audit that concerns a target. The store adds `seq`, `time`, recipe, target and feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Makes the delivery done. At most one for an event and a target. `letter` is the dead letter that it
    /// delivers, and with that removes.
    Delivered { event: EventRef, attempt: u32, payload_sha256: [u8; 32], receipt: Receipt, letter: Option<u64> },
    /// One attempt at one unit of work: `event` is its first event, `events` how many it held.
    AttemptFailed {
        event: EventRef,
        events: u32,
        attempt: u32,
        payload_sha256: Option<[u8; 32]>,
        kind: FailureKind,
        error: String,
        /// Nobody knows whether this attempt had its effect.
        may_have_arrived: bool,
        /// How long the partner asked us to wait, within bounds.
        retry_after: Option<Duration>,
        letter: Option<u64>,
    },
    /// A policy said no to this event, and it was not sent: once per event and decision. `letter` is the dead letter
    /// that was to be delivered.
    Blocked { event: EventRef, attempt: u32, policies: Vec<String>, reason: String, letter: Option<u64> },
    /// Settles the event without a delivery. The dead letter keeps its own copy of the event.
    /// `cause` is that of the ticket which waits for its replay.
    DeadLettered { event: Box<Event>, attempt: u32, reason: String, may_have_arrived: bool, cause: Option<Cause> },
    /// A human is needed. At most one ticket is open for a target and cause: a second one updates it.
    TicketOpened { cause: Cause, reason: String, attempts: u32, backlog: u64, last_error: String },
    /// `ticket` is its number. `by` is the subject of an operator, or `None` when it closed by itself.
    TicketResolved { ticket: u64, action: &'static str, by: Option<String>, note: Option<String> },
    /// The circuit changed: what it is from now on, and why. `by` is the subject of an operator.
    Circuit { memory: CircuitMemory, reason: String, by: Option<String> },
    /// A file is not as we left it.
    FileChanged { path: String, expected: u64, found: u64 },
}

/// What a ticket is about. An incident is one target and one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Outage,
    Configuration,
    Refused,
    Policy,
    Doubt,
    /// Somebody else writes to, or changed, a file of ours.
    ForeignWriter,
    Quarantine,
}

impl Cause {
    pub const ALL: [Self; 7] = [
        Self::Outage,
        Self::Configuration,
        Self::Refused,
        Self::Policy,
        Self::Doubt,
        Self::ForeignWriter,
        Self::Quarantine,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Configuration => "configuration",
            Self::Refused => "refused",
            Self::Policy => "policy",
            Self::Doubt => "doubt",
            Self::ForeignWriter => "foreign_writer",
            Self::Quarantine => "quarantine",
        }
    }
}
