//! `/v1/tickets`: what a human has to decide, and the answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
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
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    let query: TicketsQuery = call.query()?;
    answer(StatusCode::OK, &TicketList { tickets: call.node.backend.tickets(query.state).await? })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.ticket(call.number()?).await?)
}

pub async fn decide(mut call: Call) -> Result<HttpResponse, AdminError> {
    let number = call.number()?;
    let decision = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.answer_ticket(number, decision).await?)
}
