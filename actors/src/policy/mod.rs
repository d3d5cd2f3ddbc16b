//! Policies: pure machines that take `now` (or nothing at all), so that a test can live a day in a millisecond.

pub mod backoff;
pub mod circuit;
pub mod rate;
pub mod restarts;
pub mod runs;
pub mod schedule;
