//! What the admin endpoint needs of the node. Only this trait is asked; only its views are answered.

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::id::{FeedName, RecipeId, TargetKey, TargetName};

use super::problem::AdminError;
use super::views::*;
use crate::access::{Presented, Refusal};

/// The node behind the endpoint. The HTTP workers call it from their own threads; a future stays on the one
/// that called, and all of them should end by themselves. One that does not is dropped at the deadline of its route: being
/// dropped may leave a request undone or done, but never half done.
///
/// Lists are ordered by name or number. What isn't there is [`AdminError::not_found`]. `by` is the subject whose order it is:
/// what changes something names it in the audit.
#[async_trait(?Send)]
pub trait Backend: Send + Sync {
    /// Whose token it is. Takes as long for a wrong one as for a right one, and writes nothing.
    fn present(&self, token: &str) -> Presented;
    /// A request was refused at the door: it is counted.
    fn refused(&self, why: Refusal);
    async fn tokens(&self) -> Result<Vec<TokenView>, AdminError>;
    /// Errors: conflict when the name is taken; invalid.
    async fn create_token(&self, wanted: NewToken, by: &str) -> Result<TokenCreated, AdminError>;
    /// The token as it was; it is not valid any more on return. Errors: conflict for the last admin.
    async fn revoke_token(&self, name: &str, by: &str) -> Result<TokenView, AdminError>;

    /// Takes all the events of a request or none, and returns once they are on disk to stay.
    /// Errors: bad envelope (invalid, unsupported content type), conflict, full, overloaded, unavailable.
    async fn publish(&self, feed: &FeedName, request: PublishRequest) -> Result<Published, AdminError>;
    async fn feeds(&self) -> Result<Vec<FeedView>, AdminError>;
    async fn feed(&self, feed: &FeedName) -> Result<FeedView, AdminError>;

    /// Checks a recipe, compares it with the one that runs and, unless `dry_run`, makes it the one that runs.
    /// Errors: [`AdminError::recipe`] with every finding; invalid when `id` isn't the recipe's own; conflict
    /// (with the counts) when a target that has work left would go and `abandon` isn't set.
    async fn apply(&self, id: &RecipeId, text: String, options: ApplyOptions, by: &str) -> Result<Applied, AdminError>;
    async fn recipes(&self) -> Result<Vec<RecipeSummary>, AdminError>;
    async fn recipe(&self, id: &RecipeId) -> Result<RecipeView, AdminError>;
    /// Conflict (with the counts) when work is left and `abandon` isn't set.
    async fn delete(&self, id: &RecipeId, abandon: bool, by: &str) -> Result<Deleted, AdminError>;
    /// Returns when no call is in flight any more. Pausing what is paused changes nothing.
    async fn pause(&self, id: &RecipeId, by: &str) -> Result<RecipeView, AdminError>;
    async fn resume(&self, id: &RecipeId, by: &str) -> Result<RecipeView, AdminError>;
    /// Delivers what waits, now. With `wait` it returns when all of it was tried, otherwise at once with no targets.
    async fn run(&self, id: &RecipeId, wait: bool, by: &str) -> Result<Vec<TargetRun>, AdminError>;

    /// Every target of every recipe.
    async fn circuits(&self) -> Result<Vec<TargetView>, AdminError>;
    async fn target(&self, target: &TargetKey) -> Result<TargetView, AdminError>;
    /// The target as it is after the order. What is so already is left as it is.
    /// Errors: conflict for a probe where a doubt ticket holds the target, or the circuit is forced open.
    async fn order_circuit(&self, target: &TargetKey, order: CircuitOrder, by: &str) -> Result<TargetView, AdminError>;

    /// `None`: open and resolved ones.
    async fn tickets(&self, state: Option<TicketState>) -> Result<Vec<TicketView>, AdminError>;
    async fn ticket(&self, number: u64) -> Result<TicketView, AdminError>;
    /// Errors: conflict when it is resolved already; invalid when `resolve` of a doubt ticket has no note.
    async fn answer_ticket(&self, number: u64, answer: TicketAnswer, by: &str) -> Result<TicketView, AdminError>;

    async fn dead_letters(&self, wanted: &LettersWanted) -> Result<DeadLetterList, AdminError>;
    async fn dead_letter(&self, number: u64) -> Result<DeadLetterDetail, AdminError>;
    /// Delivers it to the target that missed it. Waits half a minute at most; a replay that takes longer goes on.
    /// Errors: conflict while one runs (with the member `replaying: true`), when its recipe or target is gone, and
    /// without `force` when it may have arrived; [`AdminError::partner`] when the partner refused it again.
    async fn replay(&self, number: u64, options: ReplayOptions, by: &str) -> Result<LetterOutcome, AdminError>;
    /// Gives it up for good. Errors: conflict while a replay runs.
    async fn drop_letter(&self, number: u64, reason: String, by: &str) -> Result<LetterOutcome, AdminError>;

    /// The keys of partners, by name and version.
    async fn privacy_keys(&self) -> Result<Vec<PrivacyKeyView>, AdminError>;
    /// Errors: conflict when there is a key already (`create`), not found when there is none (`rotate`).
    async fn make_privacy_key(&self, order: PrivacyKeyOrder, by: &str) -> Result<PrivacyKeyView, AdminError>;
    /// What a value becomes at a target today.
    async fn privacy_token(&self, query: PrivacyTokenQuery, by: &str) -> Result<PrivacyTokenView, AdminError>;

    /// The tree of actors, from the node down.
    async fn supervision(&self) -> Result<ActorView, AdminError>;
    /// Synced records from `from` on, each the exact stored bytes and a line end: at most `limit`, fewer when
    /// they are big, but at least one if there is any. `None`: from the oldest that is kept.
    /// Errors: gone (with the member `first`) when `from` was moved out.
    async fn audit(&self, from: Option<u64>, limit: usize) -> Result<Bytes, AdminError>;
    /// Removes old records, which an export has, from the node. Their hashes stay.
    /// Errors: conflict when no anchored checkpoint covers them.
    async fn prune_audit(&self, order: PruneOrder, by: &str) -> Result<PrunedView, AdminError>;
    /// A signed checkpoint of everything that is synced now.
    async fn checkpoint(&self) -> Result<String, AdminError>;
    /// Not found: a record or a tree that is not there (yet). Without `size`, that of a checkpoint made now.
    async fn inclusion(&self, leaf: u64, size: Option<u64>) -> Result<InclusionView, AdminError>;
    async fn consistency(&self, from: u64, to: Option<u64>) -> Result<ConsistencyView, AdminError>;
    /// Verifier keys, one a line, that in use last.
    async fn audit_keys(&self) -> Result<String, AdminError>;
    /// The Prometheus text format.
    async fn metrics(&self) -> Result<String, AdminError>;
    /// Why the node isn't ready, in words; empty when it is.
    async fn unready(&self) -> Vec<String>;
}

/// Which dead letters: those that fit all of it, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LettersWanted {
    pub recipe: Option<RecipeId>,
    pub target: Option<TargetName>,
    /// The first number.
    pub from: u64,
    /// At most so many. If there are more, `next` is where they begin.
    pub limit: usize,
}

/// A publisher's request as it came, size checked and nothing else.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// `content-type` and `ce-*`, names in lower case, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
}
