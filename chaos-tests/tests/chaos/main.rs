//! Every scenario with a fixed seed and few rounds. Campaigns are run by command: `docs/chaos.md`.

use chaos_tests::{runner, scenario};

/// Runs it with a seed of its own; the report is the message if a promise was broken.
#[track_caller]
fn holds(name: &str, seed: u64) {
    let scenario = scenario::find(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    let (_, report) = runner::run(scenario, seed, scenario.rounds);
    assert!(report.is_good(), "\n{report}");
}

macro_rules! scenarios {
    ($($test:ident: $name:literal, $seed:literal;)*) => {
        $(#[test]
        fn $test() {
            holds($name, $seed);
        })*

        #[test]
        fn every_scenario_is_run() {
            let run = [$($name),*];
            let missing: Vec<_> = scenario::all().into_iter().map(|scenario| scenario.name).filter(|name| !run.contains(name)).collect();
            assert!(missing.is_empty(), "no test runs {missing:?}");
        }
    };
}

scenarios! {
    a_node_that_is_killed_at_random_loses_and_repeats_nothing: "node-killed-at-random", 1;
    a_node_that_is_killed_between_two_steps_loses_and_repeats_nothing: "node-killed-between-two-steps", 2;
    replies_that_are_lost_after_the_effect_double_nothing_where_keys_are_honoured: "replies-lost-after-the-effect", 3;
    partners_that_go_down_by_turns_miss_nothing: "partners-down-by-turns", 4;
    a_batch_that_got_no_answer_stays_the_same_batch: "batch-timed-out-then-more-events-then-a-restart", 5;
    a_file_server_that_stops_mid_write_gets_each_row_once: "sshd-stopped-mid-write", 6;
    a_partner_that_flaps_gets_everything: "partner-flaps", 7;
    a_file_that_is_picked_up_mid_day_is_begun_anew: "file-picked-up-mid-day", 8;
    a_file_that_is_picked_up_between_write_and_settle_is_asked_about: "file-picked-up-between-write-and-settle", 9;
    a_partner_that_was_down_for_long_gets_what_waited_once_and_in_order: "partner-down-for-long", 15;
    a_partner_that_hangs_stops_only_itself: "partner-hangs", 16;
    a_tarpit_stops_only_itself: "partner-is-a-tarpit", 17;
    a_network_that_fails_in_every_way_loses_and_repeats_nothing: "network-fails-in-every-way", 18;
    ten_of_twenty_targets_are_ill_and_the_others_do_not_notice: "ten-of-twenty", 19;
    an_event_that_is_refused_for_ever_ends_as_a_dead_letter: "partner-refuses-one-event", 20;
    a_bad_event_does_not_take_its_batch_with_it: "batch-refused-for-one-bad-event", 21;
    a_full_disk_at_the_partner_tears_no_row: "disk-full-at-the-partner", 22;
    a_full_disk_at_the_node_loses_nothing_that_was_acknowledged: "disk-full-at-the-node", 23;
    a_clock_that_steps_over_midnight_misses_nothing: "clock-steps-over-midnight", 24;
    an_adapter_that_panics_takes_nobody_with_it: "adapter-panics-a-hundred-times", 25;
    what_was_begun_is_finished_as_it_was_when_the_recipe_changes: "recipe-applied-with-an-open-plan", 26;
    what_was_begun_waits_for_the_end_of_a_pause: "recipe-paused-with-an-open-plan", 27;
    what_was_begun_is_finished_under_a_new_name: "target-renamed-with-an-open-plan", 28;
    what_was_begun_is_no_accident_when_it_is_abandoned: "recipe-deleted-with-an-open-plan", 29;
    refused_events_are_replayed_once_whenever_the_node_is_killed: "refused-events-replayed-while-the-node-is-killed", 30;
    abandoned_events_are_replayed_once_whenever_the_node_is_killed: "abandoned-events-replayed-while-the-node-is-killed", 31;
    a_power_cut_takes_nothing_that_was_acknowledged: "power-cut-at-random", 11;
    the_judge_finds_a_sync_that_was_removed: "null-control-without-sync", 12;
    the_judge_finds_a_plan_that_was_not_stored: "null-control-without-plan", 13;
    the_judge_finds_an_epoch_that_was_ignored: "null-control-without-epoch", 14;
    a_file_that_others_change_gets_each_row_once: "file-changed-by-somebody-else", 10;
}
