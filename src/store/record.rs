//! The records of the audit, as they stand in its lines (contract, section 6). How lines reach the disk is
//! `audit.rs`; what records change is `state.rs`.

use std::collections::BTreeMap;

use hms_actors::event::EventRef;
use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::policy::circuit::{CircuitMemory, CircuitState};
use hms_actors::receipt::{Cause, Entry, Receipt, Transport};
use serde::{Deserialize, Serialize};

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 0, without gaps.
    pub seq: u64,
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    #[serde(flatten)]
    pub body: Body,
}

impl Record {
    /// The record of a stored line that is to have this number.
    pub fn parse(line: &[u8], seq: u64) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(line).map_err(|e| format!("not a record: {e}"))?;
        if record.seq == seq { Ok(record) } else { Err(format!("its seq is {}, expected {seq}", record.seq)) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    Delivered {
        #[serde(flatten)]
        delivery: Delivery,
        payload_sha256: String,
        receipt: Proof,
        /// The dead letter that was delivered, and is none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_letter: Option<u64>,
    },
    AttemptFailed {
        #[serde(flatten)]
        delivery: Delivery,
        events: u32,
        /// `FailureKind::as_str`.
        failure: String,
        error: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload_sha256: Option<String>,
        /// Nobody knows whether it had its effect.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_have_arrived: bool,
        /// How long the partner asked us to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_letter: Option<u64>,
    },
    /// A policy said no: nothing was sent.
    Blocked {
        #[serde(flatten)]
        delivery: Delivery,
        /// Their ids; none where no policy could be asked.
        policies: Vec<String>,
        reason: String,
        /// The dead letter that was to be delivered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_letter: Option<u64>,
    },
    DeadLettered {
        #[serde(flatten)]
        delivery: Delivery,
        number: u64,
        reason: String,
        may_have_arrived: bool,
        /// That of the ticket which waits for its replay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    TicketOpened {
        #[serde(flatten)]
        key: TargetKey,
        number: u64,
        cause: Cause,
        reason: String,
        attempts: u32,
        backlog: u64,
        last_error: String,
    },
    TicketResolved {
        #[serde(flatten)]
        key: TargetKey,
        number: u64,
        action: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Circuit {
        #[serde(flatten)]
        key: TargetKey,
        state: CircuitState,
        #[serde(with = "rfc3339")]
        since: Timestamp,
        /// Of an open one: when the probe may go.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
        probe_at: Option<Timestamp>,
        /// How long it was last open for, in milliseconds.
        open_for_ms: u64,
        opened_total: u64,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    FileChanged {
        #[serde(flatten)]
        key: TargetKey,
        path: String,
        expected: u64,
        found: u64,
    },
    Recipe(RecipeChange),
    Operator {
        action: String,
        /// Who; never a token.
        subject: String,
        details: BTreeMap<String, String>,
    },
}

/// What all records about a delivery have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    #[serde(flatten)]
    pub key: TargetKey,
    pub feed: FeedName,
    pub event_id: String,
    pub offset: Offset,
    pub attempt: u32,
}

/// A receipt as the audit shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Proof {
    Rest {
        status: u16,
        url: String,
        idempotency_key: String,
        response_sha256: String,
        duration_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Agreed>,
    },
    File {
        path: String,
        file_offset: u64,
        length: u64,
        /// Only ever `false`: the server can't sync.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fsync: Option<bool>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<Agreed>,
    },
    Word(Word),
}

/// Protocol → what both sides agreed on, if the connection is one that is protected.
pub type Agreed = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    Operator,
}

/// What an operator did to a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeChange {
    pub recipe: RecipeId,
    /// The subject who did it.
    pub by: String,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    Applied(Applied),
    Paused,
    Resumed,
    /// Its targets go with it. Tickets are closed, dead letters stay, the revision counts on.
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The one after the last.
    pub revision: Revision,
    pub feed: FeedName,
    /// The YAML, byte for byte.
    pub text: String,
    /// All targets of this revision; one that is missing is removed.
    pub targets: Vec<AppliedTarget>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedTarget {
    pub target: TargetName,
    /// The revision in which its settings last changed.
    pub revision: Revision,
    /// Where it starts if it is new; an existing target keeps its checkpoint.
    pub start: Offset,
    /// Takes over checkpoint, begun work, tickets and dead letters of that target, if that one exists and
    /// is not in `targets` any more, and this one is new. Otherwise it means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<TargetName>,
}

