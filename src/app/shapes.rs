//! From what the parts of a node say of themselves to the JSON that is promised.

use hms_actors::delivery::{Phase, TargetStatus};
use hms_actors::failure::Failure;
use hms_actors::id::RecipeId;
use hms_actors::supervisor::RecipeSnapshot;

use super::operations::Refused;
use crate::admin::AdminError;
use crate::admin::views::{self, Activity, ActorView, Guarantee, Moment};
use crate::feeds::FeedInfo;
use crate::recipe::{self, heart, model};
use crate::store::DeadLetter;

pub(super) fn guarantee(target: &model::Target) -> Guarantee {
    match heart::guarantee(target) {
        "exactly_once" => Guarantee::ExactlyOnce,
        "effectively_once" => Guarantee::EffectivelyOnce,
        "at_least_once_on_doubt" => Guarantee::AtLeastOnceOnDoubt,
        _ => Guarantee::AtLeastOnce,
    }
}

pub(super) fn activity(phase: Phase) -> Activity {
    match phase {
        Phase::Idle => Activity::Idle,
        Phase::Delivering => Activity::Delivering,
        Phase::BackingOff => Activity::BackingOff,
        Phase::Held => Activity::Held,
        Phase::Paused => Activity::Paused,
        Phase::Starting | Phase::Down => Activity::Restarting,
    }
}

pub(super) fn feed_view(feed: FeedInfo) -> views::FeedView {
    let reader = |reader: crate::feeds::ReaderInfo| {
        let (recipe, target) = reader.name.split_once('/').unwrap_or((&reader.name, ""));
        let (recipe, target) = (recipe.to_owned(), target.to_owned());
        views::ReaderView { recipe, target, checkpoint: reader.position, lag: reader.lag }
    };
    views::FeedView {
        name: feed.name.to_string(),
        head: feed.head,
        oldest: feed.oldest,
        bytes: feed.bytes,
        readers: feed.readers.into_iter().map(reader).collect(),
    }
}

pub(super) fn supervisor_view(id: &RecipeId, restarts: u64, snapshot: Option<RecipeSnapshot>) -> ActorView {
    let Some(snapshot) = snapshot else {
        return actor(id.as_str(), "recipe_supervisor", "restarting", restarts, Vec::new());
    };
    let reader = actor(snapshot.feed.as_str(), "feed_reader", "running", snapshot.reader.restarts, Vec::new());
    let delivery = |status: &TargetStatus| {
        let state = if activity(status.phase) == Activity::Restarting { "restarting" } else { "running" };
        actor(status.target.as_str(), "delivery", state, status.restarts, Vec::new())
    };
    let children = std::iter::once(reader).chain(snapshot.targets.iter().map(delivery)).collect();
    actor(id.as_str(), "recipe_supervisor", "running", restarts, children)
}

pub(super) fn actor(name: &str, kind: &str, state: &str, restarts: u64, children: Vec<ActorView>) -> ActorView {
    let (name, kind, state) = (name.to_owned(), kind.to_owned(), state.to_owned());
    ActorView { name, kind, state, restarts, last_panic: None, children }
}

pub(super) fn letter_view(letter: DeadLetter) -> views::DeadLetterView {
    views::DeadLetterView {
        number: letter.number,
        recipe: letter.key.recipe.to_string(),
        target: letter.key.target.to_string(),
        feed: letter.feed.to_string(),
        event_id: letter.event_id,
        offset: letter.offset,
        reason: letter.reason,
        attempts: letter.attempts,
        at: Moment(letter.at),
        may_have_arrived: letter.may_have_arrived,
    }
}

pub(super) fn finding(error: &recipe::Diagnostic) -> views::RecipeFinding {
    views::RecipeFinding {
        line: error.line,
        column: error.column,
        message: error.message.clone(),
        help: error.help.clone(),
    }
}

pub(super) fn failed(failure: Failure) -> AdminError {
    AdminError::unavailable(failure.message)
}

impl From<Refused> for AdminError {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::NotFound(_) => Self::not_found(detail),
            Refused::BadRequest(_) => Self::invalid(detail),
            Refused::Invalid(errors) => Self::recipe(&errors.iter().map(finding).collect::<Vec<_>>()),
            Refused::Conflict { counts, .. } if counts.is_empty() => Self::conflict(detail),
            Refused::Conflict { counts, .. } => Self::conflict(detail).with("backlog", serde_json::json!(counts)),
            Refused::Failed(failure) => failed(failure),
        }
    }
}
