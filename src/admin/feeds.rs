//! Feeds: publishing, and what is kept.

use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hms_actors::id::FeedName;

use super::problem::Problem;
use super::{Answer, Shared, views};
use crate::feeds::cloudevents::{self, EnvelopeError};

/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(60);

/// What is still read of a body that is refused, so that the client gets to see why.
const DISCARD: u64 = 256 << 20;

pub async fn publish(state: Shared, feed: web::Path<String>, request: HttpRequest, body: web::Payload) -> Answer {
    let feed = name(&feed)?;
    let body = read(body, declared(&request), state.max_body).await?;
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| Ok((name.as_str().to_owned(), header_text(name.as_str(), value)?)))
        .collect::<Result<_, Problem>>()?;
    let content_type = headers.iter().find(|(name, _)| name == CONTENT_TYPE.as_str()).map_or("", |(_, value)| value);
    let events = cloudevents::parse(feed.as_str(), content_type, &headers, &body).map_err(|error| match error {
        EnvelopeError::Unsupported { .. } => Problem::new(415, "unsupported media type").detail(error.to_string()),
        EnvelopeError::Invalid { .. } => Problem::bad_request(error.to_string()),
    })?;
    let published = state.backend.publish(feed, events).await?;
    Ok(HttpResponse::Accepted().json(published))
}

pub async fn list(state: Shared) -> Answer {
    Ok(HttpResponse::Ok().json(views::Feeds { feeds: state.backend.feeds().await? }))
}

pub async fn show(state: Shared, feed: web::Path<String>) -> Answer {
    let feed = name(&feed)?;
    let found = state.backend.feeds().await?.into_iter().find(|found| found.name == feed.as_str());
    let found = found.ok_or_else(|| Problem::not_found(format!("nothing was ever published to feed `{feed}`")))?;
    Ok(HttpResponse::Ok().json(found))
}

fn name(text: &str) -> Result<FeedName, Problem> {
    FeedName::parse(text).map_err(|error| Problem::bad_request(format!("feed: {error}")))
}

fn header_text(name: &str, value: &actix_web::http::header::HeaderValue) -> Result<String, Problem> {
    if !name.starts_with("ce-") {
        return Ok(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned).map_err(|_| Problem::bad_request(format!("header `{name}` is not UTF-8")))
}

fn declared(request: &HttpRequest) -> Option<u64> {
    request.headers().get("content-length")?.to_str().ok()?.parse().ok()
}

/// Reads a body up to its limit, whether it says its length or not.
pub(super) async fn read(mut body: web::Payload, declared: Option<u64>, limit: u64) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(413, "content too large")
            .detail(format!("the body is larger than {limit} bytes (limits.body): publish it in smaller requests"))
    };
    let whole = async {
        let mut bytes = BytesMut::new();
        let mut refused = declared.is_some_and(|length| length > limit);
        let mut seen = 0u64;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
            seen += chunk.len() as u64;
            refused |= seen > limit;
            if refused {
                bytes.clear();
                if seen > DISCARD {
                    break;
                }
            } else {
                bytes.extend_from_slice(&chunk);
            }
        }
        if refused { Err(too_large()) } else { Ok(bytes.freeze()) }
    };
    let late =
        |_| Problem::new(408, "request timeout").detail(format!("the body took longer than {} s", BODY.as_secs()));
    tokio::time::timeout(BODY, whole).await.map_err(late)?
}
