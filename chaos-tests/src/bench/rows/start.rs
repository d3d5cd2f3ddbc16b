//! Killed with 1,000,000 events waiting and 1,000 recipes: how long until the first delivery.

use std::time::Instant;

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::Sink;
use crate::bench::stage::{Clock, Stage};
use crate::bench::{Settings, many};

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("start");
    let (recipes, each) = (settings.sized(1_000, 10), 1_000.min(settings.sized(1_000, 10)));
    for turn in 0..settings.turns {
        let run = killed(settings, &mut row, recipes, each);
        row.push(turn, "node", run);
    }
    let goal = Goal { reach: 1.0, aim: 0.3 };
    row.measure(Figure::new("start, first delivery", "after kill -9", "s", Some(goal)), "node", |run| {
        run.get("first delivery s")
    });
    row.measure(Figure::new("start, ready", "after kill -9", "s", None), "node", |run| run.get("ready s"));
    row
}

fn killed(settings: &Settings, row: &mut Row, recipes: usize, each: usize) -> Run {
    let (mut stage, sink) = (Stage::new(&settings.program), Sink::of_many());
    // Every recipe has sent something that is never answered: all its events wait.
    sink.hang(true);
    many::apply(&stage, 0..recipes, &sink, 1);
    many::publish(&stage, 0..recipes, each);
    sink.wait_for_requests(recipes);
    stage.node.kill9();
    sink.hang(false);
    let start = Instant::now();
    stage.node.start();
    let ready = start.elapsed().as_secs_f64();
    let sinks = [&sink];
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    many::drained(&stage, 0..recipes, &sink, 1);
    let run = clock.stop(recipes * each);
    let first = sink.moments().first().copied().expect("something came");
    many::judged(row, &stage, 0..recipes, each, &sink, 1);
    run.with("ready s", ready).with("first delivery s", first.duration_since(start).as_secs_f64())
}
