//! How long a supervisor waits before it starts a dead child again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(30);

/// The deaths of one child.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    total: u64,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts a death; the wait doubles with each death of the last minute.
    pub fn died(&mut self, now: Instant) -> Duration {
        self.total += 1;
        self.recent.retain(|&at| now.duration_since(at) < WINDOW);
        let wait = FIRST.saturating_mul(1 << self.recent.len().min(16)).min(CAP);
        self.recent.push_back(now);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_with_each_death_of_the_last_minute_and_is_forgotten_after_it() {
        let mut restarts = Restarts::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..4).map(|n| restarts.died(start + Duration::from_secs(n)).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400]);
        assert_eq!(restarts.died(start + Duration::from_secs(120)).as_millis(), 50);
        assert_eq!(restarts.total(), 5);
    }
}
