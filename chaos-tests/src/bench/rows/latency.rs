//! From publication to arrival at the partner, `on_change`, at 1,000 events a second; against a file that gets the same
//! bytes and is synced, and then a bare POST to the same partner.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::wire::{self, Wire};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, events, paced};

const FEED: &str = "bench";
const RECIPE: &str = "bench.latency.sync";
const PACE: Duration = Duration::from_millis(1);
/// Publishers at once: one that waits for its answer holds up only itself.
const PUBLISHERS: usize = 8;

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("latency");
    let count = settings.sized(30_000, 200);
    for turn in 0..settings.turns {
        let run = node(settings, &mut row, count);
        row.push(turn, "node", run);
        row.push(turn, "fdatasync, POST", bare(count));
    }
    let against = "fdatasync of the same bytes, then a bare POST";
    let goal = Goal { reach: 4.0, aim: 1.5 };
    row.compare(Figure::new("latency, p99", against, "×", Some(goal)), "node", "fdatasync, POST", |run| {
        run.get("p99 ms")
    });
    row.compare(Figure::new("latency, p50", against, "×", None), "node", "fdatasync, POST", |run| run.get("p50 ms"));
    row
}

fn node(settings: &Settings, row: &mut Row, count: usize) -> Run {
    let (stage, sink) = (Stage::new(&settings.program), Sink::new());
    let url = sink.url("/events");
    stage.apply(
        RECIPE,
        &format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: partner\n    adapter: rest\n    url: {url}\n    \
             idempotency: honoured\n    concurrency: 64\nschedule: on_change\n"
        ),
    );
    let path = format!("/v1/feeds/{FEED}/events");
    let request = |number| wire::post(&path, "application/cloudevents+json", events::line(number).as_bytes());
    let requests: Vec<Vec<u8>> = (0..count).map(request).collect();
    let (address, sinks) = (stage.node.port().address(), [&sink]);
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    let due = paced::run(count, PACE, PUBLISHERS, || {
        let (mut wire, stage, requests) = (Wire::connect(address), &stage, &requests);
        move |number: usize| stage.promised(wire.publish(&requests[number]))
    });
    wait_for(&sinks, count as u64);
    stage.settled(RECIPE, &[]);
    let run = measured(clock.stop(count), &due, &sink);
    let witness = Witness::new(RECIPE, "partner", witness::requests(&sink), stage.acknowledged());
    witness::judge(row, &stage, vec![witness]);
    run
}

/// The least that durable and delivered can cost: each publisher syncs a file of its own.
fn bare(count: usize) -> Run {
    let (sink, folder) = (Sink::new(), tempfile::tempdir().expect("the temporary folder is writable"));
    let request = |number| {
        let head = format!("application/json\r\nce-id: {}", events::id(number));
        wire::post("/events", &head, events::data(number).as_bytes())
    };
    let requests: Vec<Vec<u8>> = (0..count).map(request).collect();
    let sinks = [&sink];
    let clock = Clock::start(None, &sinks, &[]);
    let files = std::sync::atomic::AtomicUsize::new(0);
    let due = paced::run(count, PACE, PUBLISHERS, || {
        let name = files.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let mut file = File::create(folder.path().join(name)).expect("our folder is writable");
        let (mut wire, requests) = (Wire::connect(sink.address()), &requests);
        move |number: usize| {
            let line = events::line(number) + "\n";
            file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).expect("the disk takes it");
            let (status, _) = wire.send(&requests[number]).expect("the sink answers");
            assert_eq!(status, 200);
        }
    });
    wait_for(&sinks, count as u64);
    measured(clock.stop(count), &due, &sink)
}

/// Percentiles over all but the first, which find everything cold.
fn measured(run: Run, due: &[Instant], sink: &Sink) -> Run {
    let numbers: HashMap<String, usize> = (0..due.len()).map(|number| (events::id(number), number)).collect();
    let skipped = due.len() / 50;
    let took = sink.arrivals().into_iter().filter_map(|arrival| {
        let number = *numbers.get(&arrival.request.event?)?;
        (number >= skipped).then(|| arrival.at.saturating_duration_since(due[number]))
    });
    let [p50, p99] = paced::percentiles(took.collect(), [0.5, 0.99]);
    run.with("p50 ms", p50).with("p99 ms", p99)
}
