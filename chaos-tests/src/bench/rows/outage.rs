//! One of ten targets is down while events are published and the nine others get them: the memory that the node then
//! holds, beside a run in which all ten are well. Then the tenth comes back and gets everything.
//!
//! What grows with an outage is there when the nine have everything and the tenth has nothing. Compared is the RSS of that
//! moment, as soon as nothing moves any more: while a million events pass at full speed it goes up and down by more than
//! is asked for, from run to run, so that the most of it decides nothing.

use std::time::Duration;

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, cpu};
use crate::judge::Circuit;
use crate::port::Port;

const FEED: &str = "bench";
const RECIPE: &str = "bench.ten.sync";
const TARGETS: usize = 10;
const MIB: f64 = 1024.0 * 1024.0;
/// Between looks at the memory.
const EACH: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_secs(20);

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("outage");
    let count = settings.sized(1_000_000, 2_000);
    for turn in 0..settings.turns {
        for (of, is_down) in [("node", true), ("none down", false)] {
            let run = ten(settings, &mut row, count, is_down);
            row.push(turn, of, run);
        }
    }
    let goal = Goal { reach: 16.0, aim: 4.0 };
    for (name, measure, goal) in
        [("outage, memory", "MiB", Some(goal)), ("outage, most memory at one moment", "most MiB", None)]
    {
        let figure = Figure::new(name, "the same without the outage", "MiB", goal);
        row.differ(figure, "node", "none down", |run| run.get(measure));
    }
    row
}

fn memory(process: u32) -> f64 {
    cpu::memory(process) as f64 / MIB
}

/// The least of some time: the allocator gives back what it has no use for within ten seconds.
fn at_rest(process: u32) -> f64 {
    let looks = REST.as_millis() / EACH.as_millis();
    let look = |_| {
        std::thread::sleep(EACH);
        memory(process)
    };
    (0..looks).map(look).fold(f64::INFINITY, f64::min)
}

fn ten(settings: &Settings, row: &mut Row, count: usize, is_down: bool) -> Run {
    let (stage, well, port) = (Stage::new(&settings.program), Sink::new(), Port::reserve());
    let url = |number: usize| match number {
        0 => format!("http://{}/t0", port.address()),
        _ => well.url(&format!("/t{number}")),
    };
    let target = |number: usize| {
        format!(
            "  - name: t{number}\n    adapter: rest\n    url: {}\n    idempotency: honoured\n    \
             batch: {{max_events: 1000, format: ndjson}}\n    circuit: {{failures: 3, open_for: 1s, max_open_for: 5s}}\n",
            url(number)
        )
    };
    let targets: String = (0..TARGETS).map(target).collect();
    stage.apply(RECIPE, &format!("id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n{targets}schedule: on_change\n"));
    let mut port = Some(port);
    let mut tenth = if is_down { None } else { port.take().map(Sink::on) };
    let (process, sinks) = (stage.process(), [&well]);
    let clock = Clock::start(Some(process), &sinks, &[]);
    let others: Vec<String> = (1..TARGETS).map(|number| format!("t{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let most = std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            stage.backlog(FEED, 0, count);
            wait_for(&[&well], ((TARGETS - 1) * count) as u64);
            stage.settled(RECIPE, &others);
        });
        let mut most = 0.0;
        while !working.is_finished() {
            most = memory(process).max(most);
            std::thread::sleep(EACH);
        }
        most
    });
    let run = clock.stop(count).with("MiB", at_rest(process)).with("most MiB", most);
    let tenth = tenth.get_or_insert_with(|| Sink::on(port.take().expect("it was down")));
    wait_for(&[tenth], count as u64);
    stage.settled(RECIPE, &[]);
    let (mut evidence, acknowledged) = (witness::requests_by_path(&well), stage.acknowledged());
    evidence.extend(witness::requests_by_path(tenth));
    let witness = |number: usize| {
        let evidence = evidence.remove(&format!("/t{number}")).expect("something came for it");
        let mut witness = Witness::new(RECIPE, &format!("t{number}"), evidence, acknowledged.clone());
        // A short outage may end before the circuit opens.
        witness.expected.circuit = if is_down && number == 0 { Circuit::Closed } else { Circuit::Undisturbed };
        witness
    };
    witness::judge(row, &stage, (0..TARGETS).map(witness));
    run
}
