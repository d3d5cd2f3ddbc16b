//! The adapter against real sockets.

mod egress;
mod login;
mod travel;
mod wire;
