//! Times as an operator reads them: how long ago, how long still. Only the two largest units, because the rest
//! changes while it is read.

use hms_actors::id::Timestamp;

use crate::admin::views::Moment;

/// Now, by this machine's clock; the node's may differ, so nothing is taken to be in the wrong direction.
pub(crate) fn now() -> Timestamp {
    Timestamp(chrono::Utc::now().timestamp_millis())
}

/// How long ago: `3h20m`.
pub(crate) fn ago(at: Moment, now: Timestamp) -> String {
    span(now.0.saturating_sub(at.0.0) / 1000)
}

/// How long still: `in 24s`, or `now`.
pub(crate) fn until(at: Moment, now: Timestamp) -> String {
    match at.0.0.saturating_sub(now.0).max(0) {
        0 => "now".to_owned(),
        wait => format!("in {}", span((wait + 999) / 1000)),
    }
}

/// Seconds in the two largest units.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let two = |large: i64, one: &str, small: i64, other: &str| match small {
        0 => format!("{large}{one}"),
        _ => format!("{large}{one}{small}{other}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => two(seconds / 60, "m", seconds % 60, "s"),
        600..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_units() {
        for (seconds, words) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (90, "1m30s"),
            (3_599, "59m"),
            (3_600, "1h"),
            (12_000, "3h20m"),
            (86_400, "1d"),
            (1_000_000, "11d13h"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn what_is_due_is_now_and_nothing_is_ago_in_the_future() {
        let now = Timestamp(10_000);
        assert_eq!(until(Moment(Timestamp(10_000)), now), "now");
        assert_eq!(until(Moment(Timestamp(9_000)), now), "now");
        assert_eq!(until(Moment(Timestamp(10_001)), now), "in 1s");
        assert_eq!(ago(Moment(Timestamp(11_000)), now), "0s");
    }
}
