//! Tokens of the endpoint: what is said of them, and how they are asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Moment;
use crate::access::Role;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    pub tokens: Vec<TokenView>,
}

/// A token, without itself: only a hash of it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    pub name: String,
    pub role: Role,
    /// Of a publisher: its feeds; all if there are none.
    pub feeds: Vec<String>,
    pub created_at: Moment,
    pub expires_at: Option<Moment>,
    pub expired: bool,
}

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Who it is for: the audit names them so.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9._-]{0,127}$"))]
    pub name: String,
    pub role: Role,
    /// Of a publisher: its feeds; all if there are none.
    #[serde(default)]
    pub feeds: Vec<String>,
    /// It ends after so long; never if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_EXPIRY))]
    pub expires_in_seconds: Option<u64>,
}

/// Ten years.
pub const MAX_EXPIRY: u64 = 3_653 * 86_400;

/// The only answer that has a token in it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreated {
    pub token: String,
    #[serde(flatten)]
    pub about: TokenView,
}
