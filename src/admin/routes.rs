//! The table of routes: what is registered and what the OpenAPI document says come from the same rows.

use actix_web::web::{self, ServiceConfig};
use schemars::{Schema, SchemaGenerator};

use super::{audit, feeds, node, recipes, tickets, views};

/// A row of the table.
pub(super) struct Route {
    pub method: &'static str,
    /// With `{parameters}`.
    pub path: &'static str,
    pub summary: &'static str,
    /// Query parameters: name, type, meaning.
    pub query: &'static [(&'static str, &'static str, &'static str)],
    /// Content types of the body, if it takes one.
    pub body: &'static [&'static str],
    /// Status of success.
    pub status: u16,
    pub answer: AnswerBody,
    handler: fn() -> actix_web::Route,
}

pub(super) enum AnswerBody {
    Nothing,
    Text(&'static str),
    Json(fn(&mut SchemaGenerator) -> Schema),
}

macro_rules! route {
    ($method:ident $path:literal $handler:path, $status:literal $answer:expr, $summary:literal
     $(, query: [$($query:expr),*])? $(, body: [$($body:expr),*])?) => {
        Route {
            method: stringify!($method),
            path: $path,
            summary: $summary,
            query: &[$($($query),*)?],
            body: &[$($($body),*)?],
            status: $status,
            answer: $answer,
            handler: || web::method(actix_web::http::Method::$method).to($handler),
        }
    };
}

fn json<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

use AnswerBody::{Json, Nothing, Text};

const ABANDON: (&str, &str, &str) = ("abandon", "boolean", "what waits for targets that go becomes dead letters");
const YAML: &str = "application/yaml";

pub(super) static ROUTES: &[Route] = &[
    route!(POST "/v1/feeds/{feed}/events" feeds::publish, 202 Json(json::<views::Published>),
        "Publish events; answered when they are on disk to stay",
        body: ["application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson", "application/json"]),
    route!(GET "/v1/feeds" feeds::list, 200 Json(json::<views::Feeds>), "All feeds, with their readers and lag"),
    route!(GET "/v1/feeds/{feed}" feeds::show, 200 Json(json::<views::Feed>), "One feed"),
    route!(GET "/v1/recipes" recipes::list, 200 Json(json::<views::Recipes>), "All recipes"),
    route!(PUT "/v1/recipes/{id}" recipes::apply, 200 Json(json::<views::Applied>), "Apply a recipe",
        query: [("dry_run", "boolean", "say what would change and change nothing"), ABANDON], body: [YAML]),
    route!(GET "/v1/recipes/{id}" recipes::show, 200 Json(json::<views::Recipe>), "One recipe, with its text"),
    route!(DELETE "/v1/recipes/{id}" recipes::delete, 204 Nothing, "Delete a recipe", query: [ABANDON]),
    route!(POST "/v1/recipes/{id}/pause" recipes::pause, 200 Json(json::<views::Recipe>), "Send nothing until resumed"),
    route!(POST "/v1/recipes/{id}/resume" recipes::resume, 200 Json(json::<views::Recipe>), "Go on after a pause"),
    route!(POST "/v1/recipes/{id}/run" recipes::run, 200 Json(json::<views::RunReports>),
        "Deliver now; answered when what was waiting has been tried",
        query: [("wait", "boolean", "false: answer at once, with 202")]),
    route!(GET "/v1/recipes/{id}/targets/{name}" recipes::target, 200 Json(json::<views::Target>), "One target"),
    route!(GET "/v1/tickets" tickets::list, 200 Json(json::<views::Tickets>), "Human tickets",
        query: [("state", "string", "open or resolved")]),
    route!(GET "/v1/tickets/{n}" tickets::show, 200 Json(json::<views::Ticket>), "One ticket"),
    route!(POST "/v1/tickets/{n}" tickets::answer, 200 Json(json::<views::Ticket>), "Answer a ticket",
        body: ["application/json"]),
    route!(GET "/v1/dead-letters" tickets::dead_letters, 200 Json(json::<views::DeadLetters>), "Dead letters",
        query: [("from", "integer", "the first number"), ("limit", "integer", "at most this many")]),
    route!(GET "/v1/dead-letters/{n}" tickets::dead_letter, 200 Json(json::<views::DeadLetter>),
        "One dead letter, with its copy of the event's data"),
    route!(GET "/v1/supervision" node::supervision, 200 Json(json::<views::Actor>), "The tree of actors"),
    route!(GET "/v1/audit" audit::list, 200 Text("application/x-ndjson"), "Audit records, the exact stored lines",
        query: [("from", "integer", "the first seq"), ("limit", "integer", "at most this many")]),
    route!(GET "/metrics" node::metrics, 200 Text("text/plain"), "Metrics, as Prometheus reads them"),
    route!(GET "/healthz" node::healthz, 200 Json(json::<views::Health>), "Whether the process answers"),
    route!(GET "/readyz" node::readyz, 200 Json(json::<views::Health>), "Whether the node can do its work, and why not"),
    route!(GET "/openapi.json" node::openapi, 200 Text("application/json"), "This description"),
];

pub(super) fn register(config: &mut ServiceConfig) {
    for route in ROUTES {
        config.route(route.path, (route.handler)());
    }
}

/// The methods that a path takes; none if there is no such path.
pub(super) fn methods_of(path: &str) -> Vec<&'static str> {
    ROUTES.iter().filter(|route| matches(route.path, path)).map(|route| route.method).collect()
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern.iter().zip(&path).all(|(part, found)| part == found || (part.starts_with('{') && !found.is_empty()))
}

/// The names of a path's parameters.
pub(super) fn parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}
