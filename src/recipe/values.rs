//! The words and texts that only a recipe has: fixed words, rates, hosts, headers, starting points.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hms_actors::settings::{LineEnd, OnDeny, OnDoubt, WriteMode};
use serde_json::{Value as Json, json};

use super::model::{BatchFormat, FileFormat, From, Method};
use crate::keywords;
use crate::yaml::grammar::{Grammar, Reader};
use crate::yaml::tree::{Node, Value};
use crate::yaml::values::FromText;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    Rest,
    Sftp,
    File,
}

impl AdapterKind {
    pub const ALL: [Self; 3] = [Self::Rest, Self::Sftp, Self::File];

    pub fn word(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Sftp => "sftp",
            Self::File => "file",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthKind {
    ApiKey,
    Bearer,
    Basic,
    OAuth2,
    Key,
    Password,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    Honoured,
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    External,
    Internal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Token,
    Redact,
    Last4,
    Ff1,
}

keywords!(AdapterKind: "rest" => AdapterKind::Rest, "sftp" => AdapterKind::Sftp, "file" => AdapterKind::File);
keywords!(Method: "POST" => Method::Post, "PUT" => Method::Put, "PATCH" => Method::Patch);
keywords!(BatchFormat:
    "object" => BatchFormat::Object, "json_array" => BatchFormat::JsonArray,
    "ndjson" => BatchFormat::Ndjson, "cloudevents_batch" => BatchFormat::CloudEventsBatch);
keywords!(AuthKind:
    "api_key" => AuthKind::ApiKey, "bearer" => AuthKind::Bearer, "basic" => AuthKind::Basic,
    "oauth2_client_credentials" => AuthKind::OAuth2, "key" => AuthKind::Key, "password" => AuthKind::Password);
keywords!(Idempotency: "honoured" => Idempotency::Honoured, "ignored" => Idempotency::Ignored);
keywords!(FileFormat: "csv" => FileFormat::Csv, "jsonl" => FileFormat::JsonLines);
keywords!(WriteMode: "append" => WriteMode::Append, "file_per_batch" => WriteMode::FilePerBatch);
keywords!(OnDoubt: "hold" => OnDoubt::Hold, "resend" => OnDoubt::Resend);
keywords!(LineEnd: "lf" => LineEnd::Lf, "crlf" => LineEnd::CrLf);
keywords!(Classification: "external" => Classification::External, "internal" => Classification::Internal);
keywords!(OnDeny: "hold" => OnDeny::Hold, "dead_letter" => OnDeny::DeadLetter);
keywords!(Protection:
    "token" => Protection::Token, "redact" => Protection::Redact, "last4" => Protection::Last4,
    "ff1" => Protection::Ff1);

/// Requests in a time: `50/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub requests: u32,
    pub per: Duration,
}

impl FromText for Rate {
    const EXPECTED: &'static str = "a rate such as 50/s or 300/m";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let (requests, unit) = text.split_once('/').ok_or(None)?;
        let requests = requests.parse().ok().filter(|requests| *requests > 0).ok_or(None)?;
        let per = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(None),
        };
        Ok(Self { requests, per: Duration::from_secs(per) })
    }
    fn pattern() -> Option<&'static str> {
        Some("^[0-9]+/[smh]$")
    }
}

/// A country, ISO 3166 alpha-2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Country(pub String);

impl FromText for Country {
    const EXPECTED: &'static str = "a country as two capital letters (ISO 3166)";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let ok = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
        if ok { Ok(Self(text.to_owned())) } else { Err(None) }
    }
    fn pattern() -> Option<&'static str> {
        Some("^[A-Z]{2}$")
    }
}

/// The name of a request header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl FromText for HeaderName {
    const EXPECTED: &'static str = "the name of a header (letters, digits and - _ . but no spaces)";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let ok = !text.is_empty() && text.len() <= 128 && text.bytes().all(token);
        if ok { Ok(Self(text.to_owned())) } else { Err(None) }
    }
}

/// A host name or address, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromText for HostName {
    const EXPECTED: &'static str = "a host name or address, without a port";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let name = text.len() <= 253 && text.split('.').all(label);
        if name || text.parse::<std::net::IpAddr>().is_ok() { Ok(Self(text.to_owned())) } else { Err(None) }
    }
}

impl Grammar for From {
    fn schema() -> Json {
        json!({"anyOf": [
            {"enum": ["now", "beginning"]},
            {"type": "integer", "minimum": 0},
            {"type": "string", "format": "date-time"},
        ]})
    }
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let from = match &node.value {
            Value::Integer(offset) => u64::try_from(*offset).ok().map(Self::Offset),
            Value::Text(text) => match text.as_str() {
                "now" => Some(Self::Now),
                "beginning" => Some(Self::Beginning),
                time => DateTime::parse_from_rfc3339(time).ok().map(|time| Self::Time(time.with_timezone(&Utc))),
            },
            _ => None,
        };
        if from.is_none() {
            reader.unexpected(node, "`now`, `beginning`, an offset or a time such as 2026-01-31T09:00:00Z");
        }
        from
    }
}
