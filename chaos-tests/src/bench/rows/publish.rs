//! Durable publishing over HTTP in batches of 1,000, against a plain file that gets the same bytes and is synced after
//! each batch. Then the node is killed, started again, and all that was acknowledged is drained and judged.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, events};

const FEED: &str = "bench";
const RECIPE: &str = "bench.drain.sync";

/// A node has several publishers.
pub fn four(settings: &Settings) -> Row {
    published(settings, "publish", 4, Some(Goal { reach: 0.3, aim: 0.6 }))
}

pub fn alone(settings: &Settings) -> Row {
    published(settings, "publish-alone", 1, None)
}

fn published(settings: &Settings, name: &str, connections: usize, goal: Option<Goal>) -> Row {
    let mut row = Row::new(name);
    let count = settings.sized(1_000_000, 4_000);
    for turn in 0..settings.turns {
        let mut stage = Stage::new(&settings.program);
        let requests = events::requests(FEED, 0, count, events::AT_ONCE);
        let clock = Clock::start(Some(stage.process()), &[], &[]);
        stage.publish(&requests, connections);
        let run = stage.kept(clock.stop(count));
        drop(requests);
        row.push(turn, "node", run);
        let run = file(&stage.path("reference"), count);
        row.push(turn, "file", run);
        stage.node.restart();
        drained(&mut row, &stage, count);
    }
    row.compare(Figure::new(name, "a file, same bytes, fdatasync after 1,000", "×", goal), "node", "file", Run::rate);
    row
}

/// The same bytes, synced at the same groups.
fn file(path: &Path, count: usize) -> Run {
    let text = |first: usize| (first..count.min(first + events::AT_ONCE)).map(|number| events::line(number) + "\n");
    let groups: Vec<String> = (0..count).step_by(events::AT_ONCE).map(|first| text(first).collect()).collect();
    let mut file = File::create(path).expect("the node's home is writable");
    let clock = Clock::start(None, &[], &[]);
    for group in &groups {
        file.write_all(group.as_bytes()).and_then(|()| file.sync_data()).expect("the disk takes it");
    }
    clock.stop(count)
}

fn drained(row: &mut Row, stage: &Stage, count: usize) {
    let sink = Sink::new();
    let recipe = format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n  from: beginning\ntargets:\n  - name: partner\n    adapter: rest\n    \
         url: {}\n    idempotency: honoured\n    batch: {{max_events: 1000, format: ndjson}}\nschedule: on_change\n",
        sink.url("/events")
    );
    stage.apply(RECIPE, &recipe);
    wait_for(&[&sink], count as u64);
    stage.settled(RECIPE, &[]);
    let witness = Witness::new(RECIPE, "partner", witness::requests(&sink), stage.acknowledged());
    witness::judge(row, stage, vec![witness]);
}
