//! `/v1/dead-letters`: events that were settled without a delivery; replaying them, and giving them up.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use hms_actors::id::{RecipeId, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::backend::LettersWanted;
use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::LetterState;

/// Most dead letters in one answer, however many are asked for.
const MAX_LETTERS: usize = 10_000;

/// The reason stands in an audit record.
const MAX_REASON: usize = 4_096;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LettersQuery {
    /// Only those of this recipe.
    #[schemars(with = "Option<String>")]
    recipe: Option<RecipeId>,
    /// Only those of targets with this name.
    #[schemars(with = "Option<String>")]
    target: Option<TargetName>,
    /// The first number: the `next` of the page before.
    from: u64,
    /// At most this many.
    #[schemars(range(min = 1))]
    limit: usize,
}

impl Default for LettersQuery {
    fn default() -> Self {
        Self { recipe: None, target: None, from: 0, limit: 1_000 }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropQuery {
    /// Why, for the audit.
    #[serde(default = "no_reason")]
    reason: String,
}

fn no_reason() -> String {
    "no reason was given".to_owned()
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    let LettersQuery { recipe, target, from, limit } = call.query()?;
    if limit == 0 {
        return Err(AdminError::invalid("query: `limit` is 0: ask for at least one"));
    }
    let wanted = LettersWanted { recipe, target, from, limit: limit.min(MAX_LETTERS) };
    answer(StatusCode::OK, &call.node.backend.dead_letters(&wanted).await?)
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.dead_letter(call.number()?).await?)
}

pub async fn replay(mut call: Call) -> Result<HttpResponse, AdminError> {
    let number = call.number()?;
    let options = call.json_or_default().await?;
    let outcome = call.node.backend.replay(number, options, &call.by).await?;
    let status = if outcome.state == LetterState::Replaying { StatusCode::ACCEPTED } else { StatusCode::OK };
    answer(status, &outcome)
}

pub async fn give_up(call: Call) -> Result<HttpResponse, AdminError> {
    let number = call.number()?;
    let DropQuery { reason } = call.query()?;
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        let detail = format!("query: `reason` says why it is given up, in 1 to {MAX_REASON} bytes");
        return Err(AdminError::invalid(detail));
    }
    answer(StatusCode::OK, &call.node.backend.drop_letter(number, reason, &call.by).await?)
}
