//! Whether a child that died is started again, and when: soon, or, when it has used up its restarts of a minute,
//! after a quarantine that doubles.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many restarts in a [`WINDOW`]; one more is a quarantine.
pub const BUDGET: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Who has lived for so long is well again.
const WELL: Duration = Duration::from_secs(3600);

/// What becomes of a child that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again after this back-off.
    Restart(Duration),
    /// It is left alone for this long.
    Quarantine(Duration),
}

/// The deaths of one child.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    total: u64,
    recent: VecDeque<Instant>,
    /// In a row: none of them was followed by a sign of health.
    quarantines: u32,
}

impl Restarts {
    pub fn total(&self) -> u64 {
        self.total
    }

    /// It does its work: the next quarantine is a first one.
    pub fn works(&mut self) {
        self.quarantines = 0;
    }

    /// Counts the death of one that was started when it was `born`. The back-off doubles with each death of the last
    /// minute.
    pub fn died(&mut self, born: Option<Instant>, now: Instant) -> Verdict {
        self.total += 1;
        if born.is_some_and(|born| now.duration_since(born) >= WELL) {
            self.works();
        }
        self.recent.retain(|&at| now.duration_since(at) < WINDOW);
        if self.recent.len() < BUDGET {
            let wait = FIRST_WAIT * (1 << self.recent.len());
            self.recent.push_back(now);
            return Verdict::Restart(wait);
        }
        self.recent.clear();
        let pause = FIRST_PAUSE.saturating_mul(1 << self.quarantines.min(16)).min(LONGEST_PAUSE);
        self.quarantines += 1;
        Verdict::Quarantine(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Quarantine, Restart};
    use proptest::prelude::*;

    /// Lives of these lengths (and whether they did any work), each begun when the verdict on the one before says so:
    /// the moments of death since the start, with their verdicts.
    fn live(lives: &[(Duration, bool)]) -> Vec<(Duration, Verdict)> {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let mut now = start;
        let mut live = |(life, works): &(Duration, bool)| {
            let born = Some(now);
            now += *life;
            if *works {
                restarts.works();
            }
            let (died, verdict) = (now - start, restarts.died(born, now));
            let (Restart(wait) | Quarantine(wait)) = verdict;
            now += wait;
            (died, verdict)
        };
        lives.iter().map(&mut live).collect()
    }

    #[test]
    fn the_wait_doubles_with_each_death_of_the_last_minute_and_is_forgotten_after_it() {
        let at_once = (Duration::ZERO, false);
        let late = (Duration::from_secs(120), false);
        let verdicts = live(&[at_once, at_once, at_once, late]);
        let waits: Vec<_> = verdicts.iter().map(|(_, verdict)| *verdict).collect();
        assert_eq!(waits, [50, 100, 200, 50].map(|ms| Restart(Duration::from_millis(ms))));
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_begin_anew_with_an_hour_of_life_or_with_work() {
        let quarantines = |lives: &[(Duration, bool)]| -> Vec<u64> {
            let pause = |(_, verdict)| match verdict {
                Quarantine(pause) => Some(pause.as_secs()),
                Restart(_) => None,
            };
            live(lives).into_iter().filter_map(pause).collect()
        };
        let mut lives = vec![(Duration::ZERO, false); 48];
        assert_eq!(quarantines(&lives), [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        lives[12] = (Duration::from_secs(3600), false);
        assert_eq!(quarantines(&lives[..24]), [60, 120, 60, 120]);
        lives[13] = (Duration::ZERO, true);
        lives[12] = (Duration::ZERO, false);
        assert_eq!(quarantines(&lives[..24]), [60, 120, 60, 120]);
    }

    proptest! {
        /// However it lives and dies: never more than the budget of restarts in any minute, a quarantine only after
        /// as many, and pauses between a minute and an hour.
        #[test]
        fn no_minute_has_more_restarts_than_the_budget(lives in proptest::collection::vec((0u64..30_000, any::<bool>()), 1..80)) {
            let lives: Vec<_> = lives.iter().map(|&(ms, works)| (Duration::from_millis(ms), works)).collect();
            let verdicts = live(&lives);
            for (n, (died, verdict)) in verdicts.iter().enumerate() {
                let of_the_minute = |(at, other): &&(Duration, Verdict)| {
                    matches!(other, Restart(_)) && *died - *at < WINDOW
                };
                let restarts = verdicts[..n].iter().filter(of_the_minute).count();
                match verdict {
                    Restart(wait) => {
                        prop_assert!(restarts < BUDGET);
                        prop_assert_eq!(*wait, FIRST_WAIT * (1 << restarts));
                    }
                    Quarantine(pause) => {
                        prop_assert_eq!(restarts, BUDGET);
                        prop_assert!((FIRST_PAUSE..=LONGEST_PAUSE).contains(pause));
                    }
                }
            }
        }
    }
}
