//! The whole grammar of a recipe: every key, its type and its description. What keys mean together is
//! checked in `check`.

use std::time::Duration;

use hms_actors::id::{FeedName, RecipeId, TargetName};
use hms_actors::settings::{LineEnd, OnDeny, OnDoubt, WriteMode};
use serde_json::{Value as Json, json};

use super::model::{BatchFormat, FileFormat, From, Method, ScheduleSpec};
use super::template::Template;
use super::url_template::UrlTemplate;
use super::values::{
    AdapterKind, AuthKind, Classification, Country, HeaderName, HostName, Idempotency, Protection, Rate,
};
use crate::catalog::LabelList;
use crate::record;
use crate::yaml::grammar::{Grammar, Located, Reader};
use crate::yaml::tree::{Node, Value};
use crate::yaml::values::{Number, Pairs, SecretName, Text};

record! {
    /// A sync recipe: what to copy, where, and how often.
    pub struct RecipeDoc as "a recipe" {
        /// Name of the recipe. The lines in the audit stream drop a trailing `.sync`.
        required id: RecipeId,
        /// What is copied.
        required source: SourceDoc,
        /// Where it goes. Each target has its own checkpoint; one that is down stops only itself.
        required targets: Vec<Located<TargetDoc>>,
        /// When it runs: `every <duration>` (an upper bound), `cron "…"` in the node's time zone, or `on_change`.
        required schedule: ScheduleSpec,
        /// Failed attempts in a row before a human ticket; delivery goes on after it. Default 3.
        optional retries: Number<1, 1000>,
    }
}

record! {
    /// What is copied.
    pub struct SourceDoc as "`source`" {
        /// The change feed that is read. It can't be changed later.
        required feed: FeedName,
        /// The fields that are copied; also the order of columns. Absent: all of them.
        optional fields: Vec<Located<Text>>,
        /// The field whose value order is kept by. Absent: the event's subject; neither: each event its own.
        optional key: Text,
        /// Where a new recipe starts: `now` (default), `beginning`, an offset, or an RFC 3339 time.
        optional from: From,
        /// Fields without which an event is refused.
        optional required: Vec<Located<Text>>,
        /// Labels beside those of the node's catalog: `{field: [pii]}`. None can be taken away.
        optional labels: Pairs<LabelList>,
    }
}

record! {
    /// A target. Which keys belong to which adapter is said with each key.
    pub struct TargetDoc as "a target" {
        /// Name of the target, unique in its recipe. The names of its secrets are derived from it.
        required name: TargetName,
        /// The language that the partner speaks.
        required adapter: AdapterKind,
        /// rest: where requests go. `{field}` may stand in path and query, with one event a request.
        optional url: UrlTemplate,
        /// rest: POST (default), PUT or PATCH.
        optional method: Method,
        /// rest, sftp: how to log in: a type alone (`api_key`), or a mapping. Secrets are never in a recipe.
        optional auth: AuthDoc,
        /// rest: more request headers.
        optional headers: Pairs<Text>,
        /// rest: several events in one request.
        optional batch: BatchDoc,
        /// rest, sftp: longest time of one attempt or operation. Default 10s.
        optional timeout: Duration,
        /// rest: requests in flight, never two of one key. Default 8.
        optional concurrency: Number<1, 1024>,
        /// rest: whether the partner honours the header `Idempotency-Key`. Default `ignored`.
        optional idempotency: Idempotency,
        /// rest: name of the client certificate for mutual TLS, from the secrets.
        optional client_cert: SecretName,
        /// sftp: the partner's host, as it is in known_hosts.
        optional host: HostName,
        /// sftp: Default 22.
        optional port: Number<1, 65535>,
        /// sftp: Default `sync`.
        optional user: Text,
        /// sftp, file: from the root, with {YYYY} {MM} {DD} {YYYYMMDD} {HH} {mm} {recipe} {batch}.
        optional path: Template,
        /// sftp, file: csv (RFC 4180) or jsonl.
        optional format: FileFormat,
        /// sftp, file: whether a new CSV file begins with the names of its columns. Default false.
        optional header: bool,
        /// sftp, file: append rows to one file (default), or a file per batch (`{batch}` in the path).
        optional write: WriteMode,
        /// sftp, file: when nobody can know whether rows were read: hold for a human (default), or resend.
        optional on_doubt: OnDoubt,
        /// sftp, file: lf (default) or crlf.
        optional line_end: LineEnd,
        /// Renames fields for this partner: `{field: name}`.
        optional map: Pairs<Text>,
        /// The target's earlier name: takes over its checkpoint, plan, tickets and dead letters.
        optional renamed_from: TargetName,
        /// How often requests may start: `50/s`, or `{rate: 50/s, burst: 10}`. Default: no limit.
        optional rate_limit: RateLimitDoc,
        /// When to stop trying and when to probe.
        optional circuit: CircuitDoc,
        /// external (default) or internal. What carries a label goes to an external target only protected.
        optional classification: Classification,
        /// The country where the partner keeps the data, as ISO 3166 alpha-2. Absent: unknown, which
        /// to policies is no country.
        optional residency: Country,
        /// What becomes of an event that a policy denies: hold (default) or dead_letter.
        optional on_deny: OnDeny,
        /// How fields are protected on their way: `{field: token|redact|last4|ff1}`.
        optional protect: Pairs<Protection>,
    }
}

