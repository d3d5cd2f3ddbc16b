//! `/v1/dead-letters`: events that were settled without a delivery.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::DeadLetterList;

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &DeadLetterList { dead_letters: call.node.backend.dead_letters().await? })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.dead_letter(call.number()?).await?)
}
