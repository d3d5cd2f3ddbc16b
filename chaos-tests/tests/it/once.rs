//! The same event again: a duplicate is recognised, a contradiction refused.

use super::drop_box::{DropBox, FEED, data, row};

#[test]
fn an_event_published_twice_is_one_row() {
    let mut stage = DropBox::running();
    stage.publish("GR-1");
    let again = stage.node.try_publish(FEED, "GR-1", &data("GR-1")).expect("an answer").expect(202).json();
    assert_eq!((again["accepted"].as_u64(), again["duplicates"].as_u64()), (Some(0), Some(1)), "{again}");
    assert_eq!(again["events"][0]["offset"], 0);
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}

#[test]
fn an_event_published_again_after_a_kill_and_its_delivery_is_one_row() {
    let mut stage = DropBox::running();
    stage.publish("GR-1");
    stage.run().ok();
    stage.node.restart();
    let again = stage.node.try_publish(FEED, "GR-1", &data("GR-1")).expect("an answer").expect(202).json();
    assert_eq!((again["duplicates"].as_u64(), again["events"][0]["offset"].as_u64()), (Some(1), Some(0)), "{again}");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}

#[test]
fn the_same_id_with_another_body_is_refused_by_name() {
    let mut stage = DropBox::running();
    stage.publish("GR-1");
    let problem = stage.node.try_publish(FEED, "GR-1", &data("GR-2")).expect("an answer").problem(409);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("GR-1") && detail.contains("data"), "{problem}");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1"));
}

#[test]
fn the_same_id_on_another_feed_is_another_event() {
    let mut stage = DropBox::running();
    stage.publish("GR-1");
    let other = stage.node.try_publish("elsewhere", "GR-1", &data("GR-2")).expect("an answer").expect(202).json();
    assert_eq!(other["accepted"], 1, "{other}");
}

#[test]
fn an_acknowledged_event_survives_a_kill() {
    let mut stage = DropBox::running();
    for number in 0..20 {
        stage.publish(&format!("GR-{number}"));
        if number % 5 == 4 {
            stage.node.restart();
        }
    }
    stage.run().ok();
    assert_eq!(stage.text(), (0..20).map(|number| row(&format!("GR-{number}"))).collect::<String>());
}
