//! Schedules: from the recipe's words to the heart's [`Schedule`]. When a run is started is the heart's matter.
//!
//! Cron is read in the node's time zone. Where the clocks go forward, a run whose time does not exist goes
//! at the first moment after the gap; where they go back, a run at a fixed time goes once, the first time,
//! while one that repeats (`*/5 * * * *`) goes on in both hours.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use hms_actors::id::Timestamp;
use hms_actors::ports::{Calendar, Schedule};

use super::model::ScheduleSpec;
use crate::yaml::values::{FromText, duration};

impl FromText for ScheduleSpec {
    const EXPECTED: &'static str = "`every 60s`, `cron \"0 9 * * *\"` or `on_change`";

    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (word, rest.trim()) {
            ("on_change", "") => Ok(Self::OnChange),
            ("every", every) => every_spec(every).map_err(Some),
            ("cron", pattern) => {
                let quoted = ['"', '\''].iter().find_map(|&quote| pattern.strip_prefix(quote)?.strip_suffix(quote));
                let pattern = quoted.unwrap_or(pattern).trim();
                cron(pattern).map_err(Some)?;
                Ok(Self::Cron(pattern.to_owned()))
            }
            _ => Err(None),
        }
    }

    fn pattern() -> Option<&'static str> {
        Some("^(every +([0-9]+(ms|s|m|h|d))+|cron +.+|on_change)$")
    }
}

fn every_spec(text: &str) -> Result<ScheduleSpec, String> {
    match duration(text) {
        None => Err("after `every` comes a duration such as 60s, 5m or 1h30m".to_owned()),
        Some(every) if every < Duration::from_millis(100) => {
            Err("the shortest is `every 100ms`, or use `on_change`".to_owned())
        }
        Some(every) => Ok(ScheduleSpec::Every(every)),
    }
}

fn cron(pattern: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let error = |error| format!("`{pattern}` is not a cron pattern (minute hour day month weekday): {error}");
    let cron = parser.parse(pattern).map_err(error)?;
    // A pattern such as `0 0 30 2 *` would be accepted and never run.
    cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false).map_err(|_| format!("`{pattern}` never comes"))?;
    Ok(cron)
}

/// The schedule as the heart takes it.
pub fn to_heart(spec: &ScheduleSpec, zone: Tz) -> Schedule {
    match spec {
        ScheduleSpec::Every(every) => Schedule::Every(*every),
        ScheduleSpec::OnChange => Schedule::OnChange,
        ScheduleSpec::Cron(pattern) => {
            let cron = cron(pattern).expect("the parser of recipes has checked the pattern");
            Schedule::Calendar(Arc::new(CronCalendar { cron, zone }))
        }
    }
}

/// How long it is until the next run of a recipe that is enabled now. `None` if there is none.
pub fn next_run(schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    match schedule {
        Schedule::Every(every) => Some(*every),
        Schedule::OnChange => Some(Duration::ZERO),
        Schedule::Calendar(calendar) => calendar.next_after(now).map(|next| next.since(now)),
    }
}

/// `HH:MM:SS`, with a begun second counted as a whole one.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[derive(Debug)]
struct CronCalendar {
    cron: Cron,
    zone: Tz,
}

impl Calendar for CronCalendar {
    fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment = DateTime::from_timestamp_millis(moment.0)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&moment, false).ok()?;
        Some(Timestamp(next.timestamp_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<ScheduleSpec, Option<String>> {
        ScheduleSpec::from_text(text)
    }

    fn next(pattern: &str, zone: Tz, moment: &str) -> String {
        let Schedule::Calendar(calendar) = to_heart(&ScheduleSpec::Cron(pattern.to_owned()), zone) else { panic!() };
        let at = |text: &str| Timestamp(text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_millis());
        let next = calendar.next_after(at(moment)).unwrap();
        DateTime::from_timestamp_millis(next.0).unwrap().to_rfc3339()
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(spec("every 60s"), Ok(ScheduleSpec::Every(Duration::from_secs(60))));
        assert_eq!(spec("every  1h30m"), Ok(ScheduleSpec::Every(Duration::from_secs(5400))));
        for cron in ["cron \"0 9 * * *\"", "cron '0 9 * * *'", "cron 0 9 * * *"] {
            assert_eq!(spec(cron), Ok(ScheduleSpec::Cron("0 9 * * *".to_owned())), "{cron}");
        }
        assert_eq!(spec("cron 30 0 9 * * MON-FRI"), Ok(ScheduleSpec::Cron("30 0 9 * * MON-FRI".to_owned())));
        assert_eq!(spec("on_change"), Ok(ScheduleSpec::OnChange));
    }

    #[test]
    fn what_never_runs_or_makes_no_sense_is_refused() {
        for text in ["", "every", "every 0s", "every 10ms", "daily", "cron", "cron 61 * * * *", "cron 0 0 30 2 *"] {
            assert!(spec(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cron_is_read_in_the_time_zone() {
        assert_eq!(next("0 9 * * *", Tz::America__New_York, "2026-01-10T13:59:59Z"), "2026-01-10T14:00:00+00:00");
        assert_eq!(next("0 9 * * *", Tz::America__New_York, "2026-01-10T14:00:00Z"), "2026-01-11T14:00:00+00:00");
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_comes_right_after_the_gap() {
        let before = "2026-03-08T06:59:00Z"; // 01:59 in New York, then 03:00
        assert_eq!(next("30 2 * * *", Tz::America__New_York, before), "2026-03-08T07:00:00+00:00");
        assert_eq!(next("*/30 * * * *", Tz::America__New_York, before), "2026-03-08T07:00:00+00:00");
    }

    #[test]
    fn a_time_that_comes_twice_is_run_once_but_what_repeats_goes_on() {
        let first = "2026-11-01T05:30:00Z"; // the first 01:30 in New York
        assert_eq!(next("30 1 * * *", Tz::America__New_York, "2026-11-01T04:00:00Z"), "2026-11-01T05:30:00+00:00");
        assert_eq!(next("30 1 * * *", Tz::America__New_York, first), "2026-11-02T06:30:00+00:00");
        assert_eq!(next("*/30 * * * *", Tz::America__New_York, first), "2026-11-01T06:00:00+00:00");
    }

    #[test]
    fn the_next_run_is_told_as_a_clock() {
        let every = to_heart(&ScheduleSpec::Every(Duration::from_secs(60)), Tz::UTC);
        assert_eq!(clock(next_run(&every, Timestamp(0)).unwrap()), "00:01:00");
        let daily = to_heart(&ScheduleSpec::Cron("0 9 * * *".to_owned()), Tz::UTC);
        assert_eq!(clock(next_run(&daily, Timestamp(1)).unwrap()), "09:00:00");
        assert_eq!(clock(Duration::from_secs(100 * 3600 + 61)), "100:01:01");
    }
}
