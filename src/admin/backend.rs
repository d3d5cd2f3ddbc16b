//! What the endpoint needs of the node. Implemented by the wiring; every error is the [`Problem`] that goes out.

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::id::{FeedName, RecipeId, TargetName};

use super::problem::Problem;
use super::views;
use crate::feeds::NewEvent;

pub type Result<T> = std::result::Result<T, Problem>;

/// How a recipe is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apply {
    /// Says what would change and changes nothing.
    pub dry_run: bool,
    /// What waits for targets that go becomes dead letters.
    pub abandon: bool,
}

/// A node, to be asked and told. `by` is the subject who asks, for the audit.
#[async_trait(?Send)]
pub trait Backend: Send + Sync {
    /// Whole or not at all; on disk to stay on return.
    async fn publish(&self, feed: FeedName, events: Vec<NewEvent>) -> Result<views::Published>;
    async fn feeds(&self) -> Result<Vec<views::Feed>>;

    async fn apply(&self, id: RecipeId, text: String, how: Apply, by: &str) -> Result<views::Applied>;
    async fn recipes(&self) -> Result<Vec<views::Recipe>>;
    /// With its text.
    async fn recipe(&self, id: RecipeId) -> Result<views::Recipe>;
    async fn target(&self, id: RecipeId, target: TargetName) -> Result<views::Target>;
    async fn delete(&self, id: RecipeId, abandon: bool, by: &str) -> Result<()>;
    async fn set_paused(&self, id: RecipeId, paused: bool, by: &str) -> Result<()>;
    /// With `wait`, returns when what was waiting has been tried.
    async fn run(&self, id: RecipeId, wait: bool) -> Result<Vec<views::RunReport>>;

    /// All that are kept, or only the open or resolved ones.
    async fn tickets(&self, state: Option<String>) -> Result<Vec<views::Ticket>>;
    async fn answer_ticket(&self, number: u64, answer: views::TicketAnswer, by: &str) -> Result<views::Ticket>;
    async fn dead_letters(&self, from: u64, limit: usize) -> Result<Vec<views::DeadLetter>>;
    async fn dead_letter(&self, number: u64) -> Result<views::DeadLetter>;

    /// Exact stored lines of the audit, each with its newline.
    async fn audit(&self, from: u64, limit: usize) -> Result<Bytes>;
    async fn supervision(&self) -> Result<views::Actor>;
    async fn metrics(&self) -> String;
    /// Why the node is not ready; empty if it is.
    async fn not_ready(&self) -> Vec<String>;
}
