//! When a recipe runs next. A run releases everything that has gathered; what is overdue after a restart
//! follows from the age of the oldest event that waits, so nothing of this needs to be stored.

use std::time::Duration;

use crate::id::Timestamp;
use crate::ports::Schedule;
use crate::settings::LATE;

/// Room for the delivery itself within the promised 60 seconds.
const HEADROOM: Duration = Duration::from_secs(10);

/// When the next run is due. `oldest` is the publication time of the oldest event that no run has released;
/// `last_run` is the last run, or the moment at which the recipe was enabled. `None`: not before something is published.
pub fn next_run(schedule: &Schedule, oldest: Option<Timestamp>, last_run: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::OnChange => oldest,
        Schedule::Every(every) => {
            let tick = last_run.plus(*every);
            Some(oldest.map_or(tick, |oldest| tick.min(oldest.plus(latest_age(*every)))))
        }
        // An event that waits is due at the first moment of the calendar after its publication, also if that has passed.
        Schedule::Calendar(calendar) => calendar.next_after(oldest.unwrap_or(last_run)),
    }
}

/// How old a waiting event may get before a run starts early: `every` is an upper bound.
fn latest_age(every: Duration) -> Duration {
    if every > LATE { every } else { every.saturating_sub(HEADROOM).max(every / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const T0: Timestamp = Timestamp(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        T0.plus(Duration::from_secs(seconds))
    }

    fn every(seconds: u64) -> Schedule {
        Schedule::Every(Duration::from_secs(seconds))
    }

    #[test]
    fn a_run_starts_early_when_the_oldest_event_would_miss_the_sixty_seconds() {
        assert_eq!(next_run(&every(60), None, T0), Some(at(60)));
        assert_eq!(next_run(&every(60), Some(at(5)), T0), Some(at(55)));
        assert_eq!(next_run(&every(60), Some(at(30)), T0), Some(at(60)));
    }

    #[test]
    fn it_never_starts_before_half_of_the_interval() {
        assert_eq!(next_run(&every(15), Some(at(1)), T0), Some(T0.plus(Duration::from_millis(8_500))));
        assert_eq!(next_run(&every(2), Some(at(0)), T0), Some(at(1)));
    }

    #[test]
    fn a_longer_interval_ticks_plainly_and_what_is_overdue_goes_at_once() {
        assert_eq!(next_run(&every(3600), Some(at(5)), T0), Some(at(3600)));
        let long_ago = Timestamp(0);
        assert!(next_run(&every(3600), Some(long_ago), at(3600)).is_some_and(|due| due < at(3600)));
    }

    struct OnTheMinute;
    impl crate::ports::Calendar for OnTheMinute {
        fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
            Some(Timestamp((moment.0 / 60_000 + 1) * 60_000))
        }
    }

    #[test]
    fn a_calendar_counts_from_the_oldest_event_so_that_a_missed_moment_is_made_up_for() {
        let cron = Schedule::Calendar(Arc::new(OnTheMinute));
        assert_eq!(next_run(&cron, Some(Timestamp(61_000)), Timestamp(600_000)), Some(Timestamp(120_000)));
        assert_eq!(next_run(&cron, None, Timestamp(600_001)), Some(Timestamp(660_000)));
    }

    #[test]
    fn on_change_waits_for_nothing_but_an_event() {
        assert_eq!(next_run(&Schedule::OnChange, None, T0), None);
        assert_eq!(next_run(&Schedule::OnChange, Some(at(3)), T0), Some(at(3)));
    }
}
