//! The bound, in any one-second window and over restarts, under any pattern of asking.

use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn settings(count: u32, per: Duration, burst: u32) -> RateSettings {
    RateSettings { count: NonZeroU32::new(count).unwrap(), per, burst: NonZeroU32::new(burst).unwrap() }
}

/// In paused time, with a wall clock that runs with tokio's.
fn paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test);
}

/// Asks after each of `pauses`, restarting where it says so, and returns the moments of those let through.
async fn starts(settings: RateSettings, pauses: &[(u64, bool)]) -> Vec<Duration> {
    let began = Instant::now();
    let wall = || T0.plus(began.elapsed());
    let mut stored = None;
    let mut rate = Rate::restore(settings, stored, wall());
    let mut let_through = Vec::new();
    for &(pause, restart) in pauses {
        tokio::time::advance(Duration::from_micros(pause)).await;
        if restart {
            rate = Rate::restore(settings, stored, wall());
        }
        if rate.take().is_ok() {
            stored = rate.to_store(wall()).or(stored);
            let_through.push(began.elapsed());
        }
    }
    let_through
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_second_sees_more_than_rate_and_burst_allow_also_over_restarts(
        count in 1u32..60, burst in 1u32..12,
        pauses in proptest::collection::vec((0u64..40_000, proptest::bool::weighted(0.03)), 1..600),
    ) {
        paused(async move {
            let starts = starts(settings(count, Duration::from_secs(1), burst), &pauses).await;
            for (n, &first) in starts.iter().enumerate() {
                let within = starts[n..].iter().take_while(|&&at| at < first + Duration::from_secs(1)).count();
                assert!(within <= (count + burst - 1) as usize, "{within} in the second from {first:?}");
            }
        });
    }
}

#[test]
fn a_request_is_let_through_when_it_was_said_that_it_would_be() {
    paused(async {
        let rate = Rate::restore(settings(3, Duration::from_secs(1), 1), None, T0);
        let mut count = 0;
        while rate.start.elapsed() < Duration::from_secs(10) {
            match rate.take() {
                Ok(()) => count += 1,
                Err(at) => tokio::time::sleep_until(at).await,
            }
        }
        assert!((28..=29).contains(&count), "{count} in ten seconds");
    });
}

#[test]
fn one_request_an_hour_is_one_request_an_hour_after_a_restart_too() {
    paused(async {
        let hourly = settings(1, Duration::from_secs(3600), 1);
        let mut rate = Rate::restore(hourly, None, T0);
        rate.take().unwrap();
        assert_eq!(rate.available(), 0);
        let stored = rate.to_store(T0);
        let later = T0.plus(Duration::from_secs(60));
        let again = Rate::restore(hourly, stored, later);
        let next = again.take().unwrap_err() - again.start;
        assert!(next >= Duration::from_secs(3540), "{next:?}");
    });
}

#[test]
fn a_stored_moment_far_off_is_no_more_than_an_empty_bucket() {
    paused(async {
        let rate =
            Rate::restore(settings(10, Duration::from_secs(1), 5), Some(T0.plus(Duration::from_secs(86_400))), T0);
        assert!(rate.take().unwrap_err() - rate.start <= Duration::from_millis(1_500));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(rate.available(), 5);
    });
}

#[test]
fn the_moment_is_stored_once_a_second_and_not_for_each_request() {
    paused(async {
        let mut rate = Rate::restore(settings(90, Duration::from_secs(1), 1), None, T0);
        let mut stores = 0;
        for _ in 0..300 {
            rate.take().unwrap();
            stores += u32::from(rate.to_store(T0).is_some());
            tokio::time::advance(Duration::from_millis(12)).await;
        }
        assert!(stores <= 4, "{stores}");
    });
}
