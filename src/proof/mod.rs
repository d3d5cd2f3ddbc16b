//! Proof that nobody bent the audit: the Merkle tree of RFC 6962 over its lines, and what the node signs of it. Pure:
//! no disk, no network, no clock. The same code makes proofs (`store/notary`) and checks them (`cli/audit`).
//!
//! `tree.rs` hashes and proves, `note.rs` signs, `checkpoint.rs` is what is signed, `bundle.rs` is one record with
//! its proof as a file, `records.rs` checks whole exports, `canonical.rs` is the form of a line.

pub mod bundle;
pub mod canonical;
pub mod checkpoint;
pub mod note;
pub mod records;
pub mod tree;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use bundle::Bundle;
pub use checkpoint::{Checkpoint, Signed};
pub use note::{SigningKey, VerifierKey};
pub use tree::Hash;

/// A hash as proofs and checkpoints write it.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn hash_of(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// A number as these formats write it: no sign, no leading zeroes.
fn number(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}
