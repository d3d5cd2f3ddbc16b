//! A recipe that has passed every check. Only the parser makes one.

use std::time::Duration;

use hms_actors::id::{FeedName, Offset, RecipeId, TargetName};
use hms_actors::policy::circuit::CircuitSettings;
use hms_actors::policy::rate::RateSettings;
use hms_actors::settings::{LineEnd, OnDeny, OnDoubt, WriteMode};

pub use super::values::{Classification, Protection};
use crate::catalog::Labels;

#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    pub id: RecipeId,
    pub source: Source,
    pub targets: Vec<Target>,
    pub schedule: ScheduleSpec,
    pub retries: u32,
    /// The YAML as it was given, byte for byte.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub feed: FeedName,
    /// Projection and column order; `None` = all fields.
    pub fields: Option<Vec<String>>,
    pub key: Option<String>,
    pub from: From,
    pub required: Vec<String>,
    /// (field or dotted path, labels beside those of the catalog).
    pub labels: Vec<(String, Labels)>,
}

/// Where a new recipe starts.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Now,
    Beginning,
    Offset(Offset),
    Time(chrono::DateTime<chrono::Utc>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub name: TargetName,
    pub adapter: Adapter,
    /// (field, name at the partner), in order of appearance.
    pub map: Vec<(String, String)>,
    pub renamed_from: Option<TargetName>,
    pub circuit: CircuitSettings,
    pub rate: Option<RateSettings>,
    pub classification: Classification,
    /// (field, how it is protected).
    pub protect: Vec<(String, Protection)>,
    /// The country where the partner keeps the data; `None` is unknown.
    pub residency: Option<String>,
    /// What becomes of an event that a policy says no to.
    pub on_deny: OnDeny,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Adapter {
    Rest(RestTarget),
    Sftp(SftpTarget),
    File(FileTarget),
}

#[derive(Debug, Clone, PartialEq)]
pub struct RestTarget {
    /// `http` or `https`, possibly with `{field}` in its path or query (never in scheme, user, host or port).
    pub url: String,
    pub method: Method,
    pub auth: Option<Auth>,
    pub headers: Vec<(String, String)>,
    pub batch: Batch,
    pub timeout: Duration,
    pub concurrency: usize,
    /// Whether the partner honours `Idempotency-Key`.
    pub idempotency_honoured: bool,
    /// Name of the secret with the certificate and key for mutual TLS.
    pub client_cert: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Post,
    Put,
    Patch,
}

/// `secret` is the explicit name, if the recipe gives one.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// Default header: `X-API-Key`.
    ApiKey {
        header: String,
        secret: Option<String>,
    },
    Bearer {
        secret: Option<String>,
    },
    Basic {
        username: String,
        secret: Option<String>,
    },
    OAuth2ClientCredentials {
        token_url: String,
        client_id: String,
        scope: Option<String>,
        audience: Option<String>,
        secret: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub max_events: usize,
    pub format: BatchFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFormat {
    /// One event: its object is the body. `max_events` is 1.
    Object,
    JsonArray,
    Ndjson,
    CloudEventsBatch,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SftpTarget {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub timeout: Duration,
    /// Explicit names of secrets, if the recipe gives them (`auth: {type: key|password, secret: NAME}`).
    pub auth: SftpAuth,
    pub file: FileTarget,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SftpAuth {
    /// A key if one is found, else a password.
    Derived,
    Key {
        secret: String,
    },
    Password {
        secret: Option<String>,
    },
}

/// What `sftp` and `file` have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct FileTarget {
    /// Template: `{YYYY} {MM} {DD} {YYYYMMDD} {HH} {mm} {recipe} {batch}`.
    pub path: String,
    pub format: FileFormat,
    pub header: bool,
    pub write: WriteMode,
    pub on_doubt: OnDoubt,
    pub line_end: LineEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    JsonLines,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleSpec {
    Every(Duration),
    Cron(String),
    OnChange,
}

impl RestTarget {
    /// The fields whose values stand in the url.
    pub fn url_fields(&self) -> impl Iterator<Item = &str> {
        self.url.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(field, _)| field)
    }
}

impl Adapter {
    /// As it stands in a recipe.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rest(_) => "rest",
            Self::Sftp(_) => "sftp",
            Self::File(_) => "file",
        }
    }
}

impl std::fmt::Display for ScheduleSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {every:?}"),
            Self::Cron(pattern) => write!(f, "cron \"{pattern}\""),
            Self::OnChange => f.write_str("on_change"),
        }
    }
}
