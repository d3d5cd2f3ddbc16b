//! One request on its way to a handler: its path, query and body, read with bounds and refused in words.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::error::QueryPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{Data, Query};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hms_actors::id::{FeedName, NameError, RecipeId, TargetKey, TargetName};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend::Backend;
use super::door::Door;
use super::problem::AdminError;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Memory that is taken for a body before it arrives.
const BODY_AT_ONCE: usize = 1 << 20;

/// What all requests share.
pub struct Node {
    pub backend: Arc<dyn Backend>,
    pub door: Door,
    /// Largest body of a publisher, in bytes.
    pub body_limit: usize,
    /// A permit for each byte of body that may be in memory, over all requests.
    pub room: Arc<Semaphore>,
}

pub struct Call {
    pub node: Data<Node>,
    pub request: HttpRequest,
    /// Who asks: the subject that the audit names.
    pub by: String,
    payload: Payload,
    /// Held as long as the body may be in memory.
    room: Option<OwnedSemaphorePermit>,
}

impl Call {
    pub fn new(node: Data<Node>, request: HttpRequest, payload: Payload, by: String) -> Self {
        Self { node, request, by, payload, room: None }
    }

    pub fn feed(&self) -> Result<FeedName, AdminError> {
        self.name("feed", FeedName::parse)
    }

    pub fn recipe(&self) -> Result<RecipeId, AdminError> {
        self.name("id", RecipeId::parse)
    }

    pub fn target(&self) -> Result<TargetKey, AdminError> {
        Ok(TargetKey { recipe: self.recipe()?, target: self.name("name", TargetName::parse)? })
    }

    pub fn number(&self) -> Result<u64, AdminError> {
        let text = self.segment("n");
        text.parse().map_err(|_| AdminError::invalid(format!("`{text}` is not a number")))
    }

    pub fn query<T: DeserializeOwned>(&self) -> Result<T, AdminError> {
        match Query::<T>::from_query(self.request.query_string()) {
            Ok(query) => Ok(query.into_inner()),
            Err(QueryPayloadError::Deserialize(error)) => Err(AdminError::invalid(format!("query: {error}"))),
            Err(error) => Err(AdminError::invalid(format!("query: {error}"))),
        }
    }

    /// The media type of the body, without parameters, in lower case.
    pub fn content_type(&self) -> String {
        let value = self.request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        value.split(';').next().unwrap_or_default().trim().to_owned()
    }

    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, AdminError> {
        let found = self.content_type();
        if found != "application/json" {
            let detail = format!("content type `{found}` is not taken here: send application/json");
            return Err(AdminError::unsupported_type(detail));
        }
        let body = self.body(64 << 10).await?;
        serde_json::from_slice(&body).map_err(|error| AdminError::invalid(format!("body: {error}")))
    }

    /// The same for a body that may be left out.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, AdminError> {
        if self.request.headers().contains_key(CONTENT_TYPE) {
            return self.json().await;
        }
        match self.body(64 << 10).await?.is_empty() {
            true => Ok(T::default()),
            false => Err(AdminError::unsupported_type("the body has no content type: send application/json")),
        }
    }

    /// The body, if it has at most `limit` bytes. It stops reading at the limit, however the body is framed.
    pub async fn body(&mut self, limit: usize) -> Result<Bytes, AdminError> {
        let reading = tokio::time::timeout(BODY_DEADLINE, self.read(limit)).await;
        reading.unwrap_or_else(|_| {
            Err(AdminError::timeout(format!("the body took longer than {} s", BODY_DEADLINE.as_secs())))
        })
    }

    async fn read(&mut self, limit: usize) -> Result<Bytes, AdminError> {
        let too_large = || {
            let detail = format!("the body is larger than {limit} bytes: send less at once");
            AdminError::too_large(detail).with("limit", limit)
        };
        let length = self.request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > limit) {
            return Err(too_large());
        }
        // What a request says of its length is not believed without end: it may never come.
        let mut body = BytesMut::with_capacity(length.unwrap_or(0).min(BODY_AT_ONCE));
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(|error| AdminError::invalid(format!("the body broke off: {error}")))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            self.take_room(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), AdminError> {
        let overloaded = |_| {
            let detail = "too many bodies are being read: nothing of this one was taken";
            AdminError::overloaded(detail, Duration::from_secs(1))
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = self.node.room.clone().try_acquire_many_owned(bytes).map_err(overloaded)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        Ok(())
    }

    fn name<T>(&self, parameter: &str, parse: fn(&str) -> Result<T, NameError>) -> Result<T, AdminError> {
        parse(&self.segment(parameter)).map_err(|error| AdminError::invalid(format!("{parameter}: {error}")))
    }

    pub fn segment(&self, parameter: &str) -> String {
        let written = self.request.match_info().get(parameter).unwrap_or_default();
        percent_decode_str(written).decode_utf8_lossy().into_owned()
    }
}

/// An answer in JSON.
pub fn answer<T: Serialize>(status: StatusCode, view: &T) -> Result<HttpResponse, AdminError> {
    let body = serde_json::to_vec(view).map_err(|error| AdminError::internal(error.to_string()))?;
    Ok(HttpResponse::build(status).content_type("application/json").body(body))
}
