//! Recipes: from YAML to a checked model, with errors that say where, what and what instead.

pub mod model;
