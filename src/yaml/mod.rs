//! YAML that is checked as a compiler checks a program: text → tree with positions ([`tree`]) → typed
//! documents ([`grammar`]), with every error in one go ([`diagnostics`]). What the keys mean is not known here.

pub mod diagnostics;
pub mod grammar;
pub mod tree;
pub mod values;
