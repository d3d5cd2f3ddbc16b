//! Partners: real servers on loopback that record what reached them and fail as they are told.

mod answer;
pub mod https;
mod log;
pub mod oauth;
pub mod sshd;
