//! The audit, line by line as it is stored.

use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::{Answer, Shared, recipes};

/// Records in one answer, unless fewer are asked for.
const PAGE: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    from: u64,
    limit: Option<usize>,
}

pub async fn list(state: Shared, request: HttpRequest) -> Answer {
    let query = recipes::query::<AuditQuery>(&request)?;
    let lines = state.backend.audit(query.from, query.limit.unwrap_or(PAGE).min(PAGE)).await?;
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}
