//! The node itself: health, metrics, the tree of actors, and the description of this endpoint.

use actix_web::HttpResponse;

use super::{Answer, Shared, openapi, views};

pub async fn healthz() -> Answer {
    Ok(HttpResponse::Ok().json(health(Vec::new())))
}

pub async fn readyz(state: Shared) -> Answer {
    let reasons = state.backend.not_ready().await;
    let mut response = if reasons.is_empty() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    Ok(response.json(health(reasons)))
}

fn health(reasons: Vec<String>) -> views::Health {
    let status = if reasons.is_empty() { "ok" } else { "not ready" };
    views::Health { status: status.to_owned(), reasons, version: env!("CARGO_PKG_VERSION").to_owned() }
}

pub async fn metrics(state: Shared) -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.backend.metrics().await))
}

pub async fn supervision(state: Shared) -> Answer {
    Ok(HttpResponse::Ok().json(state.backend.supervision().await?))
}

pub async fn openapi() -> Answer {
    Ok(HttpResponse::Ok().json(openapi::document()))
}
