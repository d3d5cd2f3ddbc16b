//! Request headers that a recipe may add: valid, once, and none that the node sets itself.

use std::collections::HashSet;

use super::model::Auth;
use super::values::HeaderName;
use crate::yaml::diagnostics::{Collector, quoted};
use crate::yaml::grammar::Located;
use crate::yaml::values::{FromText, Pairs, Text};

/// Set by the node, or by the connection.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The headers, checked. `auth` is what the target logs in with.
pub fn check(
    headers: Option<&Located<Pairs<Text>>>,
    auth: Option<&Auth>,
    errors: &mut Collector<'_>,
) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    for (name, value) in headers.map_or(&[][..], |headers| &headers.value.0) {
        let lower = name.value.to_ascii_lowercase();
        if HeaderName::from_text(&name.value).is_err() {
            let message = format!("expected {}, found {}", HeaderName::EXPECTED, quoted(&name.value));
            errors.error(name.at, message);
        } else if is_reserved(&lower) {
            errors.error(name.at, format!("`{}` is set by the node", name.value)).help("remove the header");
        } else if auth.is_some_and(|auth| auth.header().eq_ignore_ascii_case(&lower)) {
            errors.error(name.at, format!("`{}` is set by `auth`", name.value)).help("remove the header, or `auth`");
        } else if is_credential(&lower) {
            let error = errors.error(name.at, format!("`{}` would put a secret into the recipe", name.value));
            error.hide_source().help("use `auth`: the secret is looked up when it is needed");
        } else if !seen.insert(lower) {
            errors.error(name.at, format!("the header `{}` is given twice", name.value));
        }
        if !value.value.0.bytes().all(|b| (b' '..=b'~').contains(&b)) || value.value.0.trim() != value.value.0 {
            let message = format!("expected the value of a header, found {}", quoted(&value.value.0));
            errors.error(value.at, message).help("it has ASCII characters only, and no space at its ends");
        }
        checked.push((name.value.clone(), value.value.0.clone()));
    }
    checked
}

/// Whether the node sets this header (in lower case) itself.
pub fn is_reserved(lower: &str) -> bool {
    lower.starts_with("ce-") || RESERVED.contains(&lower)
}

fn is_credential(lower: &str) -> bool {
    matches!(lower, "authorization" | "proxy-authorization" | "cookie")
}

impl Auth {
    /// The header that carries the credentials.
    pub fn header(&self) -> &str {
        match self {
            Self::ApiKey { header, .. } => header,
            _ => "Authorization",
        }
    }
}
