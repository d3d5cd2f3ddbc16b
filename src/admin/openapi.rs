//! The OpenAPI 3.1 document, made from the table of routes and the types of the views.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{AnswerBody, ROUTES, Route, parameters};
use super::views;

pub(super) fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = generator.subschema_for::<views::ProblemDetails>();
    let answer = generator.subschema_for::<views::TicketAnswer>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut generator, &problem.clone().into(), &answer.clone().into());
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "hms-sync", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn operation(route: &Route, generator: &mut schemars::SchemaGenerator, problem: &Value, answer: &Value) -> Value {
    let in_path = parameters(route.path).map(|name| {
        let kind = if name == "n" { "integer" } else { "string" };
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
    });
    let in_query = route.query.iter().map(|(name, kind, meaning)| {
        json!({ "name": name, "in": "query", "description": meaning, "schema": { "type": kind } })
    });
    let content = match &route.answer {
        AnswerBody::Nothing => json!({}),
        AnswerBody::Text(media) => json!({ *media: {} }),
        AnswerBody::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
    };
    let mut operation = json!({
        "summary": route.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            route.status.to_string(): { "description": "success", "content": content },
            "default": { "description": "what is wrong", "content": { "application/problem+json": { "schema": problem } } },
        },
    });
    if !route.body.is_empty() {
        let schema = if route.path == "/v1/tickets/{n}" { answer.clone() } else { json!({}) };
        let content: Map<String, Value> =
            route.body.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}
