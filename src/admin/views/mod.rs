//! The JSON that users were promised: what the endpoint answers and what it takes. These types change only as
//! the contract does; nothing else in the node is shaped by them.

mod audit;
mod circuits;
mod dead_letters;
mod moment;
mod privacy;
mod supervision;
mod tickets;
mod tokens;

use hms_actors::id::{Offset, Revision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::audit::*;
pub use self::circuits::*;
pub use self::dead_letters::*;
pub use self::moment::Moment;
pub use self::privacy::*;
pub use self::supervision::*;
pub use self::tickets::*;
pub use self::tokens::*;

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
    /// Targets to which policies would not let every event go.
    pub blocked: Vec<BlockedTargetView>,
}

/// What policies would block of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockedTargetView {
    pub target: String,
    /// Ids of the policies that say no.
    pub policies: Vec<String>,
    pub reason: String,
    /// Every event of the recipe; otherwise those that have the fields which are the reason.
    pub every_event: bool,
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
pub struct HealthView {
    pub status: String,
}
