//! The harness of the acceptance tests: the real `hms` process, real partners, and a judge that sees
//! only the outside. Nothing in here looks into the product's code; what it relies on is the contract
//! of commands, routes, bytes and records (but for one row of the benchmarks, which is about the event log as a library). The tests themselves are in `tests/it`, the scenarios with faults in
//! `scenario/` and `tests/chaos`, the measurements in `bench/`.

pub mod authority;
pub mod backlog;
pub mod bench;
pub mod compare;
pub mod http;
pub mod judge;
pub mod metrics;
pub mod node;
pub mod partners;
pub mod port;
pub mod power;
pub mod process;
pub mod proxy;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod timeline;
pub mod wait;
