//! `/healthz` (the endpoint answers) and `/readyz` (the node can do its work).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::HealthView;

pub async fn alive(_: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &HealthView { status: "ok".to_owned() })
}

pub async fn ready(call: Call) -> Result<HttpResponse, AdminError> {
    let reasons = call.node.backend.unready().await;
    if reasons.is_empty() {
        return answer(StatusCode::OK, &HealthView { status: "ready".to_owned() });
    }
    Err(AdminError::unavailable(format!("not ready: {}", reasons.join("; "))).with("reasons", reasons))
}
