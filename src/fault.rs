//! Fault points: named places between two steps of a protocol at which a test can end the process as
//! kill -9 would. Only in builds with the feature `fault-points`; otherwise nothing is compiled in.

/// Ends the process at once if the environment variable `HMS_FAULT` names this point.
/// `HMS_FAULT=point:3` ends it at the third passage.
#[cfg(feature = "fault-points")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("HMS_FAULT").ok()?;
        match text.split_once(':') {
            Some((name, nth)) => Some((name.to_owned(), nth.parse().ok()?)),
            None => Some((text, 1)),
        }
    });
    if let Some((wanted, nth)) = wanted
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        // No destructors, no flushing: what a test wants to see is what the disk has.
        let pid = rustix::process::getpid();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// Nothing, in builds for use.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: &str) {}
