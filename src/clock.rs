//! A wall clock that a test can step under a running node, as an operator or a bad time server would. Only in
//! builds with the feature `fault-points`; otherwise nothing is compiled in. It is no simulated time: durations
//! and deadlines go on by the machine's own clock.

/// Milliseconds to add to the wall clock: what the file named by `HMS_CLOCK_FILE` holds now.
#[cfg(feature = "fault-points")]
pub fn step() -> i64 {
    use std::sync::OnceLock;
    static FILE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("HMS_CLOCK_FILE").map(Into::into));
    let read = |file| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    file.as_ref().and_then(read).unwrap_or(0)
}

/// Nothing, in builds for use.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn step() -> i64 {
    0
}
