//! Dead letters: events that were settled without a delivery, and what became of a replay.

use hms_actors::id::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Moment;

/// A page of dead letters, by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    pub dead_letters: Vec<DeadLetterView>,
    /// The `from` of the next page; null on the last one.
    pub next: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterView {
    pub number: u64,
    pub recipe: String,
    pub target: String,
    pub feed: String,
    pub event_id: String,
    pub offset: Offset,
    pub reason: String,
    /// Null when no attempt or rule made it one: its target was removed, or an operator skipped it.
    pub cause: Option<LetterCause>,
    pub attempts: u32,
    pub at: Moment,
    /// Nobody knows whether the partner has it: a replay has to be forced.
    pub may_have_arrived: bool,
    /// A replay of it is under way.
    pub replaying: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterCause {
    /// The partner refused it.
    Refused,
    /// A policy forbids to send it.
    Policy,
    /// Its rows were in doubt, and an operator skipped them.
    Doubt,
}

/// A dead letter in full.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DeadLetterDetail {
    #[serde(flatten)]
    pub letter: DeadLetterView,
    /// Its own copy of the event: CloudEvents in JSON, the data digit for digit.
    #[schemars(schema_with = "event")]
    pub event: Box<RawValue>,
    /// Its last attempts, oldest first.
    pub history: Vec<AttemptView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    pub at: Moment,
    /// The kind of failure, as in `sync_fail_total`.
    pub kind: String,
    pub error: String,
}

/// How a dead letter is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayOptions {
    /// Also if it may have arrived.
    pub force: bool,
}

/// What became of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetterOutcome {
    pub number: u64,
    pub state: LetterState,
    /// Later events of the same key that were delivered before it. Order per key excepts replay.
    pub later: Vec<LaterEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// The partner has it; it is no dead letter any more.
    Delivered,
    /// Its delivery goes on.
    Replaying,
    /// An operator gave it up.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaterEvent {
    pub offset: Offset,
    pub id: String,
}

fn event(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "CloudEvents 1.0, JSON format",
        "required": ["specversion", "id", "source", "type", "data"],
    })
}
