//! Half of 1,000 targets hang: what the other half notices, in latency and in throughput.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, events, paced};

const FEED: &str = "bench";
const RECIPE: &str = "bench.many.sync";
/// Between events whose latency is measured.
const PACE: Duration = Duration::from_millis(200);

/// What the other half of the targets does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Hang,
    Well,
    Absent,
}

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("isolation");
    for turn in 0..settings.turns {
        for (of, others) in [("node", Others::Hang), ("none hang", Others::Well), ("half absent", Others::Absent)] {
            let run = half(settings, &mut row, others);
            row.push(turn, of, run);
        }
    }
    let (against, rate) = ("none of them hangs", Goal { reach: 0.95, aim: 1.0 });
    row.compare(Figure::new("isolation, throughput", against, "×", Some(rate)), "node", "none hang", Run::rate);
    let p99 = Goal { reach: 1.1, aim: 1.0 };
    row.compare(Figure::new("isolation, p99", against, "×", Some(p99)), "node", "none hang", |run| run.get("p99 ms"));
    let alone = "the other half does not exist";
    row.compare(Figure::new("isolation, throughput", alone, "×", None), "node", "half absent", Run::rate);
    row.compare(Figure::new("isolation, p99", alone, "×", None), "node", "half absent", |run| run.get("p99 ms"));
    row
}

fn half(settings: &Settings, row: &mut Row, others: Others) -> Run {
    let targets = 2 * settings.sized(500, 5);
    let (single, burst) = (settings.sized(240, 3), settings.sized(100, 5));
    let (stage, well, ill) = (Stage::new(&settings.program), Sink::of_many(), Sink::of_many());
    ill.hang(others == Others::Hang);
    stage.apply(RECIPE, &recipe(targets, others, &well, &ill));
    // One before those that are measured: it opens all connections, and those that hang have begun to.
    stage.publish(&events::requests(FEED, single, 1, 1), 1);
    wait_for(&[&well], (targets / 2) as u64);
    if others != Others::Absent {
        ill.wait_for_requests(targets / 2);
    }
    let due = paced::run(single, PACE, 1, || |number| stage.publish(&events::requests(FEED, number, 1, 1), 1));
    wait_for(&[&well], ((1 + single) * targets / 2) as u64);
    let [p50, p99] = latency(&well, &due);
    let sinks = [&well, &ill];
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    stage.publish(&events::requests(FEED, single + 1, burst, burst), 1);
    wait_for(&[&well], ((1 + single + burst) * targets / 2) as u64);
    let run = clock.stop(burst * targets / 2).with("p50 ms", p50).with("p99 ms", p99);
    let names: Vec<String> = (0..targets).step_by(2).map(name).collect();
    stage.settled(RECIPE, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut evidence = witness::requests_by_path(&well);
    let witness = |name: &String| {
        let evidence = evidence.remove(&format!("/{name}")).expect("something came for it");
        Witness::new(RECIPE, name, evidence, stage.acknowledged())
    };
    witness::judge(row, &stage, names.iter().map(witness));
    run
}

fn latency(well: &Sink, due: &[Instant]) -> [f64; 2] {
    let numbers: HashMap<String, usize> = (0..due.len()).map(|number| (events::id(number), number)).collect();
    let took = well.arrivals().into_iter().filter_map(|arrival| {
        let number = *numbers.get(&arrival.request.event?)?;
        Some(arrival.at.saturating_duration_since(due[number]))
    });
    paced::percentiles(took.collect(), [0.5, 0.99])
}

fn name(number: usize) -> String {
    format!("t{number}")
}

fn recipe(targets: usize, others: Others, well: &Sink, ill: &Sink) -> String {
    let target = |number: usize| {
        let (name, partner) = (name(number), if number.is_multiple_of(2) { well } else { ill });
        let url = partner.url(&format!("/{name}"));
        format!(
            "  - name: {name}\n    adapter: rest\n    url: {url}\n    idempotency: honoured\n    concurrency: 1\n    timeout: 5s\n"
        )
    };
    let is_there = |number: &usize| others != Others::Absent || number.is_multiple_of(2);
    let targets: String = (0..targets).filter(is_there).map(target).collect();
    format!("id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n{targets}schedule: on_change\n")
}
