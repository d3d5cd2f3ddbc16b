//! The adapter against real sockets.

mod egress;
mod login;
mod mutual;
mod travel;
mod wire;
