//! `/v1/feeds`: publishing, and what a feed holds. Reading the envelope is the backend's.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::backend::PublishRequest;
use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::FeedList;

pub async fn publish(mut call: Call) -> Result<HttpResponse, AdminError> {
    let feed = call.feed()?;
    let headers = envelope_headers(&call);
    let body = call.body(call.node.body_limit).await?;
    let published = call.node.backend.publish(&feed, PublishRequest { headers, body }).await?;
    answer(StatusCode::ACCEPTED, &published)
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &FeedList { feeds: call.node.backend.feeds().await? })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.feed(&call.feed()?).await?)
}

fn envelope_headers(call: &Call) -> Vec<(String, Vec<u8>)> {
    let all = call.request.headers().iter();
    let of_the_envelope = all.filter(|(name, _)| *name == "content-type" || name.as_str().starts_with("ce-"));
    of_the_envelope.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
