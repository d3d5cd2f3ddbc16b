//! Recipes: from YAML to a checked model, with errors that say where, what and what instead.

pub mod model;

/// Placeholder of the checker's findings.
#[derive(Debug, serde::Serialize, thiserror::Error)]
#[error("{0}")]
pub struct Diagnostics(String);

/// Placeholder of the parser.
pub fn parse_bytes(file_name: &str, _bytes: &[u8]) -> Result<model::Recipe, Diagnostics> {
    Err(Diagnostics(file_name.to_owned()))
}
