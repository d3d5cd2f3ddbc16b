//! The JSON that users were promised: what the endpoint answers and what it takes. These types change only as
//! the contract does; nothing else in the node is shaped by them.

use hms_actors::id::{Offset, Revision, Timestamp};
use hms_actors::receipt::Cause;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What became of a publisher's request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Events that are new.
    pub accepted: usize,
    /// Events that were published before, with the same content.
    pub duplicates: usize,
    /// All events of the request, in order.
    pub events: Vec<PublishedEvent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedEvent {
    pub id: String,
    pub offset: Offset,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeedList {
    pub feeds: Vec<FeedView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeedView {
    pub name: String,
    /// The offset that the next event will get.
    pub head: Offset,
    /// The oldest offset that is still kept; equal to `head` when nothing is.
    pub oldest: Offset,
    /// Of the events that are kept.
    pub bytes: u64,
    pub readers: Vec<ReaderView>,
}

/// A target that reads a feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReaderView {
    pub recipe: String,
    pub target: String,
    pub checkpoint: Offset,
    /// Events that wait for this reader.
    pub lag: u64,
}

/// How a recipe is to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyOptions {
    /// Check and compare only.
    pub dry_run: bool,
    /// Make dead letters of what waits for targets that are removed.
    pub abandon: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    pub id: String,
    /// The revision that runs now; in a dry run the one that would.
    pub revision: Revision,
    pub changed: bool,
    pub dry_run: bool,
    /// It will send nothing until it is resumed.
    pub paused: bool,
    /// What changes, in words; empty when nothing does.
    pub diff: String,
    /// Absent for a recipe that has no next run: `on_change`, or paused.
    pub next_run_at: Option<Moment>,
    pub next_run_in_seconds: Option<u64>,
    pub warnings: Vec<String>,
}

/// One finding in a recipe's text. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeFinding {
    pub line: u32,
    pub column: u32,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeList {
    pub recipes: Vec<RecipeSummary>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeSummary {
    pub id: String,
    pub revision: Revision,
    pub feed: String,
    pub state: RecipeState,
    pub schedule: String,
    pub next_run_at: Option<Moment>,
    pub next_run_in_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeView {
    #[serde(flatten)]
    pub summary: RecipeSummary,
    /// The YAML as it was applied, byte for byte.
    pub text: String,
    pub targets: Vec<TargetView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipeState {
    Enabled,
    Paused,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetView {
    pub recipe: String,
    pub target: String,
    /// `rest`, `sftp` or `file`.
    pub adapter: String,
    pub guarantee: Guarantee,
    pub activity: Activity,
    /// The oldest offset that is not settled.
    pub checkpoint: Offset,
    pub backlog: u64,
    pub in_flight: u64,
    pub last_error: Option<String>,
    /// When it is tried again, after a failure.
    pub next_attempt_at: Option<Moment>,
    pub restarts: u64,
    /// Number of the ticket that a human has to answer before anything is sent.
    pub held_by_ticket: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Files with one writer.
    ExactlyOnce,
    /// A partner that honours the idempotency key.
    EffectivelyOnce,
    /// A partner that does not.
    AtLeastOnce,
    /// Rows in doubt are written again.
    AtLeastOnceOnDoubt,
}

/// What a target's delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Nothing waits, or the schedule's next run is not due.
    Idle,
    Delivering,
    /// After a failure, until the next attempt.
    BackingOff,
    /// Until a human answers the ticket.
    Held,
    Paused,
    /// Its actor is being rebuilt.
    Restarting,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    pub id: String,
    /// Events that were made dead letters.
    pub abandoned: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    pub recipe: String,
    /// Empty when the run was only started.
    pub targets: Vec<TargetRun>,
}

/// What a run did for one target, in events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRun {
    pub target: String,
    pub delivered: u64,
    /// Events in failed attempts.
    pub failed: u64,
    pub backlog: u64,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TicketList {
    pub tickets: Vec<TicketView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TicketView {
    pub number: u64,
    pub state: TicketState,
    pub recipe: String,
    pub target: String,
    #[schemars(with = "String")]
    pub cause: Cause,
    pub reason: String,
    pub opened_at: Moment,
    pub resolved_at: Option<Moment>,
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    Open,
    Resolved,
}

/// A human's answer to a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketAnswer {
    pub action: TicketAction,
    /// What the human found out. A doubt ticket is resolved only with one.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketAction {
    /// Doubt: the rows did not arrive, write them again. Otherwise: try now.
    Retry,
    /// Doubt: make dead letters of them. Otherwise: only of what failed last.
    Skip,
    /// Doubt: they arrived, settle them. Otherwise: close the ticket.
    Resolve,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    pub dead_letters: Vec<DeadLetterView>,
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
    pub attempts: u32,
    pub at: Moment,
    /// Nobody knows whether the partner has it.
    pub may_have_arrived: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SupervisionView {
    /// The node; everybody else is below it.
    pub supervision: ActorView,
}

/// An actor and those whom it watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActorView {
    pub name: String,
    /// `node`, `recipe_supervisor`, `feed_reader` or `delivery`.
    pub kind: String,
    /// `running`, `restarting` or `stopped`.
    pub state: String,
    pub restarts: u64,
    pub last_panic: Option<String>,
    pub children: Vec<ActorView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    pub status: String,
}

/// A moment as RFC 3339 text, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

impl From<Moment> for String {
    fn from(Moment(at): Moment) -> String {
        let moment = chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default();
        moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }
}

impl TryFrom<String> for Moment {
    type Error = chrono::ParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        chrono::DateTime::parse_from_rfc3339(&text).map(|moment| Self(Timestamp(moment.timestamp_millis())))
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}
