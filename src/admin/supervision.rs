//! `/v1/supervision`: who watches whom.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::SupervisionView;

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &SupervisionView { supervision: call.node.backend.supervision().await? })
}
