//! hms-sync: plugs the world (YAML, HTTP, SSH, disks, a command line) into the heart (`hms-actors`).
//!
//! `main → cli → app → {admin, recipe, adapters, store, feeds} → actors`; siblings do not import each other,
//! except that all may use [`access`], [`approved`], [`catalog`], [`config`], [`egress`], [`fault`], [`mark`], [`privacy`],
//! [`proof`], [`secrets`], [`yaml`] and the recipe's checked model.

pub mod access;
pub mod adapters;
pub mod admin;
mod ahead;
pub mod app;
pub mod approved;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod egress;
pub mod fault;
pub mod feeds;
pub mod formats;
#[cfg(any(test, feature = "fuzzed"))]
#[doc(hidden)]
pub mod fuzzed;
pub mod governance;
pub mod mark;
pub mod metrics;
pub mod privacy;
pub mod proof;
pub mod recipe;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod yaml;
