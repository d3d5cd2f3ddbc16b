//! The journals are the truth: without sled's folder a stopped node rebuilds what it knew.

use chaos_tests::judge::Guarantee;

use super::bridge::{Bridge, RECIPE, row};

/// Three events: one with both partners, two with the map alone.
fn half_delivered() -> Bridge {
    let mut bridge = Bridge::running();
    bridge.publish("GR-1");
    bridge.node.run(RECIPE);
    bridge.finance.down();
    bridge.publish("GR-2");
    bridge.publish("GR-3");
    bridge.node.cli(["sync", "run", RECIPE]).failed_with(1);
    bridge
}

fn without_sled(mut bridge: Bridge, times: Guarantee) {
    std::fs::remove_dir_all(bridge.node.data_dir().join("state")).expect("sled's folder is there");
    bridge.node.start();
    bridge.finance.up();
    bridge.publish("GR-4");
    bridge.node.run(RECIPE);
    assert_eq!(bridge.csv(), ["GR-1", "GR-2", "GR-3", "GR-4"].map(row).concat());
    bridge.judge(times);
}

#[test]
fn a_node_without_its_sled_folder_sends_nothing_twice_and_misses_nothing() {
    let mut bridge = half_delivered();
    bridge.node.terminate();
    without_sled(bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_killed_node_without_its_sled_folder_sends_nothing_twice_and_misses_nothing() {
    let mut bridge = half_delivered();
    bridge.node.kill9();
    without_sled(bridge, Guarantee::ExactlyOnce);
}

#[test]
fn a_recipe_that_was_paused_is_still_paused_without_the_sled_folder() {
    let mut bridge = Bridge::running();
    bridge.node.cli(["sync", "pause", RECIPE]).ok();
    let before = bridge.node.http().get(&format!("/v1/recipes/{RECIPE}")).expect(200).json();
    bridge.node.terminate();
    std::fs::remove_dir_all(bridge.node.data_dir().join("state")).expect("sled's folder is there");
    bridge.node.start();
    let after = bridge.node.http().get(&format!("/v1/recipes/{RECIPE}")).expect(200).json();
    assert_eq!(after["state"], before["state"], "{after}");
}
