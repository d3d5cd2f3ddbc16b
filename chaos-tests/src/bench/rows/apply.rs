//! 10,000 recipes are applied by one command while another recipe delivers: how long it takes, and how long the longest
//! pause of the deliveries is meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::sink::{Sink, wait_for};
use crate::bench::stage::{Clock, Stage};
use crate::bench::wire::Wire;
use crate::bench::witness::{self, Witness};
use crate::bench::{Settings, events, many};

const FEED: &str = "bench";
const RECIPE: &str = "bench.meanwhile.sync";
/// Between two events that are delivered meanwhile.
const PACE: Duration = Duration::from_millis(5);

pub fn run(settings: &Settings) -> Row {
    let mut row = Row::new("apply");
    let count = settings.sized(10_000, 20);
    for turn in 0..settings.turns {
        let run = applied(settings, &mut row, count);
        row.push(turn, "node", run);
    }
    let goal = Goal { reach: 20.0, aim: 5.0 };
    let name = format!("apply of {count} recipes");
    row.measure(Figure::new(&name, "one command", "s", Some(goal)), "node", |run| run.seconds);
    row.measure(Figure::new("longest pause of deliveries meanwhile", "an event each 5 ms", "s", None), "node", |run| {
        run.get("longest pause s")
    });
    row
}

fn applied(settings: &Settings, row: &mut Row, count: usize) -> Run {
    let (stage, sink, others) = (Stage::new(&settings.program), Sink::new(), Sink::of_many());
    let url = sink.url("/events");
    stage.apply(
        RECIPE,
        &format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: partner\n    adapter: rest\n    url: {url}\n    \
             idempotency: honoured\nschedule: on_change\n"
        ),
    );
    let file = |number| {
        let path = stage.node.file(&format!("recipes/n{number}.yaml"), &many::recipe(number, &others, 1));
        path.display().to_string()
    };
    let files: Vec<String> = (0..count).map(file).collect();
    let (done, address) = (AtomicBool::new(false), stage.node.port().address());
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Wire::connect(address);
            for number in 0.. {
                for request in events::requests(FEED, number, 1, 1) {
                    stage.promised(wire.publish(&request));
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(PACE);
            }
        });
        wait_for(&[&sink], 1);
        let words = ["sync", "apply"].into_iter().chain(files.iter().map(String::as_str));
        let sinks = [&sink];
        let clock = Clock::start(Some(stage.process()), &sinks, &[]);
        stage.node.cli(words).ok();
        let run = clock.stop(count);
        done.store(true, Ordering::Relaxed);
        run
    });
    let acknowledged = stage.acknowledged();
    wait_for(&[&sink], acknowledged.len() as u64);
    stage.settled(RECIPE, &[]);
    let pause = longest(&sink.moments());
    witness::judge(row, &stage, [Witness::new(RECIPE, "partner", witness::requests(&sink), acknowledged)]);
    run.with("longest pause s", pause.as_secs_f64())
}

fn longest(moments: &[Instant]) -> Duration {
    moments.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}
