//! Governance: policies decide what may be pushed to whom. They are written in Cedar, and checked against a schema
//! (`schema.cedarschema`) when they are read. One function decides, [`Governance::decide`]: at `hms sync check`, at
//! `hms sync apply`, and before each push. Whatever is not a clear yes is a no.
//!
//! `load` reads policies, `facts` is what they are told of a target, `judge` asks about events. Not here: which labels
//! a field has (`catalog`), what becomes of a field (`privacy`), and what becomes of an event that is denied (the heart).

mod engine;
mod facts;
mod judge;
mod load;

pub use engine::{Asked, Governance};
pub use facts::{Facts, Node};
pub use judge::{LabelJudge, Permitted};

#[cfg(test)]
mod tests;
