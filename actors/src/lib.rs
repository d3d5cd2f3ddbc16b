//! The heart of hms-sync: who supervises whom, when a delivery may go, and what its outcome means.
//!
//! It knows no protocol, database, YAML or web. What it needs of the world it asks for through
//! [`ports`]; what it decides it decides in plain types that take `now`.
//!
//! Inside, dependencies point one way:
//! `runtime → supervisor → delivery → {common, policy, ports, turns} → {event, settings, failure, id}`.

pub mod append;
mod common;
pub mod delivery;
pub mod event;
pub mod failure;
pub mod few;
pub mod guard;
pub mod head;
pub mod id;
pub mod node;
pub mod policy;
pub mod ports;
pub mod reader;
pub mod receipt;
pub mod runtime;
pub mod settings;
pub mod settled;
pub mod supervisor;
pub mod turns;
pub mod work;
