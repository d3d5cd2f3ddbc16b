//! The table of routes. A route that isn't here is neither served nor documented; one that is here is both.
//! What a caller needs is a column of it, so that a route without a rule does not compile. Not here: how they are served.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode};
use futures_util::future::LocalBoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use self::Verb::{Delete, Get, Post, Put};
use super::call::Call;
use super::door::Needs;
use super::metrics::PROMETHEUS;
use super::problem::AdminError;
use super::{
    audit, circuits, dead_letters, feeds, health, metrics, openapi, privacy, recipes, supervision, tickets, tokens,
    views,
};
use crate::access::Role;

const PUBLISH: Needs = Needs::Role(Role::Publisher);
const VIEW: Needs = Needs::Role(Role::Viewer);
const OPERATE: Needs = Needs::Role(Role::Operator);
const ADMINISTER: Needs = Needs::Role(Role::Admin);

/// A handler, as the table holds it.
macro_rules! by {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

/// Every route. Those of one path stand together.
pub const ROUTES: &[Route] = &[
    Route {
        takes: &[
            ("application/cloudevents+json", object),
            ("application/cloudevents-batch+json", objects),
            ("application/x-ndjson", text),
            ("application/json", object),
        ],
        status: StatusCode::ACCEPTED,
        ..route(
            Post,
            PUBLISH,
            "/v1/feeds/{feed}/events",
            "publishEvents",
            "Publish events",
            of::<views::Published>,
            by!(feeds::publish),
        )
    },
    route(Get, VIEW, "/v1/feeds", "listFeeds", "List the feeds", of::<views::FeedList>, by!(feeds::list)),
    route(
        Get,
        VIEW,
        "/v1/feeds/{feed}",
        "showFeed",
        "Show a feed and its readers",
        of::<views::FeedView>,
        by!(feeds::show),
    ),
    route(Get, VIEW, "/v1/recipes", "listRecipes", "List the recipes", of::<views::RecipeList>, by!(recipes::list)),
    route(
        Get,
        VIEW,
        "/v1/recipes/{id}",
        "showRecipe",
        "Show a recipe and its targets",
        of::<views::RecipeView>,
        by!(recipes::show),
    ),
    Route {
        takes: &[
            (recipes::YAML[0], text),
            (recipes::YAML[1], text),
            (recipes::YAML[2], text),
            (recipes::YAML[3], text),
        ],
        query: Some(inline::<views::ApplyOptions>),
        ..route(
            Put,
            OPERATE,
            "/v1/recipes/{id}",
            "applyRecipe",
            "Check a recipe and make it run",
            of::<views::Applied>,
            by!(recipes::apply),
        )
    },
    Route {
        query: Some(inline::<recipes::DeleteQuery>),
        ..route(
            Delete,
            OPERATE,
            "/v1/recipes/{id}",
            "deleteRecipe",
            "Delete a recipe",
            of::<views::Deleted>,
            by!(recipes::delete),
        )
    },
    route(
        Post,
        OPERATE,
        "/v1/recipes/{id}/pause",
        "pauseRecipe",
        "Send nothing more",
        of::<views::RecipeView>,
        by!(recipes::pause),
    ),
    route(
        Post,
        OPERATE,
        "/v1/recipes/{id}/resume",
        "resumeRecipe",
        "Go on after a pause",
        of::<views::RecipeView>,
        by!(recipes::resume),
    ),
    Route {
        query: Some(inline::<recipes::RunQuery>),
        unfinished: Some(StatusCode::ACCEPTED),
        deadline: Duration::from_secs(600),
        ..route(
            Post,
            OPERATE,
            "/v1/recipes/{id}/run",
            "runRecipe",
            "Deliver what waits, now",
            of::<views::RunView>,
            by!(recipes::run),
        )
    },
    Route {
        query: Some(inline::<circuits::CircuitsQuery>),
        ..route(
            Get,
            VIEW,
            "/v1/circuits",
            "listCircuits",
            "List the targets and their circuits",
            of::<views::CircuitList>,
            by!(circuits::list),
        )
    },
    route(
        Get,
        VIEW,
        "/v1/recipes/{id}/targets/{name}",
        "showTarget",
        "Show a target and its circuit",
        of::<views::TargetView>,
        by!(circuits::show),
    ),
    Route {
        takes: &[("application/json", of::<views::CircuitOrder>)],
        ..route(
            Post,
            OPERATE,
            "/v1/recipes/{id}/targets/{name}/circuit",
            "orderCircuit",
            "Open, close or probe a circuit",
            of::<views::TargetView>,
            by!(circuits::order),
        )
    },
    Route {
        query: Some(inline::<tickets::TicketsQuery>),
        ..route(
            Get,
            VIEW,
            "/v1/tickets",
            "listTickets",
            "List the tickets",
            of::<views::TicketList>,
            by!(tickets::list),
        )
    },
    route(Get, VIEW, "/v1/tickets/{n}", "showTicket", "Show a ticket", of::<views::TicketView>, by!(tickets::show)),
    Route {
        takes: &[("application/json", of::<views::TicketAnswer>)],
        ..route(
            Post,
            OPERATE,
            "/v1/tickets/{n}",
            "answerTicket",
            "Answer a ticket",
            of::<views::TicketView>,
            by!(tickets::decide),
        )
    },
    Route {
        query: Some(inline::<dead_letters::LettersQuery>),
        ..route(
            Get,
            VIEW,
            "/v1/dead-letters",
            "listDeadLetters",
            "List the dead letters, page by page",
            of::<views::DeadLetterList>,
            by!(dead_letters::list),
        )
    },
    route(
        Get,
        VIEW,
        "/v1/dead-letters/{n}",
        "showDeadLetter",
        "Show a dead letter with its event",
        of::<views::DeadLetterDetail>,
        by!(dead_letters::show),
    ),
    Route {
        query: Some(inline::<dead_letters::DropQuery>),
        ..route(
            Delete,
            OPERATE,
            "/v1/dead-letters/{n}",
            "dropDeadLetter",
            "Give a dead letter up",
            of::<views::LetterOutcome>,
            by!(dead_letters::give_up),
        )
    },
    Route {
        takes: &[("application/json", of::<views::ReplayOptions>)],
        needs_body: false,
        unfinished: Some(StatusCode::ACCEPTED),
        ..route(
            Post,
            OPERATE,
            "/v1/dead-letters/{n}/replay",
            "replayDeadLetter",
            "Deliver a dead letter to the target that missed it",
            of::<views::LetterOutcome>,
            by!(dead_letters::replay),
        )
    },
    route(Get, ADMINISTER, "/v1/tokens", "listTokens", "List the tokens", of::<views::TokenList>, by!(tokens::list)),
    Route {
        takes: &[("application/json", of::<views::NewToken>)],
        status: StatusCode::CREATED,
        ..route(
            Post,
            ADMINISTER,
            "/v1/tokens",
            "createToken",
            "Make a token; it is shown this once",
            of::<views::TokenCreated>,
            by!(tokens::create),
        )
    },
    route(
        Delete,
        ADMINISTER,
        "/v1/tokens/{name}",
        "revokeToken",
        "End a token",
        of::<views::TokenView>,
        by!(tokens::revoke),
    ),
    route(
        Get,
        VIEW,
        "/v1/privacy/keys",
        "listPrivacyKeys",
        "List the keys of partners, never their bytes",
        of::<views::PrivacyKeyList>,
        by!(privacy::list),
    ),
    Route {
        takes: &[("application/json", of::<views::PrivacyKeyOrder>)],
        ..route(
            Post,
            ADMINISTER,
            "/v1/privacy/keys",
            "makePrivacyKey",
            "Make a partner's first key, or its next version",
            of::<views::PrivacyKeyView>,
            by!(privacy::make),
        )
    },
    Route {
        takes: &[("application/json", of::<views::PrivacyTokenQuery>)],
        ..route(
            Post,
            OPERATE,
            "/v1/privacy/tokens",
            "findPrivacyToken",
            "Tell what a value becomes at a target",
            of::<views::PrivacyTokenView>,
            by!(privacy::token),
        )
    },
    route(
        Get,
        VIEW,
        "/v1/supervision",
        "showSupervision",
        "Show who watches whom",
        of::<views::SupervisionView>,
        by!(supervision::show),
    ),
    Route {
        query: Some(inline::<audit::AuditQuery>),
        gives: "application/x-ndjson",
        ..route(Get, VIEW, "/v1/audit", "readAudit", "Read audit records, as stored", text, by!(audit::read))
    },
    Route {
        gives: "text/plain",
        ..route(
            Get,
            VIEW,
            "/v1/audit/checkpoint",
            "showAuditCheckpoint",
            "Sign what the audit holds now: a C2SP tlog-checkpoint",
            text,
            by!(audit::checkpoint),
        )
    },
    Route {
        query: Some(inline::<audit::ProofQuery>),
        ..route(
            Get,
            VIEW,
            "/v1/audit/proof",
            "proveAuditRecord",
            "Show that a record is in the audit",
            of::<views::InclusionView>,
            by!(audit::proof),
        )
    },
    Route {
        query: Some(inline::<audit::ConsistencyQuery>),
        ..route(
            Get,
            VIEW,
            "/v1/audit/consistency",
            "proveAuditConsistency",
            "Show that the audit continues an earlier one",
            of::<views::ConsistencyView>,
            by!(audit::consistency),
        )
    },
    Route {
        takes: &[("application/json", of::<views::PruneOrder>)],
        deadline: Duration::from_secs(600),
        ..route(
            Post,
            ADMINISTER,
            "/v1/audit/prune",
            "pruneAudit",
            "Remove old records that were exported and anchored",
            of::<views::PrunedView>,
            by!(audit::prune),
        )
    },
    Route {
        gives: "text/plain",
        ..route(
            Get,
            VIEW,
            "/v1/audit/key",
            "showAuditKeys",
            "Show the public keys of the audit, that in use last",
            text,
            by!(audit::keys),
        )
    },
    Route {
        gives: PROMETHEUS,
        ..route(Get, VIEW, "/metrics", "metrics", "Metrics for Prometheus", text, by!(metrics::render))
    },
    route(
        Get,
        Needs::Nothing,
        "/healthz",
        "healthz",
        "Whether the endpoint answers",
        of::<views::HealthView>,
        by!(health::alive),
    ),
    route(
        Get,
        Needs::Nothing,
        "/readyz",
        "readyz",
        "Whether the node can do its work",
        of::<views::HealthView>,
        by!(health::ready),
    ),
    route(Get, Needs::Token, "/openapi.json", "openapi", "This description", object, by!(openapi::show)),
];

/// One operation of the endpoint.
pub struct Route {
    pub method: Verb,
    /// Of its caller.
    pub needs: Needs,
    /// With its parameters in braces.
    pub path: &'static str,
    pub operation: &'static str,
    pub summary: &'static str,
    /// An object whose properties are the parameters.
    pub query: Option<SchemaOf>,
    /// Content types of the body, and what is in it.
    pub takes: &'static [(&'static str, SchemaOf)],
    pub needs_body: bool,
    /// Of the answer when all went well.
    pub status: StatusCode,
    /// Of the answer, where the work may still go on then.
    pub unfinished: Option<StatusCode>,
    pub gives: &'static str,
    pub answer: SchemaOf,
    /// The answer comes before this, one way or another.
    pub deadline: Duration,
    pub handler: Handler,
}

/// Those of HTTP that the table uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    pub fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
        }
    }

    /// What can be got can also be asked for without its body.
    pub fn allows(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;
pub type Handler = fn(Call) -> LocalBoxFuture<'static, Result<HttpResponse, AdminError>>;

const fn route(
    method: Verb,
    needs: Needs,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    answer: SchemaOf,
    handler: Handler,
) -> Route {
    Route {
        method,
        needs,
        path,
        operation,
        summary,
        query: None,
        takes: &[],
        needs_body: true,
        status: StatusCode::OK,
        unfinished: None,
        gives: "application/json",
        answer,
        deadline: Duration::from_secs(60),
        handler,
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

fn object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

fn objects(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "array", "items": { "type": "object" } })
}

fn text(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "string" })
}
