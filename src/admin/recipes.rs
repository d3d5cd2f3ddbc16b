//! `/v1/recipes`: applying, showing and steering recipes. Parsing and comparing them is the backend's.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::{RecipeList, RunView};

/// Content types of a recipe.
pub const YAML: [&str; 4] = ["application/yaml", "application/x-yaml", "text/yaml", "text/plain"];

/// Largest recipe.
const MAX_TEXT: usize = 1 << 20;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteQuery {
    /// Make dead letters of what waits.
    abandon: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunQuery {
    /// Answer when what was waiting has been tried, not at once.
    wait: bool,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self { wait: true }
    }
}

pub async fn apply(mut call: Call) -> Result<HttpResponse, AdminError> {
    let id = call.recipe()?;
    let options = call.query()?;
    let found = call.content_type();
    if !YAML.contains(&found.as_str()) {
        let detail = format!("content type `{found}` is not taken here: send one of {}", YAML.join(", "));
        return Err(AdminError::unsupported_type(detail));
    }
    let body = call.body(MAX_TEXT).await?;
    let text = String::from_utf8(body.into()).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        AdminError::invalid(format!("byte {byte} is not valid UTF-8: send the recipe as UTF-8")).with("byte", byte)
    })?;
    answer(StatusCode::OK, &call.node.backend.apply(&id, text, options, &call.by).await?)
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &RecipeList { recipes: call.node.backend.recipes().await? })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.recipe(&call.recipe()?).await?)
}

pub async fn delete(call: Call) -> Result<HttpResponse, AdminError> {
    let query: DeleteQuery = call.query()?;
    answer(StatusCode::OK, &call.node.backend.delete(&call.recipe()?, query.abandon, &call.by).await?)
}

pub async fn pause(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.pause(&call.recipe()?, &call.by).await?)
}

pub async fn resume(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.resume(&call.recipe()?, &call.by).await?)
}

pub async fn run(call: Call) -> Result<HttpResponse, AdminError> {
    let id = call.recipe()?;
    let RunQuery { wait } = call.query()?;
    let targets = call.node.backend.run(&id, wait, &call.by).await?;
    let status = if wait { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(status, &RunView { recipe: id.into(), targets })
}
