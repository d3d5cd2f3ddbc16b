//! `/openapi.json`: the table of routes as OpenAPI 3.1.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::door::Needs;
use super::problem::AdminError;
use super::routes::{ROUTES, Route};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

pub async fn show(_: Call) -> Result<HttpResponse, AdminError> {
    Ok(HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str()))
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method.method().as_str().to_ascii_lowercase()] = operation(route, &mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": { "title": "hms-sync admin endpoint", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let answer = json!({ (route.gives): { "schema": (route.answer)(generator) } });
    let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters(route, generator),
        "responses": {
            (route.status.as_str()): { "description": "Done", "content": &answer },
            "default": { "description": "Refused", "content": &problem },
        },
    });
    if route.needs == Needs::Nothing {
        operation["security"] = json!([]);
    } else {
        operation["security"] = json!([{ "token": [] }]);
        let refused = |why: &str| json!({ "description": why, "content": &problem });
        operation["responses"]["401"] = refused("No token, or one that is not valid");
        operation["responses"]["403"] = refused("The token's role does not allow it");
        operation["responses"]["429"] = refused("Too many wrong tokens from this address");
    }
    if let Needs::Role(role) = route.needs {
        operation["x-role"] = role.as_str().into();
        operation["description"] = format!("Needs the role {role}.").into();
    }
    if let Some(status) = route.unfinished {
        operation["responses"][status.as_str()] = json!({ "description": "It goes on", "content": answer });
    }
    if !route.takes.is_empty() {
        let types =
            route.takes.iter().map(|(media, schema)| ((*media).to_owned(), json!({ "schema": schema(generator) })));
        operation["requestBody"] = json!({ "required": route.needs_body, "content": types.collect::<Map<_, _>>() });
    }
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path.map(path_parameter).collect();
    let query = route.query.map(|schema| schema(generator)).unwrap_or_default();
    parameters.extend(query_parameters(&query));
    parameters
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "n" => json!({ "type": "integer", "minimum": 0 }),
        _ => json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,127}$" }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn query_parameters(query: &Schema) -> Vec<Value> {
    let properties = query.get("properties").and_then(Value::as_object);
    let required = query.get("required").and_then(Value::as_array);
    let parameter = |(name, schema): (&String, &Value)| {
        let required = required.is_some_and(|names| names.iter().any(|required| required == name));
        json!({ "name": name, "in": "query", "required": required, "schema": schema })
    };
    properties.into_iter().flatten().map(parameter).collect()
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457. Some problems have further members: where the error is, or counts.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
        },
    })
}
