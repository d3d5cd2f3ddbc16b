//! hms.
fn main() {}
