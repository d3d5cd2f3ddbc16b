//! The list of adapters. A new one is a folder here, a line here and a line in `app.rs`.

pub mod file;
pub mod rest;
pub mod rows;
pub mod sftp;
