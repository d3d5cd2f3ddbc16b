//! The adapter against real sockets.

mod egress;
mod login;
mod mutual;
mod negotiated;
mod travel;
mod wire;
