//! The table of `hms circuit list`: it fits a page, and what needs a human stands on top.

use std::cmp::Reverse;

use hms_actors::id::Timestamp;

use crate::admin::views::{CircuitState, TargetView};
use crate::cli::ages::{ago, until};
use crate::cli::table::{self, Column};
use crate::cli::words;

const COLUMNS: [Column; 8] = [
    Column::middle("TARGET"),
    Column::whole("STATE"),
    Column::right("SINCE"),
    Column::right("BACKLOG"),
    Column::right("OLDEST"),
    Column::right("FAILURES"),
    Column::right("NEXT PROBE"),
    Column::end("LAST ERROR"),
];

/// Below this many columns the last error would be cut to nothing: OLDEST and FAILURES make room for it.
const FULL_PAGE: usize = 100;
const NARROW: [usize; 6] = [0, 1, 2, 3, 6, 7];

/// The table and a line that sums it up.
pub(super) fn text(mut targets: Vec<TargetView>, now: Timestamp, page: usize) -> String {
    if targets.is_empty() {
        return "none\n".to_owned();
    }
    targets.sort_by_cached_key(|target| {
        (badness(target.state), Reverse(target.backlog), target.recipe.clone(), target.target.clone())
    });
    let rows: Vec<_> = targets.iter().map(|target| row(target, now)).collect();
    let table = if page < FULL_PAGE {
        let rows: Vec<_> = rows.iter().map(|row| NARROW.map(|at| row[at].clone())).collect();
        table::text(&NARROW.map(|at| COLUMNS[at]), &rows, page)
    } else {
        table::text(&COLUMNS, &rows, page)
    };
    format!("{table}\n{}\n", summary(&targets))
}

pub(super) fn word(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half-open",
        CircuitState::ForcedOpen => "forced",
    }
}

fn badness(state: CircuitState) -> u8 {
    match state {
        CircuitState::Open | CircuitState::ForcedOpen => 0,
        CircuitState::HalfOpen => 1,
        CircuitState::Closed => 2,
    }
}

fn row(target: &TargetView, now: Timestamp) -> [String; 8] {
    let none = || "-".to_owned();
    [
        format!("{}/{}", target.recipe, target.target),
        word(target.state).to_owned(),
        ago(target.since, now),
        target.backlog.to_string(),
        target.oldest_waiting_at.map_or_else(none, |at| ago(at, now)),
        target.consecutive_failures.to_string(),
        target.next_probe_at.map_or_else(none, |at| until(at, now)),
        target.last_error.as_deref().map_or_else(none, words::in_a_few),
    ]
}

fn summary(targets: &[TargetView]) -> String {
    let count = |state| targets.iter().filter(|target| target.state == state).count();
    let forced = match count(CircuitState::ForcedOpen) {
        0 => String::new(),
        forced => format!(", {forced} forced open"),
    };
    let [open, half_open, closed] = [CircuitState::Open, CircuitState::HalfOpen, CircuitState::Closed].map(count);
    format!("{open} open{forced}, {half_open} half-open, {closed} closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::circuit::tests::{NOW, ago, target};

    fn county() -> Vec<TargetView> {
        let in_seconds = |seconds: i64| Some(ago(-seconds));
        vec![
            target("permits.sync", "archive"),
            TargetView {
                state: CircuitState::HalfOpen,
                since: ago(2),
                backlog: 3,
                oldest_waiting_at: Some(ago(45)),
                consecutive_failures: 4,
                last_error: Some("503 Service Unavailable: {\"error\": \"busy\"}".to_owned()),
                ..target("permits.sync", "portal")
            },
            TargetView {
                state: CircuitState::Open,
                since: ago(740),
                backlog: 1_204,
                oldest_waiting_at: Some(ago(860)),
                consecutive_failures: 7,
                opened_total: 3,
                next_probe_at: in_seconds(24),
                last_error: Some(
                    "sync@finance.state.vt.gov:22: connecting: Connection refused (os error 111)".to_owned(),
                ),
                ..target("vdot.bridge_grant.sync", "cobol_finance")
            },
            TargetView {
                state: CircuitState::Open,
                since: ago(180_000),
                backlog: 10_000_000,
                oldest_waiting_at: Some(ago(200_000)),
                consecutive_failures: 312,
                next_probe_at: in_seconds(570),
                last_error: Some("logging in with secret `GIS_KEY`: the key is not accepted by the server".to_owned()),
                ..target("virginia.department_of_transportation.bridges.sync", "geographic_information_system")
            },
            TargetView {
                state: CircuitState::ForcedOpen,
                since: ago(90),
                backlog: 12,
                oldest_waiting_at: Some(ago(61)),
                ..target("permits.sync", "gis")
            },
        ]
    }

    #[test]
    fn the_table_reads_well_on_a_hundred_columns() {
        insta::assert_snapshot!(text(county(), NOW, 100));
    }

    #[test]
    fn the_table_fits_eighty_columns() {
        insta::assert_snapshot!(text(county(), NOW, 80));
    }

    #[test]
    fn programs_get_whole_names_and_words() {
        let shown = text(county(), NOW, usize::MAX);
        assert!(shown.contains("virginia.department_of_transportation.bridges.sync/geographic_information_system"));
        assert!(!shown.contains('…'));
        assert_eq!(text(Vec::new(), NOW, 100), "none\n");
    }
}
