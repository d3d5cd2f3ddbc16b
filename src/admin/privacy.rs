//! `/v1/privacy`: the keys of partners, and what a value becomes at one of them. Never a key's bytes.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::PrivacyKeyList;

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    let keys = call.node.backend.privacy_keys().await?;
    answer(StatusCode::OK, &PrivacyKeyList { keys })
}

pub async fn make(mut call: Call) -> Result<HttpResponse, AdminError> {
    let order = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.make_privacy_key(order, &call.by).await?)
}

pub async fn token(mut call: Call) -> Result<HttpResponse, AdminError> {
    let query = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.privacy_token(query, &call.by).await?)
}
