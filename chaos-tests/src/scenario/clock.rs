//! The node's wall clock as a scenario sets it, beside the runner's own, by which everything is drawn.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::node::Node;

/// Milliseconds to add to the node's clock. It lies in the node's home.
const FILE: &str = "clock";
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// The node's clock, and how it was set during the run.
#[derive(Debug, Clone)]
pub struct NodeClock {
    /// The midnight after the start of the run, which all steps are told from. In UTC, as the node's time zone.
    midnight: i64,
    /// From when on, by the runner's clock, it was so many milliseconds ahead.
    steps: Vec<(i64, i64)>,
}

impl NodeClock {
    /// It is right until it is set. Only a node with fault points looks.
    pub fn of(node: &mut Node) -> Self {
        let file = node.file(FILE, "0").display().to_string();
        node.env("HMS_CLOCK_FILE", &file);
        let now = milliseconds(SystemTime::now());
        Self { midnight: (now / DAY + 1) * DAY, steps: vec![(now, 0)] }
    }

    /// So many minutes after the midnight, or before it, from now on.
    pub fn set(&mut self, node: &Node, minutes: i64) {
        let now = milliseconds(SystemTime::now());
        let ahead = self.midnight + minutes * MINUTE - now;
        self.steps.push((now, ahead));
        // Replaced whole: the node reads it at every look at its clock.
        let new = node.file("clock.new", &ahead.to_string());
        std::fs::rename(new, node.path(FILE)).expect("the home is writable");
    }

    /// How many midnights it has gone past.
    pub fn midnights(&self) -> usize {
        let days = |(from, ahead): &(i64, i64)| (from + ahead - self.midnight).div_euclid(DAY) + 1;
        usize::try_from(self.steps.iter().map(days).max().unwrap_or_default()).unwrap_or_default()
    }

    /// When it was, by the runner's clock, that the node's showed `told`: the time that is nearest to one at which
    /// the clock was so.
    pub fn really(&self, told: SystemTime) -> SystemTime {
        let told = milliseconds(told);
        let ends = self.steps.iter().skip(1).map(|(from, _)| *from).chain([i64::MAX]);
        let reading = |((from, ahead), end): (&(i64, i64), i64)| {
            let at = told - ahead;
            (at - at.clamp(*from, end), at)
        };
        let at = self.steps.iter().zip(ends).map(reading).min_by_key(|(off, _)| off.abs()).map_or(told, |(_, at)| at);
        UNIX_EPOCH + Duration::from_millis(u64::try_from(at).unwrap_or_default())
    }
}

fn milliseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stepped_clock_told_is_found_on_the_runners() {
        let at = |milliseconds: i64| UNIX_EPOCH + Duration::from_millis(milliseconds.try_into().expect("after 1970"));
        let noon = DAY / 2;
        // A second each: right, at ten to twelve, at five past, and an hour back.
        let steps = [0, DAY / 2 - 10 * MINUTE, DAY / 2 + 5 * MINUTE, DAY / 2 - 55 * MINUTE];
        let steps: Vec<_> = (0..).zip(steps).map(|(second, ahead)| (noon + 1000 * second, ahead)).collect();
        let clock = NodeClock { midnight: DAY, steps: steps.clone() };
        for (from, ahead) in steps {
            for into in [0, 400, 999] {
                assert_eq!(clock.really(at(from + into + ahead)), at(from + into), "{from} {ahead}");
            }
        }
        // A record that was begun just before the step, and one from before the run.
        assert_eq!(clock.really(at(noon - 5)), at(noon - 5));
        assert_eq!(clock.really(at(noon + 1003)), at(noon + 1003));
    }
}
