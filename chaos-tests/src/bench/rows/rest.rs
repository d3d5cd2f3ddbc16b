//! A backlog drained over REST, to the end in receipt, audit and checkpoint on disk; against reqwest that sends the same
//! bodies to the same kind of sink and keeps no proof.

use std::cell::Cell;
use std::sync::Arc;

use reqwest::Client;

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, cpu, events};

const FEED: &str = "bench";
const RECIPE: &str = "bench.rest.sync";
/// The thread that lays the audit's tree and signs it.
const NOTARY: &str = "hms-notary";
const IN_FLIGHT: usize = 64;

pub fn single(settings: &Settings) -> Row {
    let goal = Goal { reach: 0.6, aim: 0.85 };
    drained(settings, "rest", settings.sized(200_000, 100), 1, goal)
}

pub fn batch(settings: &Settings) -> Row {
    let goal = Goal { reach: 0.3, aim: 0.6 };
    drained(settings, "rest-batch", settings.sized(1_000_000, 500), 100, goal)
}

fn drained(settings: &Settings, name: &str, count: usize, at_once: usize, goal: Goal) -> Row {
    let mut row = Row::new(name);
    for turn in 0..settings.turns {
        let run = node(settings, &mut row, count, at_once);
        row.push(turn, "node", run);
        row.push(turn, "reqwest", bare(count, at_once));
    }
    row.compare(Figure::new(name, "bare reqwest, same bodies", "×", Some(goal)), "node", "reqwest", Run::rate);
    // On a thread of its own: it costs throughput only where no core is left for that.
    let tree = Figure::new(&format!("{name}-tree"), "the node's CPU: that of tree and signatures", "×", None);
    row.measure(tree, "node", |run| run.get("tree s") / run.cpu.node);
    row
}

fn node(settings: &Settings, row: &mut Row, count: usize, at_once: usize) -> Run {
    let (stage, sink) = (Stage::new(&settings.program), Sink::new());
    stage.backlog(FEED, 0, count);
    let format = if at_once == 1 { "object" } else { "json_array" };
    let recipe = format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n  from: beginning\ntargets:\n  - name: partner\n    adapter: rest\n    \
         url: {}\n    idempotency: honoured\n    concurrency: {IN_FLIGHT}\n    \
         batch: {{max_events: {at_once}, format: {format}}}\nschedule: on_change\n",
        sink.url("/events")
    );
    let sinks = [&sink];
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    let tree = cpu::of_threads(stage.process(), NOTARY);
    stage.apply(RECIPE, &recipe);
    wait_for(&sinks, count as u64);
    stage.settled(RECIPE, &[]);
    let run = clock.stop(count).with("tree s", cpu::of_threads(stage.process(), NOTARY) - tree);
    let run = stage.kept(run);
    let witness = Witness::new(RECIPE, "partner", witness::requests(&sink), stage.acknowledged());
    witness::judge(row, &stage, vec![witness]);
    run
}

/// What a program would do that only sends: the same bodies, keys and number in flight, on one thread.
fn bare(count: usize, at_once: usize) -> Run {
    let sink = Sink::new();
    let bodies: Arc<Vec<String>> =
        Arc::new((0..count).step_by(at_once).map(|first| body(first, count, at_once)).collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let tasks = tokio::task::LocalSet::new();
    let _ = crate::http::builder();
    let client = Client::builder().no_proxy().build().expect("the settings are plain");
    let (url, sinks) = (sink.url("/events"), [&sink]);
    let clock = Clock::start(None, &sinks, &[]);
    let next = std::rc::Rc::new(Cell::new(0));
    for _ in 0..IN_FLIGHT {
        let (client, url, bodies, next) = (client.clone(), url.clone(), bodies.clone(), next.clone());
        tasks.spawn_local(async move {
            while let Some(body) = bodies.get(next.replace(next.get() + 1)) {
                let request = client.post(&url).header("content-type", "application/json");
                let request = request.header("idempotency-key", "bench").body(body.clone());
                let answer = request.send().await.expect("the sink answers");
                assert_eq!(answer.status(), 200);
                drop(answer.bytes().await.expect("the sink answers"));
            }
        });
    }
    runtime.block_on(tasks);
    assert_eq!(sink.events(), count as u64, "events that the sink counted");
    clock.stop(count)
}

fn body(first: usize, count: usize, at_once: usize) -> String {
    let data: Vec<String> = (first..count.min(first + at_once)).map(events::data).collect();
    if at_once == 1 { data.concat() } else { format!("[{}]", data.join(",")) }
}
