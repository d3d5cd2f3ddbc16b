//! Recipes: from YAML to a checked model, with errors that say where, what and what instead.
//!
//! `yaml::tree` gives positions, [`grammar`] the keys and their types, `check` what they mean together;
//! [`model`] is what is left of it for the rest of the program.

mod auth;
mod check;
pub mod diff;
#[cfg(any(test, feature = "fuzzed"))]
pub(crate) mod fuzzed;
pub mod grammar;
mod headers;
pub mod heart;
pub mod meeting;
pub mod model;
pub mod own;
pub mod schedule;
pub mod template;
pub(crate) mod url_template;
pub mod values;

use crate::yaml::diagnostics::Collector;
pub use crate::yaml::diagnostics::{Diagnostic, Diagnostics};
use crate::yaml::grammar::{Grammar, Reader};
use crate::yaml::tree;
pub use diff::{RecipeDiff, diff};
use model::Recipe;

/// Parses and checks a recipe. `file_name` is for the errors alone.
pub fn parse(file_name: &str, text: &str) -> Result<Recipe, Diagnostics> {
    let tree = tree::parse(file_name, text)?;
    let mut reader = Reader::new(Collector::new(file_name, text));
    let doc = grammar::RecipeDoc::read(&tree, &mut reader);
    let recipe = doc.and_then(|doc| check::recipe(doc, text, &mut reader.errors));
    reader.errors.finish(recipe)
}

/// As [`parse`], of a file's content: it may be no text at all.
pub fn parse_bytes(file_name: &str, bytes: &[u8]) -> Result<Recipe, Diagnostics> {
    parse(file_name, tree::text(file_name, bytes)?)
}

/// The JSON Schema of a recipe, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = grammar::RecipeDoc::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "hms-sync recipe".into();
    schema["properties"]["targets"]["items"]["allOf"] = values::AdapterKind::rules();
    schema
}

#[cfg(test)]
mod tests;
