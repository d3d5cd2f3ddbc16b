//! Placeholder while the protocol is being written.
