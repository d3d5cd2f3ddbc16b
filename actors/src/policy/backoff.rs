//! Exponential back-off with full jitter: how long to wait after the n-th failure in a row.

use std::time::Duration;

use rand::Rng;

const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(300);
/// Full jitter may draw almost nothing; a partner that is down is not asked in a tight loop.
const FLOOR: Duration = Duration::from_millis(100);

/// Failures in a row, and with them the wait.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// What a partner asks for, within bounds.
    pub fn capped(asked: Duration) -> Duration {
        asked.clamp(FLOOR, CAP)
    }

    /// Counts a failure and draws the wait. What the partner asked for (`Retry-After`) is honoured, up to the cap.
    pub fn failed(&mut self, asked: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let ceiling = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        let drawn = ceiling.mul_f64(rng.random::<f64>()).max(FLOOR);
        asked.map_or(drawn, Self::capped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn waits_stay_under_a_ceiling_that_doubles_to_five_minutes() {
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            for n in 0..12u32 {
                let wait = backoff.failed(None, &mut rng);
                assert!(wait >= FLOOR && wait <= Duration::from_secs(1 << n).min(CAP), "{n}: {wait:?}");
            }
        }
    }

    #[test]
    fn success_starts_over_and_retry_after_is_honoured_up_to_the_cap() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(Some(Duration::from_secs(17)), &mut rng), Duration::from_secs(17));
        assert_eq!(backoff.failed(Some(Duration::from_secs(86_400)), &mut rng), CAP);
        backoff.succeeded();
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.failed(None, &mut rng) <= BASE);
    }
}