/// Which adapters a key belongs to. A key that isn't here belongs to all of them.
pub const ONLY_FOR: &[(&str, &[AdapterKind])] = {
    use AdapterKind::{File, Rest, Sftp};
    &[
        ("url", &[Rest]),
        ("method", &[Rest]),
        ("headers", &[Rest]),
        ("batch", &[Rest]),
        ("concurrency", &[Rest]),
        ("idempotency", &[Rest]),
        ("client_cert", &[Rest]),
        ("auth", &[Rest, Sftp]),
        ("timeout", &[Rest, Sftp]),
        ("rate_limit", &[Rest, Sftp]),
        ("host", &[Sftp]),
        ("port", &[Sftp]),
        ("user", &[Sftp]),
        ("path", &[Sftp, File]),
        ("format", &[Sftp, File]),
        ("header", &[Sftp, File]),
        ("write", &[Sftp, File]),
        ("on_doubt", &[Sftp, File]),
        ("line_end", &[Sftp, File]),
    ]
};

impl AdapterKind {
    /// What belongs to which adapter, as rules of a JSON Schema.
    pub fn rules() -> Json {
        let rule = |kind: Self| {
            let foreign = ONLY_FOR.iter().filter(|(_, kinds)| !kinds.contains(&kind));
            let refused: serde_json::Map<String, Json> =
                foreign.map(|(key, _)| ((*key).to_owned(), Json::Bool(false))).collect();
            json!({
                "if": {"properties": {"adapter": {"const": kind.word()}}, "required": ["adapter"]},
                "then": {"properties": refused, "required": kind.required_keys()},
            })
        };
        Self::ALL.map(rule).into_iter().collect()
    }

    pub fn required_keys(self) -> &'static [&'static str] {
        match self {
            Self::Rest => &["url"],
            Self::Sftp => &["host", "path", "format"],
            Self::File => &["path", "format"],
        }
    }
}

record! {
    /// Several events in one request.
    pub struct BatchDoc as "`batch`" {
        /// At most so many events. Default 1.
        optional max_events: Number<1, 10_000>,
        /// object (one event, default), json_array, ndjson or cloudevents_batch.
        optional format: BatchFormat,
    }
}

record! {
    /// How to log in. The secret itself is looked up when it is needed.
    pub struct AuthTable as "`auth`" {
        /// rest: api_key, bearer, basic or oauth2_client_credentials; sftp: key or password.
        required r#type: AuthKind,
        /// api_key: the header that carries the key. Default X-API-Key.
        optional header: HeaderName,
        /// Name of the secret, where it isn't derived from the target's name. `secret_hosts` must list it.
        optional secret: SecretName,
        /// basic: the user.
        optional username: Text,
        /// oauth2_client_credentials: where tokens come from.
        optional token_url: UrlTemplate,
        /// oauth2_client_credentials: who asks for them.
        optional client_id: Text,
        /// oauth2_client_credentials: what the token is for.
        optional scope: Text,
        /// oauth2_client_credentials: whom the token is for.
        optional audience: Text,
    }
}

/// `auth: api_key` or `auth: {type: api_key, …}`.
#[derive(Debug, Clone)]
pub enum AuthDoc {
    Short(AuthKind),
    Table(Box<AuthTable>),
}

impl Grammar for AuthDoc {
    fn schema() -> Json {
        json!({"anyOf": [AuthKind::schema(), AuthTable::schema()]})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Map(_) => AuthTable::read(node, reader).map(|table| Self::Table(Box::new(table))),
            _ => AuthKind::read(node, reader).map(Self::Short),
        }
    }
}

record! {
    /// When to stop trying and when to probe.
    pub struct CircuitDoc as "`circuit`" {
        /// Failures in a row that open it. Default 3.
        optional failures: Number<1, 1000>,
        /// How long it stays open at first. Default 30s.
        optional open_for: Duration,
        /// The longest that it stays open. Default 10m.
        optional max_open_for: Duration,
    }
}

record! {
    /// How often requests may start.
    pub struct RateLimitTable as "`rate_limit`" {
        /// Requests in a time, such as 50/s.
        required rate: Rate,
        /// How many may start at once. Default 1.
        optional burst: Number<1, 100_000>,
    }
}

/// `rate_limit: 50/s` or `rate_limit: {rate: 50/s, burst: 10}`.
#[derive(Debug, Clone)]
pub enum RateLimitDoc {
    Short(Rate),
    Table(Box<RateLimitTable>),
}

impl Grammar for RateLimitDoc {
    fn schema() -> Json {
        json!({"anyOf": [Rate::schema(), RateLimitTable::schema()]})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Map(_) => RateLimitTable::read(node, reader).map(|table| Self::Table(Box::new(table))),
            _ => Rate::read(node, reader).map(Self::Short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::diagnostics::Collector;
    use crate::yaml::tree;

    /// Reads with every key available: what isn't built yet has its grammar ready.
    fn target(yaml: &str) -> (TargetDoc, bool) {
        let mut reader = Reader::new(Collector::new("f", yaml));
        let doc = TargetDoc::read(&tree::parse("f", yaml).unwrap(), &mut reader).unwrap();
        (doc, reader.errors.finish(Some(())).is_ok())
    }

    #[test]
    fn the_grammar_of_what_is_not_built_yet_is_ready() {
        let yaml = "name: a\nadapter: rest\nrate_limit: {rate: 300/m, burst: 10}\ncircuit: {failures: 5, open_for: 1m}
classification: internal\nresidency: US\non_deny: dead_letter\nclient_cert: GIS_CERT\nprotect: {ssn: last4}\n";
        let (doc, fine) = target(yaml);
        assert!(fine);
        let Some(RateLimitDoc::Table(limit)) = doc.rate_limit.map(|limit| limit.value) else { panic!() };
        assert_eq!(limit.rate.unwrap().value, Rate { requests: 300, per: Duration::from_secs(60) });
        assert!(!target("name: a\nadapter: rest\nrate_limit: fast\nresidency: usa\n").1);
    }
}
