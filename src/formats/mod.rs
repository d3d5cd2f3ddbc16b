//! Formats: from an event's data to a partner's bytes. Projection and renaming are compiled once, from the
//! recipe; values are carried as published, digit for digit. Not here: how events are joined to a file or a
//! request body (that is the adapters' affair), and what a field means.
//!
//! Data is never parsed into a tree. Its top level is split into names and the publisher's own bytes, and
//! those bytes are what a partner gets: `1250.10`, a 20-digit integer and `1E5` stay what they are.

mod csv;
mod json;
mod key;
mod object;
mod shape;

pub use csv::Records;
pub use shape::{Shape, Writer};
