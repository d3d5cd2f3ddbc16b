//! Proofs of the audit, as the endpoint gives them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// That a record is in the tree, as section 2.1.1 of RFC 6962 orders it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InclusionView {
    /// The record's `seq`.
    pub leaf: u64,
    /// Of how many records the tree is.
    pub size: u64,
    /// Hashes in base64, from the leaf's sibling to the root's child.
    pub proof: Vec<String>,
}

/// Which records are to be moved out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneOrder {
    /// The oldest record that is to be kept, by its `seq`. All before it have to be in an export: they are removed.
    pub before: u64,
}

/// What was moved out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedView {
    /// The oldest record that is kept.
    pub first: u64,
    /// How many records were removed by this order.
    pub moved: u64,
}

/// That one tree is the beginning of another, as section 2.1.2 of RFC 6962 orders it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsistencyView {
    pub from: u64,
    pub to: u64,
    /// Hashes in base64.
    pub consistency: Vec<String>,
}
