//! Each row of the benchmarks at its smallest size: it runs to its end, its judge has nothing to say, and sees what is
//! bent. What is fast is measured by command: docs/performance.md.

use chaos_tests::bench::{self, Settings};
use chaos_tests::node::Node;

#[track_caller]
fn holds(name: &str) {
    let bench = bench::all().iter().find(|bench| bench.name == name);
    let bench = bench.unwrap_or_else(|| panic!("there is no row {name}"));
    let program = Node::newest().expect("a program was built");
    let row = bench.measure(&Settings { program, turns: 1, scale: 0.0 });
    assert!(row.violations.is_empty(), "{:?}", row.violations);
    assert!(row.judge_notices, "the judge does not see an event that is missing, or one that is there twice");
    // What is measured says nothing at this size: the CPU's clock may not even have ticked.
    assert!(row.figures.iter().all(|figure| !figure.values.is_empty()), "{:?}", row.figures);
}

macro_rules! rows {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            holds($name);
        })*

        #[test]
        fn every_row_is_run() {
            let run = [$($name),*];
            let missing: Vec<_> = bench::all().iter().map(|bench| bench.name).filter(|name| !run.contains(name)).collect();
            assert!(missing.is_empty(), "no test runs {missing:?}");
        }
    };
}

rows! {
    what_four_publishers_were_promised_is_there_after_a_kill: "publish";
    what_one_publisher_was_promised_is_there_after_a_kill: "publish-alone";
    the_log_in_groups_of_100_is_whole: "log-100";
    the_log_in_groups_of_1000_is_whole: "log-1000";
    the_log_with_its_memory_of_ids_is_whole: "log-ids";
    a_backlog_over_rest_is_delivered_once: "rest";
    a_backlog_over_rest_in_batches_is_delivered_once: "rest-batch";
    a_backlog_over_sftp_is_written_once: "sftp";
    events_at_a_pace_are_delivered_once: "latency";
    targets_beside_hanging_ones_get_everything_once: "isolation";
    a_target_that_was_down_gets_everything_once: "outage";
    recipes_that_were_idle_deliver_once: "idle";
    many_recipes_deliver_once: "work-recipes";
    a_feed_with_much_behind_it_is_delivered_once: "work-stored";
    many_feeds_are_delivered_once: "work-feeds";
    what_waited_when_the_node_was_killed_is_delivered_once: "start";
    what_is_delivered_while_recipes_are_applied_is_delivered_once: "apply";
}
