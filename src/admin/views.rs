//! The JSON that the endpoint promises. Its own types, so that a change inside can't change it unseen.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answer to a publish request: everything in it is on disk to stay.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// New events.
    pub accepted: usize,
    /// Events that were there already, with the same content.
    pub duplicates: usize,
    pub events: Vec<PublishedEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PublishedEvent {
    pub id: String,
    pub offset: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Feeds {
    pub feeds: Vec<Feed>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Feed {
    pub name: String,
    /// The offset that the next event will get.
    pub head: u64,
    /// The oldest event that is kept.
    pub oldest: u64,
    /// Bytes on disk.
    pub bytes: u64,
    pub readers: Vec<Reader>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reader {
    /// `<recipe>/<target>`.
    pub name: String,
    /// The oldest event that it has not settled.
    pub position: u64,
    /// Events from there to the head.
    pub lag: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Recipes {
    pub recipes: Vec<Recipe>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    pub id: String,
    pub revision: u32,
    /// `running`, `paused` or `down`.
    pub state: String,
    pub feed: String,
    pub schedule: String,
    /// RFC 3339; absent if it runs only on change.
    pub next_run_at: Option<String>,
    pub next_run_in_seconds: Option<u64>,
    pub last_run_at: Option<String>,
    pub targets: Vec<Target>,
    /// The YAML as it was applied; only when one recipe is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    pub recipe: String,
    pub target: String,
    pub adapter: String,
    /// `exactly_once`, `effectively_once`, `at_least_once` or `at_least_once_on_doubt`.
    pub guarantee: String,
    /// `starting`, `idle`, `delivering`, `backing_off`, `held`, `paused` or `down`.
    pub state: String,
    pub since: String,
    /// The oldest event that is not settled.
    pub checkpoint: u64,
    pub backlog: u64,
    pub in_flight: usize,
    pub consecutive_failures: u32,
    pub delivered: u64,
    pub last_error: Option<String>,
    pub last_error_kind: Option<String>,
    pub last_error_at: Option<String>,
    pub next_attempt_at: Option<String>,
    pub held_by_ticket: Option<u64>,
    pub restarts: u64,
}

/// Answer to an apply.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    pub id: String,
    pub revision: u32,
    pub changed: bool,
    pub created: bool,
    pub paused: bool,
    /// What changes, in words.
    pub diff: String,
    pub next_run_at: Option<String>,
    pub next_run_in_seconds: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunReports {
    pub targets: Vec<RunReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    pub target: String,
    pub delivered: u64,
    /// Events in failed attempts.
    pub failed: u64,
    pub backlog: u64,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Tickets {
    pub tickets: Vec<Ticket>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Ticket {
    pub number: u64,
    /// `open` or `resolved`.
    pub state: String,
    pub recipe: String,
    pub target: String,
    pub cause: String,
    pub reason: String,
    pub opened_at: String,
    pub resolved_at: Option<String>,
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: String,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketAction {
    /// Try again; of rows in doubt: they did not arrive, write them again.
    Retry,
    /// Give the events up; of rows in doubt: dead letters marked `may_have_arrived`.
    Skip,
    /// Close the ticket; of rows in doubt: they arrived.
    Resolve,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketAnswer {
    pub action: TicketAction,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetters {
    pub dead_letters: Vec<DeadLetter>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    pub number: u64,
    pub recipe: String,
    pub target: String,
    pub feed: String,
    pub event_id: String,
    pub offset: u64,
    pub reason: String,
    pub attempts: u32,
    pub at: String,
    pub may_have_arrived: bool,
    /// The event's data; only when one dead letter is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub data: Option<Box<serde_json::value::RawValue>>,
}

/// One actor and those that it watches.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    pub name: String,
    /// `node`, `recipe_supervisor`, `feed_reader` or `delivery`.
    pub kind: String,
    pub state: String,
    pub restarts: u64,
    pub watches: Vec<Actor>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok` or `not ready`.
    pub status: String,
    pub reasons: Vec<String>,
    pub version: String,
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDetails {
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: Option<String>,
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}
