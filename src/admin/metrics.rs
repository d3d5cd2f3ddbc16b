//! `/metrics`: the Prometheus text format, as the backend renders it.

use actix_web::HttpResponse;

use super::call::Call;
use super::problem::AdminError;

pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn render(call: Call) -> Result<HttpResponse, AdminError> {
    let text = call.node.backend.metrics().await?;
    Ok(HttpResponse::Ok().content_type(PROMETHEUS).body(text))
}
