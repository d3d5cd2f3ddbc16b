//! The admin endpoint: HTTP and JSON in front of a [`backend::Backend`]. A file per resource; one table of
//! routes, from which the server, the `Allow` headers and the OpenAPI document are all made.
//! Not here: what any answer says. That is the backend's, and so are the stores and actors behind it.

pub mod backend;
pub mod problem;
pub mod views;

mod audit;
mod call;
mod circuits;
mod dead_letters;
mod dispatch;
mod door;
mod feeds;
mod health;
mod metrics;
mod openapi;
mod privacy;
mod recipes;
mod routes;
mod server;
mod supervision;
#[cfg(test)]
mod tests;
mod tickets;
mod tls;
mod tokens;

pub use self::backend::Backend;
pub use self::door::INSECURE_LOOPBACK;
pub use self::problem::AdminError;
pub use self::server::{Access, Server, serve};
pub use self::tls::{Material, Tls};
