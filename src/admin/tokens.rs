//! `/v1/tokens`: who may come in. Making and keeping tokens is the backend's.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::TokenList;

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &TokenList { tokens: call.node.backend.tokens().await? })
}

pub async fn create(mut call: Call) -> Result<HttpResponse, AdminError> {
    let wanted = call.json().await?;
    answer(StatusCode::CREATED, &call.node.backend.create_token(wanted, &call.by).await?)
}

pub async fn revoke(call: Call) -> Result<HttpResponse, AdminError> {
    let name = call.segment("name");
    answer(StatusCode::OK, &call.node.backend.revoke_token(&name, &call.by).await?)
}
