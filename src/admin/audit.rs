//! `/v1/audit`: the records as they are stored, and the proofs of them. Nothing is parsed or written anew here, or no
//! hash would fit.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, answer};
use super::problem::AdminError;

/// Most records in one answer, however many are asked for.
const MAX_RECORDS: usize = 100_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// The first record's `seq`; without it the oldest that is kept.
    from: Option<u64>,
    /// At most this many records. There may be fewer: go on after the last one.
    limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { from: None, limit: 10_000 }
    }
}

pub async fn read(call: Call) -> Result<HttpResponse, AdminError> {
    let AuditQuery { from, limit } = call.query()?;
    let lines = call.node.backend.audit(from, limit.min(MAX_RECORDS)).await?;
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").body(lines))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofQuery {
    /// The record's `seq`.
    leaf: u64,
    /// Of how many records the tree is; that of the last checkpoint if it is left out.
    size: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// Of how many records the earlier tree is.
    from: u64,
    /// Of how many the later one is; that of the last checkpoint if it is left out.
    to: Option<u64>,
}

const TEXT: &str = "text/plain; charset=utf-8";

pub async fn checkpoint(call: Call) -> Result<HttpResponse, AdminError> {
    Ok(HttpResponse::Ok().content_type(TEXT).body(call.node.backend.checkpoint().await?))
}

pub async fn proof(call: Call) -> Result<HttpResponse, AdminError> {
    let ProofQuery { leaf, size } = call.query()?;
    Ok(HttpResponse::Ok().json(call.node.backend.inclusion(leaf, size).await?))
}

pub async fn consistency(call: Call) -> Result<HttpResponse, AdminError> {
    let ConsistencyQuery { from, to } = call.query()?;
    Ok(HttpResponse::Ok().json(call.node.backend.consistency(from, to).await?))
}

pub async fn prune(mut call: Call) -> Result<HttpResponse, AdminError> {
    let order = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.prune_audit(order, &call.by).await?)
}

pub async fn keys(call: Call) -> Result<HttpResponse, AdminError> {
    Ok(HttpResponse::Ok().content_type(TEXT).body(call.node.backend.audit_keys().await?))
}
