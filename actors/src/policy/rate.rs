//! The rate limit of one target, kept with governor (GCRA): at most rate + burst − 1 requests start in any
//! one-second window. What is stored of it is one moment, the one at which the bucket is full again.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::id::Timestamp;

/// `count` requests in `per`, of which `burst` may start at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSettings {
    pub count: NonZeroU32,
    pub per: Duration,
    pub burst: NonZeroU32,
}

impl RateSettings {
    /// A little longer than it could be: a request that has to connect first arrives later than the ones after it,
    /// and the partner counts arrivals.
    fn period(self) -> Duration {
        let nanos = (self.per.as_nanos() * SLOWER).div_ceil(u128::from(self.count.get()) * 100).max(1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub fn per_second(self) -> f64 {
        f64::from(self.count.get()) / self.per.as_secs_f64()
    }

    /// How long an empty bucket takes to be full.
    fn refill(self) -> Duration {
        self.period().saturating_mul(self.burst.get())
    }
}

/// Percent of the exact period.
const SLOWER: u128 = 105;

/// How far beyond the bucket's own moment the stored one is set, so that it is not stored for each request.
const AHEAD: Duration = Duration::from_secs(1);

pub struct Rate {
    settings: RateSettings,
    start: Instant,
    /// When the bucket is full again, after `start`.
    full_at: Rc<Cell<Duration>>,
    /// The moment that is stored, after `start`: a restart takes the bucket to be full only then.
    stored: Duration,
    limiter: RateLimiter<NotKeyed, Moment, Ticks, NoOpMiddleware<Duration>>,
}

impl Rate {
    /// A bucket that is full at `full_at`, which was stored; a moment that can't be (the clock was set, the
    /// recipe changed) counts as an empty bucket.
    pub fn restore(settings: RateSettings, full_at: Option<Timestamp>, now: Timestamp) -> Self {
        let start = Instant::now();
        let wait = full_at.map_or(Duration::ZERO, |at| at.since(now)).min(settings.refill() + AHEAD);
        let full_at = Rc::new(Cell::new(wait));
        let quota = Quota::with_period(settings.period()).expect("the period is at least a nanosecond");
        let limiter = RateLimiter::new(quota.allow_burst(settings.burst), Moment(full_at.clone()), Ticks(start));
        Self { settings, start, full_at, stored: wait, limiter }
    }

    pub fn settings(&self) -> RateSettings {
        self.settings
    }

    /// Takes a request's place, or says when there is one.
    pub fn take(&self) -> Result<(), Instant> {
        self.limiter.check().map_err(|not_until| self.start + not_until.earliest_possible())
    }

    /// How many requests may start now.
    pub fn available(&self) -> u32 {
        let missing = self.full_at.get().saturating_sub(self.start.elapsed());
        let taken = missing.as_nanos().div_ceil(self.settings.period().as_nanos());
        self.settings.burst.get().saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// The moment that has to be stored before the request whose place was taken is sent, if the one that is
    /// stored is not late enough.
    pub fn to_store(&mut self, now: Timestamp) -> Option<Timestamp> {
        let full_at = self.full_at.get();
        if full_at <= self.stored {
            return None;
        }
        self.stored = full_at + AHEAD;
        // Moments are whole milliseconds, `now` too: rounded up.
        Some(now.plus(self.stored.saturating_sub(self.start.elapsed()) + Duration::from_millis(2)))
    }
}

/// Governor's state: one moment, which we can also read and set.
struct Moment(Rc<Cell<Duration>>);

impl StateStore for Moment {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (answer, full_at) = decide(Some(self.0.get().into()))?;
        self.0.set(full_at.into());
        Ok(answer)
    }
}

/// tokio's clock for governor: time since a start.
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests;
