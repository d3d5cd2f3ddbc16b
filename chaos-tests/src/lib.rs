//! The harness of the acceptance tests: the real `hms` process, real partners, and a judge that sees
//! only the outside. Nothing in here looks into the product's code; what it relies on is the contract
//! of commands, routes, bytes and records. The tests themselves are in `tests/it`.

pub mod authority;
pub mod http;
pub mod judge;
pub mod metrics;
pub mod node;
pub mod partners;
pub mod port;
pub mod process;
pub mod wait;
