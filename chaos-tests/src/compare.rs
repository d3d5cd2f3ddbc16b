//! Half of many targets hang: the throughput of the others, side by side with runs in which nothing is wrong, and with
//! runs in which the first half does not exist. By turns, so that whatever else the machine does is shared. A
//! measurement for a command, not a test: it says something only on a machine that does little else.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::node::Node;
use crate::partners::https::{Answer, HttpPartner};
use crate::wait;

const RECIPE: &str = "many.sync";
const FEED: &str = "many";
/// A run may take as long as a slow machine wants.
const PATIENCE: Duration = Duration::from_secs(900);

/// Deliveries a second to the half of the targets whose partner is well, turn by turn.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub targets: usize,
    pub events: usize,
    /// The other half is well too.
    pub without_faults: Vec<f64>,
    pub while_half_hang: Vec<f64>,
    /// There is no other half: what it costs only to be there.
    pub alone: Vec<f64>,
    /// Of the means.
    pub ratio: f64,
    pub ratio_to_alone: f64,
}

/// What the other half of the targets does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Well,
    Hang,
    Absent,
}

/// All three, by turns.
pub fn half_hang(targets: usize, events: usize, turns: usize) -> Comparison {
    let (mut without_faults, mut while_half_hang, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        without_faults.push(throughput(targets, events, Others::Well));
        while_half_hang.push(throughput(targets, events, Others::Hang));
        alone.push(throughput(targets, events, Others::Absent));
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    let hanging = mean(&while_half_hang);
    let (ratio, ratio_to_alone) = (hanging / mean(&without_faults), hanging / mean(&alone));
    Comparison { targets, events, without_faults, while_half_hang, alone, ratio, ratio_to_alone }
}

fn throughput(targets: usize, events: usize, others: Others) -> f64 {
    let (well, ill) = (HttpPartner::plain(), HttpPartner::plain());
    if others == Others::Hang {
        ill.answer(Answer::Hang { effect: false });
    }
    let mut node = Node::of(Node::newest().expect("the caller has looked"));
    node.start();
    node.apply(&recipe(targets, others, &well, &ill));
    let lines: Vec<String> = (0..events).map(event).collect();
    let started = Instant::now();
    let headers = [("content-type", "application/x-ndjson")];
    node.http().post(&format!("/v1/feeds/{FEED}/events"), &headers, lines.join("\n")).expect(202);
    let wanted = targets / 2 * events;
    let done = wait::within(PATIENCE, || (well.count() >= wanted).then(|| started.elapsed()));
    let took = done.unwrap_or_else(|| panic!("{} of {wanted} deliveries in {PATIENCE:?}", well.count()));
    wanted as f64 / took.as_secs_f64()
}

fn event(number: usize) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"e{number}","source":"/chaos","type":"chaos.event","data":{{"id":"e{number}"}}}}"#
    )
}

fn recipe(targets: usize, others: Others, well: &HttpPartner, ill: &HttpPartner) -> String {
    let target = |number: usize| {
        let partner = if number.is_multiple_of(2) { well } else { ill };
        let url = partner.url(&format!("/t{number}"));
        format!("  - name: t{number}\n    adapter: rest\n    url: {url}\n    concurrency: 1\n    timeout: 5s\n")
    };
    let is_there = |number: &usize| others != Others::Absent || number.is_multiple_of(2);
    let targets: String = (0..targets).filter(is_there).map(target).collect();
    format!("id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n{targets}schedule: on_change\n")
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { targets, events, .. } = self;
        writeln!(f, "{targets} targets, {events} events each; deliveries a second to the half that is well:")?;
        for (what, rates) in
            [("without faults", &self.without_faults), ("others hang", &self.while_half_hang), ("alone", &self.alone)]
        {
            let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:>8.0}")).collect();
            writeln!(f, "  {what:<16}{}", rates.join(""))?;
        }
        writeln!(f, "ratio to the runs without faults {:.2}, to the half alone {:.2}", self.ratio, self.ratio_to_alone)
    }
}
