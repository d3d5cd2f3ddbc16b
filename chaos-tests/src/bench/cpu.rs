//! CPU seconds (user and system) of processes, as Linux counts them.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::process;

/// CPU seconds of those who took part, apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the node; nothing in a reference.
    pub node: f64,
    /// Of who publishes; in a reference, of who sends.
    pub publisher: f64,
    pub receiver: f64,
}

/// Of a process with all its threads, and of its children that have ended.
pub fn of(process: u32) -> f64 {
    stat(&process.to_string(), &[11, 12, 13, 14])
}

/// Of a process and its descendants.
pub fn of_tree(root: u32) -> f64 {
    process::tree(root).into_iter().map(of).sum()
}

/// Of this process without its children.
pub fn of_self() -> f64 {
    stat("self", &[11, 12])
}

/// Of children of this process that have ended.
pub fn of_ended_children() -> f64 {
    stat("self", &[13, 14])
}

/// Fields are counted from behind the name, which may hold anything.
fn stat(process: &str, fields: &[usize]) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind = text.rsplit_once(')').map_or("", |(_, behind)| behind);
    let numbers: Vec<u64> = behind.split_whitespace().map(|number| number.parse().unwrap_or_default()).collect();
    let ticks: u64 = fields.iter().filter_map(|&field| numbers.get(field)).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Of the threads of a process that have this name.
pub fn of_threads(process: u32, name: &str) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let named = threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|known| known.trim_end() == name));
    named.map(|thread| stat(&format!("{process}/task/{}", thread.file_name().display()), &[11, 12])).sum()
}

/// Memory of a process in bytes, as the system sees it (RSS).
pub fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_of_this_process_is_counted() {
        let (before, start) = (of_self(), Instant::now());
        let mut sum = 0u64;
        // So much that the clock's ticks show it, however slow the machine is.
        while of_self() - before < 0.02 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            assert!(start.elapsed() < Duration::from_secs(60), "60 s of work are not counted");
        }
        assert!(memory(std::process::id()) > 0);
    }
}
