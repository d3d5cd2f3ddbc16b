//! hms-sync: plugs the world (YAML, HTTP, SSH, disks, a command line) into the heart (`hms-actors`).
//!
//! `main → cli → app → {admin, recipe, adapters, store, feeds} → actors`; siblings do not import each other,
//! except that all may use [`config`], [`secrets`], [`fault`], [`mark`], [`yaml`] and the recipe's checked model.

pub mod adapters;
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod fault;
pub mod feeds;
pub mod formats;
#[cfg(any(test, feature = "fuzzed"))]
#[doc(hidden)]
pub mod fuzzed;
pub mod mark;
pub mod metrics;
pub mod recipe;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod yaml;
