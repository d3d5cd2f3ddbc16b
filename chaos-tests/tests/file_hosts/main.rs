//! The contract of file hosts, on the local disk and on a real OpenSSH server: one set of checks, one line per
//! implementation, and then what only a server can do wrong. What a plan makes of an error is not tested here.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

mod contract;
mod local;
mod sftp;
mod sshd;
mod stalled;
