//! Faults that a test build carries in itself: named places at which the process dies, an adapter panics, or a
//! guarantee is left out. Only in builds with the feature `fault-points`; otherwise nothing is compiled in.
//!
//! The environment variable `HMS_FAULT` names what is wanted, several with commas between:
//!
//! | text | does |
//! | --- | --- |
//! | `POINT`, `POINT:3` | ends the process as kill -9 would, at the first (third) passage of the point |
//! | `panic:ADAPTER@TARGET*100` | the adapter panics in the next 100 of the target's attempts (one, without `*`) |
//! | `stuck:ADAPTER@TARGET=30*2` | the adapter blocks its thread for 30 s, in the next two attempts |
//! | `power` | notes beside each journal how much of it is synced, in `<file>.synced` |
//! | `nosync`, `nosync:events` | like `power`, but the journals (those in that folder) are never synced |
//! | `noplan` | begun work is said to be stored and is not |
//! | `noepoch` | what an older incarnation does is let through |
//! | `ghost@TARGET` | the target's first incarnation dies in its first `begin`, which comes again after each later one |
//!
//! `ADAPTER` is `adapter.rest` (before each attempt), `adapter.sftp` or `adapter.file` (before each new connection).
//! `TARGET` is a target's name, or `RECIPE/TARGET`; without `@TARGET` all are meant.
//!
//! `nosync`, `noplan` and `noepoch` are the null controls: a judge that does not find them is worth nothing. What
//! makes them visible outside:
//!
//! - `nosync`: a kill loses nothing that was written, synced or not. To make it a power cut, kill the process and
//!   cut each journal to the length that stands in its `.synced` file. With `power` alone that must lose nothing
//!   that was acknowledged; both differ in the skipped sync and in nothing else.
//! - `noplan`: a kill between write and settle (`append.written`). Nobody knows of the rows: they are written again.
//! - `noepoch`: needs an incarnation that outlives its successor's start. `ghost` is one: its old plan replaces the
//!   newer one, and a kill between write and settle then doubles rows. Fenced, it can do nothing.

#[cfg(feature = "fault-points")]
mod grammar;
#[cfg(not(feature = "fault-points"))]
mod off;
#[cfg(feature = "fault-points")]
mod on;

#[cfg(not(feature = "fault-points"))]
pub use off::*;
#[cfg(feature = "fault-points")]
pub use on::*;
