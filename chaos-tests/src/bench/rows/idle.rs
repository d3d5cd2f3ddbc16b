//! What a recipe with two targets costs in memory while it has nothing to do: from 10 to 50,000 of them.

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::Sink;
use crate::bench::stage::{Clock, Stage};
use crate::bench::{Settings, cpu, many};

const FEW: usize = 10;
/// Recipes that are given something to do at the end, so that there is something to judge.
const WOKEN: usize = 50;
const EVENTS: usize = 20;
const KIB: f64 = 1024.0;

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("idle");
    let count = settings.sized(50_000, 3 * FEW);
    for turn in 0..settings.turns {
        let run = resting(settings, &mut row, count);
        row.push(turn, "node", run);
    }
    let goal = Goal { reach: 16.0, aim: 8.0 };
    row.measure(Figure::new("idle recipe, 2 targets", "10 of them", "KiB", Some(goal)), "node", |run| {
        run.get("KiB a recipe")
    });
    row.measure(Figure::new("idle recipe, after a restart", "10 of them", "KiB", None), "node", |run| {
        run.get("KiB a recipe after a restart")
    });
    row
}

fn resting(settings: &Settings, row: &mut Row, count: usize) -> Run {
    let (mut stage, sink) = (Stage::new(&settings.program), Sink::of_many());
    many::apply(&stage, 0..FEW, &sink, 2);
    stage.node.restart();
    let few = cpu::memory(stage.process());
    let clock = Clock::start(Some(stage.process()), &[], &[]);
    many::apply(&stage, FEW..count, &sink, 2);
    let run = clock.stop(count - FEW);
    let each = |stage: &Stage| (cpu::memory(stage.process()) as f64 - few as f64) / (count - FEW) as f64 / KIB;
    let run = run.with("KiB a recipe", each(&stage));
    stage.node.restart();
    let run = run.with("KiB a recipe after a restart", each(&stage));
    let woken = WOKEN.min(count);
    many::publish(&stage, 0..woken, EVENTS);
    many::drained(&stage, 0..woken, &sink, 2);
    many::judged(row, &stage, 0..woken, EVENTS, &sink, 2);
    run
}
