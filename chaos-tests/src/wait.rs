//! Waiting for a condition, with an end: no test sleeps for luck, and none hangs.

use std::time::{Duration, Instant};

/// How long anything in these tests may take before it counts as never. Generous, because it is no
/// timing threshold: it is only reached by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives a value. Panics at the deadline, naming what never came.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, condition).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Waits until `condition` gives a value, or until `limit` has passed.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
