//! The heart under test, with a world of fakes and tokio's paused clock: no disk, no network, no waiting.

#![allow(clippy::unwrap_used)]

mod append;
mod fakes;
mod house;
mod lanes;
mod schedules;
