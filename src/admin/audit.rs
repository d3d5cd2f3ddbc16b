//! `/v1/audit`: the records as they are stored. Nothing is parsed or written anew here, or no hash would fit.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::Call;
use super::problem::AdminError;

/// Most records in one answer, however many are asked for.
const MAX_RECORDS: usize = 100_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// The first record's `seq`.
    from: u64,
    /// At most this many records. There may be fewer: go on after the last one.
    limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { from: 0, limit: 10_000 }
    }
}

pub async fn read(call: Call) -> Result<HttpResponse, AdminError> {
    let AuditQuery { from, limit } = call.query()?;
    let lines = call.node.backend.audit(from, limit.min(MAX_RECORDS)).await?;
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}
