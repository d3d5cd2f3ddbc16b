//! `/v1/circuits` and `/v1/recipes/{id}/targets/{name}`: how targets are, and orders to their circuits.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use hms_actors::id::RecipeId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, answer};
use super::problem::AdminError;
use super::views::{CircuitList, CircuitState};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitsQuery {
    /// Only those in this state.
    #[serde(default)]
    state: Option<CircuitState>,
    /// Only those of this recipe.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    recipe: Option<RecipeId>,
}

pub async fn list(call: Call) -> Result<HttpResponse, AdminError> {
    let query: CircuitsQuery = call.query()?;
    let mut circuits = call.node.backend.circuits().await?;
    circuits.retain(|target| {
        query.state.is_none_or(|state| target.state == state)
            && query.recipe.as_ref().is_none_or(|recipe| target.recipe == recipe.as_str())
    });
    answer(StatusCode::OK, &CircuitList { circuits })
}

pub async fn show(call: Call) -> Result<HttpResponse, AdminError> {
    answer(StatusCode::OK, &call.node.backend.target(&call.target()?).await?)
}

pub async fn order(mut call: Call) -> Result<HttpResponse, AdminError> {
    let target = call.target()?;
    let order = call.json().await?;
    answer(StatusCode::OK, &call.node.backend.order_circuit(&target, order, &call.by).await?)
}
