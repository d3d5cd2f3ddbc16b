//! Work at a pace that does not wait for the work: what is late because something before it took long counts as late.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Does the n-th piece of work `pace` after the one before, by so many threads in turn, each with work of its own; gives
/// when each was due.
pub fn run<W>(count: usize, pace: Duration, threads: usize, work: impl Fn() -> W + Sync) -> Vec<Instant>
where
    W: FnMut(usize),
{
    let due = Mutex::new(vec![Instant::now(); count]);
    let start = Instant::now() + Duration::from_millis(20);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (due, work) = (&due, &work);
            scope.spawn(move || {
                let mut work = work();
                for number in (first..count).step_by(threads) {
                    let at = start + pace * u32::try_from(number).expect("fewer than four thousand million");
                    let early = at.saturating_duration_since(Instant::now());
                    // To wake late from sleep is nobody's fault but the clock's.
                    let at = if early.is_zero() {
                        at
                    } else {
                        std::thread::sleep(early);
                        Instant::now()
                    };
                    due.lock().expect("no holder of this lock panics")[number] = at;
                    work(number);
                }
            });
        }
    });
    due.into_inner().expect("no holder of this lock panics")
}

/// In milliseconds; not a number of nothing.
pub fn percentiles<const N: usize>(mut took: Vec<Duration>, wanted: [f64; N]) -> [f64; N] {
    took.sort_unstable();
    wanted.map(|share| {
        let at = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_slow_work_before_it_was_due_at_its_time() {
        let pace = Duration::from_millis(1);
        let due = run(3, pace, 1, || |_| std::thread::sleep(Duration::from_millis(5)));
        assert_eq!(due[2] - due[1], pace);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let took = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentiles(took, [0.5, 0.99]), [51.0, 100.0]);
    }
}
