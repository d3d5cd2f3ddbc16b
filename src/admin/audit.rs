//! `/v1/audit`: the records as they are stored. Nothing is parsed or written anew here, or no hash would fit.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::Call;
use super::problem::AdminError;

/// Most records in one answer.
const MAX_RECORDS: usize = 10_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// The first record's `seq`.
    from: u64,
    /// At most this many records, 1 to 10000. There may be fewer when they are big: go on after the last one.
    limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { from: 0, limit: MAX_RECORDS }
    }
}

pub async fn read(call: Call) -> Result<HttpResponse, AdminError> {
    let AuditQuery { from, limit } = call.query()?;
    if !(1..=MAX_RECORDS).contains(&limit) {
        return Err(AdminError::invalid(format!("query: `limit` is {limit}: it must be 1 to {MAX_RECORDS}")));
    }
    let lines = call.node.backend.audit(from, limit).await?;
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}
