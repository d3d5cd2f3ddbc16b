//! The adapter against real sockets.

mod login;
mod travel;
mod wire;
