//! Recipes and their targets.

use actix_web::{HttpRequest, HttpResponse, web};
use hms_actors::id::{RecipeId, TargetName};
use serde::Deserialize;

use super::backend::Apply;
use super::problem::Problem;
use super::{Answer, Shared, feeds, subject, views};

/// A recipe is refused above this size before anything looks at it.
const MAX_RECIPE: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApplyQuery {
    dry_run: bool,
    abandon: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeleteQuery {
    abandon: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    #[serde(default = "yes")]
    wait: bool,
}

fn yes() -> bool {
    true
}

pub async fn apply(state: Shared, id: web::Path<String>, request: HttpRequest, body: web::Payload) -> Answer {
    let (id, query) = (recipe_id(&id)?, query::<ApplyQuery>(&request)?);
    let body = feeds::read(body, None, MAX_RECIPE).await.map_err(|problem| match problem.status {
        413 => problem.detail("a recipe has at most 1 MiB"),
        _ => problem,
    })?;
    let text = String::from_utf8(body.to_vec()).map_err(|error| {
        Problem::bad_request(format!(
            "the recipe is not UTF-8: the first bad byte is at offset {}",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let how = Apply { dry_run: query.dry_run, abandon: query.abandon };
    let applied = state.backend.apply(id, text, how, subject(&request)).await?;
    let created = applied.created && !query.dry_run;
    Ok(if created { HttpResponse::Created() } else { HttpResponse::Ok() }.json(applied))
}

pub async fn list(state: Shared) -> Answer {
    Ok(HttpResponse::Ok().json(views::Recipes { recipes: state.backend.recipes().await? }))
}

pub async fn show(state: Shared, id: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(state.backend.recipe(recipe_id(&id)?).await?))
}

pub async fn target(state: Shared, path: web::Path<(String, String)>) -> Answer {
    let target = TargetName::parse(&path.1).map_err(|error| Problem::bad_request(format!("target: {error}")))?;
    Ok(HttpResponse::Ok().json(state.backend.target(recipe_id(&path.0)?, target).await?))
}

pub async fn delete(state: Shared, id: web::Path<String>, request: HttpRequest) -> Answer {
    let query = query::<DeleteQuery>(&request)?;
    state.backend.delete(recipe_id(&id)?, query.abandon, subject(&request)).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn pause(state: Shared, id: web::Path<String>, request: HttpRequest) -> Answer {
    set_paused(state, &id, true, &request).await
}

pub async fn resume(state: Shared, id: web::Path<String>, request: HttpRequest) -> Answer {
    set_paused(state, &id, false, &request).await
}

async fn set_paused(state: Shared, id: &str, paused: bool, request: &HttpRequest) -> Answer {
    let id = recipe_id(id)?;
    state.backend.set_paused(id.clone(), paused, subject(request)).await?;
    Ok(HttpResponse::Ok().json(state.backend.recipe(id).await?))
}

pub async fn run(state: Shared, id: web::Path<String>, request: HttpRequest) -> Answer {
    let query = query::<RunQuery>(&request)?;
    let targets = state.backend.run(recipe_id(&id)?, query.wait).await?;
    Ok(if query.wait { HttpResponse::Ok() } else { HttpResponse::Accepted() }.json(views::RunReports { targets }))
}

fn recipe_id(text: &str) -> Result<RecipeId, Problem> {
    RecipeId::parse(text).map_err(|error| Problem::bad_request(format!("recipe: {error}")))
}

/// The query, with an error in words.
pub(super) fn query<T: for<'de> Deserialize<'de>>(request: &HttpRequest) -> Result<T, Problem> {
    let parsed = web::Query::<T>::from_query(request.query_string());
    parsed.map(web::Query::into_inner).map_err(|error| Problem::bad_request(format!("query: {error}")))
}
