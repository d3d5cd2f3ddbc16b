//! The clock steps an hour forth and back, under the running node and over its restarts. Nothing is lost, nothing
//! comes twice, the order stays, and no delivery waits for the clock to come back.

use std::fs;

use chaos_tests::node::Node;

use super::edges::Edge;

const HOUR: i64 = 60 * 60 * 1000;

fn set(edge: &Edge, by: i64) {
    // Replaced whole: the node reads it at every look at its clock.
    let new = edge.node.file("clock.new", &by.to_string());
    fs::rename(new, edge.node.path("clock")).expect("the home is writable");
}

fn stage() -> Edge {
    let mut node = Node::faulty();
    let clock = node.file("clock", "0").display().to_string();
    node.env("HMS_CLOCK_FILE", &clock);
    Edge::running(node)
}

#[test]
fn the_clock_of_a_running_node_steps_an_hour_forth_and_back() {
    let mut edge = stage();
    for (n, by) in [0, HOUR, 0, -HOUR, HOUR, -HOUR, 0].into_iter().enumerate() {
        set(&edge, by);
        for m in 0..3 {
            edge.publish(&format!("e{n}-{m}"));
        }
        // A repeat is known as one, whatever the clock says.
        edge.publish("e0-0");
        edge.judge();
    }
    let times: Vec<i64> = edge.node.audit().iter().filter_map(time).collect();
    assert!(times.windows(2).any(|pair| pair[1] < pair[0] - HOUR / 2), "the clock did step: {times:?}");
}

#[test]
fn the_clock_steps_while_partners_are_away_and_over_restarts() {
    let mut edge = stage();
    for (n, by) in [HOUR, -HOUR, 0, -HOUR, HOUR].into_iter().enumerate() {
        edge.partner.down();
        edge.publish(&format!("e{n}-away"));
        edge.complains("http", "connect");
        set(&edge, by);
        edge.publish(&format!("e{n}-stepped"));
        if n % 2 == 0 {
            edge.node.restart();
        }
        edge.partner.up();
        edge.judge();
    }
}

fn time(record: &serde_json::Value) -> Option<i64> {
    let text = record["time"].as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
}
