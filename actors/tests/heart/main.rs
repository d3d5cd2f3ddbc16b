//! The heart under test, with a world of fakes and tokio's paused clock: no disk, no network, no waiting.

#![allow(clippy::unwrap_used)]

mod append;
mod backlog;
mod bounds;
mod failures;
mod fakes;
mod faults;
mod governed;
mod house;
mod lanes;
mod receipts;
mod reviewed;
mod runner;
mod schedules;
mod supervision;
mod turns;
