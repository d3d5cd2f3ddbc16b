//! Whether an event costs the same in a large node: the node's CPU for publishing and delivering one, with 1 and with
//! 10,000 recipes, with 10⁴ and with 10⁷ events stored; and for publishing one, among 1 and among 10,000 feeds.

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, events, many};

const FEED: &str = "bench";
const RECIPE: &str = "bench.stored.sync";
const GOAL: Goal = Goal { reach: 1.3, aim: 1.1 };
/// Events for each of many recipes, in one request.
const EACH: usize = 100;
/// Recipes and feeds that are looked at when there are too many.
const JUDGED: usize = 50;

pub fn recipes(settings: &Settings) -> Row {
    let large = settings.sized(10_000, 20);
    compared(settings, "work-recipes", "recipes", large, |row, recipes| of_recipes(settings, row, large, recipes))
}

pub fn stored(settings: &Settings) -> Row {
    let (few, large) = (settings.sized(10_000, 1_000), settings.sized(10_000_000, 4_000));
    let mut row = Row::new("work-stored");
    for turn in 0..settings.turns {
        for (of, stored) in [("node", large), ("small", few)] {
            let run = with_stored(settings, &mut row, stored);
            row.push(turn, of, run);
        }
    }
    finished(row, &format!("{large} events stored"), &format!("{few} events stored"))
}

pub fn feeds(settings: &Settings) -> Row {
    let large = settings.sized(10_000, 20);
    compared(settings, "work-feeds", "feeds", large, |row, feeds| among_feeds(settings, row, large, feeds))
}

fn compared(settings: &Settings, name: &str, of: &str, large: usize, run: impl Fn(&mut Row, usize) -> Run) -> Row {
    let mut row = Row::new(name);
    for turn in 0..settings.turns {
        for (side, count) in [("node", large), ("small", 1)] {
            let run = run(&mut row, count);
            row.push(turn, side, run);
        }
    }
    finished(row, &format!("{large} {of}"), &format!("1 of {of}"))
}

fn finished(mut row: Row, large: &str, small: &str) -> Row {
    let figure = Figure::new(&format!("work per event, {large}"), small, "×", Some(GOAL));
    row.compare(figure, "node", "small", |run| run.micros(run.cpu.node));
    row
}

/// The same number of events in the same number of requests, however many recipes they are for.
fn of_recipes(settings: &Settings, row: &mut Row, large: usize, recipes: usize) -> Run {
    let (stage, sink) = (Stage::new(&settings.program), Sink::of_many());
    let each = EACH * large / recipes;
    many::apply(&stage, 0..recipes, &sink, 1);
    let requests: Vec<Vec<u8>> =
        (0..recipes).flat_map(|number| events::requests(&many::feed(number), number * each, each, EACH)).collect();
    let sinks = [&sink];
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    stage.publish(&requests, 4);
    wait_for(&sinks, (each * recipes) as u64);
    // Asking each of many recipes costs the node something: one, and the judge looks whether all are done.
    stage.settled(&many::id(recipes - 1), &[]);
    let run = clock.stop(each * recipes);
    many::drained(&stage, 0..recipes, &sink, 1);
    many::judged(row, &stage, 0..recipes, each, &sink, 1);
    run
}

fn with_stored(settings: &Settings, row: &mut Row, stored: usize) -> Run {
    let (stage, sink) = (Stage::new(&settings.program), Sink::new());
    stage.backlog(FEED, 0, stored);
    stage.forget();
    let recipe = format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: partner\n    adapter: rest\n    url: {}\n    \
         idempotency: honoured\n    batch: {{max_events: 100, format: ndjson}}\nschedule: on_change\n",
        sink.url("/events")
    );
    stage.apply(RECIPE, &recipe);
    let count = settings.sized(200_000, 2_000);
    let requests = events::requests(FEED, stored, count, events::AT_ONCE);
    let sinks = [&sink];
    let clock = Clock::start(Some(stage.process()), &sinks, &[]);
    stage.publish(&requests, 4);
    wait_for(&sinks, count as u64);
    stage.settled(RECIPE, &[]);
    let run = clock.stop(count);
    witness::judge(row, &stage, [Witness::new(RECIPE, "partner", witness::requests(&sink), stage.acknowledged())]);
    run
}

/// Publishing alone, 50 events a request; then some of the feeds are read.
fn among_feeds(settings: &Settings, row: &mut Row, large: usize, feeds: usize) -> Run {
    const AT_ONCE: usize = 50;
    let (stage, sink) = (Stage::new(&settings.program), Sink::of_many());
    let each = AT_ONCE * large / feeds;
    let requests = |part: std::ops::Range<usize>| -> Vec<Vec<u8>> {
        let of_feed = |number| events::requests(&many::feed(number), number * each + part.start, part.len(), AT_ONCE);
        (0..feeds).flat_map(of_feed).collect()
    };
    // The feeds are there before the clock runs.
    stage.publish(&requests(0..1), 4);
    let requests = requests(1..each);
    let clock = Clock::start(Some(stage.process()), &[], &[]);
    stage.publish(&requests, 4);
    let run = clock.stop((each - 1) * feeds);
    let judged = JUDGED.min(feeds);
    many::apply(&stage, 0..judged, &sink, 1);
    wait_for(&[&sink], (judged * each) as u64);
    (0..judged).for_each(|number| stage.settled(&many::id(number), &[]));
    many::judged(row, &stage, 0..judged, each, &sink, 1);
    run
}
