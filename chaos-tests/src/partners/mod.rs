//! Partners: real servers on loopback that record what reached them and fail as they are told.

pub mod https;
pub mod oauth;
pub mod sshd;