impl Body {
    /// `number` is that of the ticket or dead letter which the entry makes.
    pub(super) fn of(entry: &Entry, key: &TargetKey, feed: &FeedName, number: u64) -> Self {
        let key = key.clone();
        let delivery = |event: EventRef, attempt| Delivery {
            key: key.clone(),
            feed: feed.clone(),
            event_id: event.id,
            offset: event.offset,
            attempt,
        };
        match entry.clone() {
            Entry::Delivered { event, attempt, payload_sha256, receipt, letter } => Self::Delivered {
                delivery: delivery(event, attempt),
                payload_sha256: hex::encode(payload_sha256),
                receipt: receipt.into(),
                dead_letter: letter,
            },
            Entry::AttemptFailed {
                event,
                events,
                attempt,
                payload_sha256,
                kind,
                error,
                may_have_arrived,
                retry_after,
                letter,
            } => Self::AttemptFailed {
                retry_after_ms: retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
                delivery: delivery(event, attempt),
                events,
                failure: kind.as_str().to_owned(),
                error,
                payload_sha256: payload_sha256.map(hex::encode),
                may_have_arrived,
                dead_letter: letter,
            },
            Entry::Blocked { event, attempt, policies, reason, letter } => {
                Self::Blocked { delivery: delivery(event, attempt), policies, reason, dead_letter: letter }
            }
            Entry::DeadLettered { event, attempt, reason, may_have_arrived, cause } => {
                let delivery = delivery((&*event).into(), attempt);
                Self::DeadLettered { delivery, number, reason, may_have_arrived, cause }
            }
            Entry::TicketOpened { cause, reason, attempts, backlog, last_error } => {
                Self::TicketOpened { key, number, cause, reason, attempts, backlog, last_error }
            }
            Entry::TicketResolved { ticket, action, by, note } => {
                Self::TicketResolved { key, number: ticket, action: action.to_owned(), by, note }
            }
            Entry::Circuit { memory, reason, by } => {
                let CircuitMemory { state, since, probe_at, open_for_ms, opened_total } = memory;
                Self::Circuit { key, state, since, probe_at, open_for_ms, opened_total, reason, by }
            }
            Entry::FileChanged { path, expected, found } => Self::FileChanged { key, path, expected, found },
        }
    }
}

impl From<Receipt> for Proof {
    fn from(receipt: Receipt) -> Self {
        let agreed = |Transport { protocol, algorithms }| Agreed::from([(protocol.to_owned(), algorithms.to_string())]);
        match receipt {
            Receipt::Rest { status, url, idempotency_key, response_sha256, duration_ms, transport } => {
                let (url, idempotency_key) = (url.to_string(), idempotency_key.to_string());
                let (response_sha256, transport) = (hex::encode(response_sha256), transport.map(agreed));
                Self::Rest { status, url, idempotency_key, response_sha256, duration_ms, transport }
            }
            Receipt::File { path, file_offset, length, fsync, transport } => {
                let (fsync, transport) = ((!fsync).then_some(false), transport.map(agreed));
                Self::File { path: path.to_string(), file_offset, length, fsync, transport }
            }
            Receipt::Operator => Self::Word(Word::Operator),
        }
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(super) mod rfc3339 {
    use chrono::{DateTime, SecondsFormat};
    use hms_actors::failure::Failure;
    use hms_actors::id::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub fn text(time: Timestamp) -> Result<String, Failure> {
        let time = DateTime::from_timestamp_millis(time.0);
        let time = time.ok_or_else(|| Failure::node("the node's clock is out of range"))?;
        Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*time).map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(de::Error::custom)?;
        Ok(Timestamp(time.timestamp_millis()))
    }

    pub mod option {
        use super::*;

        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
