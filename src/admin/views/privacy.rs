//! Keys of partners, and what values become, as the endpoint tells them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivacyKeyList {
    pub keys: Vec<PrivacyKeyView>,
}

/// One version of a partner's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivacyKeyView {
    /// The host of its targets, or `recipe/target` for local files.
    pub partner: String,
    pub version: u32,
    /// Whether new work begins with it.
    pub current: bool,
    /// Tells keys apart, and nothing of their bytes.
    pub fingerprint: Option<String>,
    /// Why it can't be used, if it can't.
    pub wrong: Option<String>,
}

/// Makes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivacyKeyOrder {
    pub partner: String,
    pub action: PrivacyKeyAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyKeyAction {
    /// The first one.
    Create,
    /// The next version: what is begun from now on uses it.
    Rotate,
}

/// Asks what a value becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivacyTokenQuery {
    pub recipe: String,
    pub target: String,
    /// As the recipe's source names it.
    pub field: String,
    /// The value as JSON, exactly as it is published: a text has its quotes.
    pub value: String,
    /// The version of the key; absent = the current one.
    #[serde(default)]
    pub version: Option<u32>,
}

/// What a value becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivacyTokenView {
    pub partner: String,
    /// Of the key, where one is needed.
    pub version: Option<u32>,
    /// `clear`, `token`, `redact`, `last4` or `ff1`.
    pub goes: String,
    /// Absent if the value goes as it is, or nothing is told of it.
    pub becomes: Option<String>,
}
