//! `/v1/tickets`: what a human has to decide, and the answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use hms_actors::id::{RecipeId, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::{TicketList, TicketState};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketsQuery {
    /// Only those in this state.
    #[serde(default)]
    state: Option<TicketState>,
    /// Only those of this recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    recipe: Option<RecipeId>,
    /// Only those of targets with this name.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    target: Option<TargetName>,
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    let query: TicketsQuery = call.query()?;
    let mut tickets = call.node.backend.tickets(query.state).await?;
    tickets.retain(|ticket| {
        query.recipe.as_ref().is_none_or(|recipe| ticket.recipe == recipe.as_str())
            && query.target.as_ref().is_none_or(|target| ticket.target == target.as_str())
    });
    answer(StatusCode::OK, &TicketList { tickets })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.ticket(call.number()?).await?)
}

pub async fn decide(mut call: Call) -> Result<HttpResponse, AdminError> {
    let number = call.number()?;
    let decision = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.answer_ticket(number, decision, &call.by).await?)
}
