//! Privacy: what a labelled field becomes on its way to a partner. Compiled once for a target, from the node's
//! catalog, the recipe and what policies allow, so that a feed without labels costs nothing.
//!
//! `treatment.rs` says what is done with each field, `exposure.rs` which labels go out, `value.rs` what a value becomes,
//! `keys.rs` whose key it is made with, and `guard.rs` brings them together. Not here: how bytes are joined
//! to a row or a request (that is `formats`), and what a label forbids (that are the policies).

mod exposure;
mod guard;
pub mod keys;
mod treatment;
mod value;

use crate::catalog::Label;

pub use exposure::Exposure;
pub use guard::{Guard, Opened, partner};
pub use keys::Keys;
pub use treatment::{Attributes, Treatment, Treatments, Way};
pub use value::{Cover, cover};

/// Whether a target may be told the values that carry a label. Asked when a target is compiled.
pub trait Disclosure {
    fn may_disclose(&self, label: &Label) -> bool;
}

/// No policy allows it: what carries a label is protected.
#[derive(Debug, Clone, Copy)]
pub struct Never;

impl Disclosure for Never {
    fn may_disclose(&self, _: &Label) -> bool {
        false
    }
}
