//! What a backlog costs: one of two partners is down while events are published, in memory and on disk; then it comes
//! back, and each event must be with both once. A measurement for a command, not a test.
//!
//! There are too many events for the judge: a tally per event takes its place.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::node::Node;
use crate::partners::https::{Answer, HttpPartner};
use crate::wait;

const RECIPE: &str = "backlog.sync";
const FEED: &str = "backlog";
/// Events in a request, of a publisher's and to a partner.
const AT_ONCE: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Memory in MiB, as the system sees it (RSS).
#[derive(Debug, Serialize)]
pub struct Cost {
    pub events: usize,
    pub published_a_second: f64,
    pub drained_a_second: f64,
    /// When the recipe was applied and nothing was published.
    pub memory_before: u64,
    /// In steps of a tenth of the backlog.
    pub memory_as_it_grows: Vec<u64>,
    /// After a restart with the whole backlog.
    pub memory_after_restart: u64,
    pub memory_most_as_it_drains: u64,
    pub disk_with_backlog: u64,
    /// Of the two partners: events that came other than once. Both must be empty of them.
    pub well: Tally,
    pub was_down: Tally,
    pub delivered_records: usize,
}

/// What came to a partner.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Tally {
    pub once: usize,
    pub missing: usize,
    pub more_often: usize,
}

impl Cost {
    /// Every event came to both once, and has its record for each.
    pub fn is_good(&self) -> bool {
        [&self.well, &self.was_down].iter().all(|tally| tally.once == self.events)
            && self.delivered_records == 2 * self.events
    }
}

pub fn measure(events: usize) -> Cost {
    let (well, mut ill) = (HttpPartner::plain(), HttpPartner::plain());
    let counts = [&well, &ill].map(|partner| counted(partner, events));
    ill.down();
    let mut node = Node::of(Node::newest().expect("the caller has looked"));
    node.settings("limits: {disk: 200GiB, feed_disk: 100GiB}\n").start();
    node.apply(&recipe(&well, &ill));
    let memory_before = memory(&node);
    let mut memory_as_it_grows = Vec::new();
    let started = Instant::now();
    for first in (0..events).step_by(AT_ONCE) {
        publish(&node, first, events.min(first + AT_ONCE));
        if (first / AT_ONCE).is_multiple_of((events / AT_ONCE / 10).max(1)) {
            memory_as_it_grows.push(memory(&node));
        }
    }
    let published_a_second = events as f64 / started.elapsed().as_secs_f64();
    wait_for(&node, "well");
    memory_as_it_grows.push(memory(&node));
    let disk_with_backlog = size(&node.data_dir()) >> 20;
    node.terminate();
    node.start();
    let memory_after_restart = memory(&node);
    let started = Instant::now();
    ill.up();
    let memory_most_as_it_drains = wait_for(&node, "was_down");
    let drained_a_second = events as f64 / started.elapsed().as_secs_f64();
    let [well, was_down] = counts.map(|counts| tally(&counts));
    Cost {
        events,
        published_a_second,
        drained_a_second,
        memory_before,
        memory_as_it_grows,
        memory_after_restart,
        memory_most_as_it_drains,
        disk_with_backlog,
        well,
        was_down,
        delivered_records: receipts(&node),
    }
}

/// The partner counts how often each event came, and keeps nothing else.
fn counted(partner: &HttpPartner, events: usize) -> Arc<Mutex<Vec<u8>>> {
    let counts = Arc::new(Mutex::new(vec![0u8; events]));
    let mine = counts.clone();
    partner.forgets();
    partner.rule(move |request| {
        let mut counts = mine.lock().expect("no holder of this lock panics");
        for line in request.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).expect("the recipe says ndjson");
            let number = event["n"].as_u64().and_then(|number| usize::try_from(number).ok());
            let count = number.and_then(|number| counts.get_mut(number)).expect("an event that was published");
            *count = count.saturating_add(1);
        }
        Answer::Status(200)
    });
    counts
}

fn publish(node: &Node, from: usize, until: usize) {
    let event = |number| {
        format!(
            r#"{{"specversion":"1.0","id":"e{number}","source":"/chaos","type":"chaos.event","data":{{"n":{number},"text":"a grant for the repair of a bridge, and what it costs"}}}}"#
        )
    };
    let lines: Vec<String> = (from..until).map(event).collect();
    let headers = [("content-type", "application/x-ndjson")];
    wait::until("the events to be taken", || {
        let answer = node.http().post(&format!("/v1/feeds/{FEED}/events"), &headers, lines.join("\n"));
        // Too much at once is asked again, anything else is an error.
        (answer.status != 429 && answer.status != 503).then(|| answer.expect(202))
    });
}

/// Until nothing waits for the target; the most memory that was seen meanwhile.
fn wait_for(node: &Node, target: &str) -> u64 {
    let mut most = 0;
    let done = wait::within(PATIENCE, || {
        most = most.max(memory(node));
        let backlog = node.target(RECIPE, target)["backlog"].as_u64();
        if backlog != Some(0) {
            // Seldom, so that asking costs nothing.
            std::thread::sleep(Duration::from_millis(100));
        }
        (backlog == Some(0)).then_some(most)
    });
    done.unwrap_or_else(|| panic!("{target} still waits after {PATIENCE:?}"))
}

fn memory(node: &Node) -> u64 {
    let process = node.process().expect("the node is up");
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the node is up");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |file| file.len()) };
    entries.map_while(Result::ok).map(|entry| size(&entry.path())).sum()
}

fn tally(counts: &Mutex<Vec<u8>>) -> Tally {
    let counts = counts.lock().expect("no holder of this lock panics");
    let times = |wanted: fn(u8) -> bool| counts.iter().filter(|&&count| wanted(count)).count();
    Tally { once: times(|count| count == 1), missing: times(|count| count == 0), more_often: times(|count| count > 1) }
}

/// `delivered` records in the audit, counted page by page.
fn receipts(node: &Node) -> usize {
    let (mut from, mut found) = (0, 0);
    loop {
        let page = node.http().get(&format!("/v1/audit?from={from}&limit=1000")).expect(200).text();
        if page.is_empty() {
            return found;
        }
        from += page.lines().count();
        found += page.lines().filter(|line| line.contains(r#""kind":"delivered""#)).count();
    }
}

fn recipe(well: &HttpPartner, ill: &HttpPartner) -> String {
    let target = |(name, partner): (&str, &HttpPartner)| {
        let url = partner.url("/events");
        let batch = format!("batch: {{max_events: {AT_ONCE}, format: ndjson}}");
        let circuit = "circuit: {failures: 3, open_for: 1s, max_open_for: 5s}";
        format!(
            "  - name: {name}\n    adapter: rest\n    url: {url}\n    idempotency: honoured\n    {batch}\n    {circuit}\n"
        )
    };
    let targets: String = [("well", well), ("was_down", ill)].map(target).concat();
    format!("id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n{targets}schedule: on_change\n")
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { events, published_a_second, drained_a_second, .. } = self;
        writeln!(f, "{events} events while one of two partners was down")?;
        writeln!(f, "  published {published_a_second:.0}/s, drained {drained_a_second:.0}/s")?;
        writeln!(f, "  memory in MiB: {} before, then {:?}", self.memory_before, self.memory_as_it_grows)?;
        let (restart, most) = (self.memory_after_restart, self.memory_most_as_it_drains);
        writeln!(f, "    {restart} after a restart, {most} at most as it drains")?;
        writeln!(f, "  disk with the backlog: {} MiB", self.disk_with_backlog)?;
        for (name, Tally { once, missing, more_often }) in [("well", &self.well), ("was down", &self.was_down)] {
            writeln!(f, "  {name}: {once} once, {missing} missing, {more_often} more than once")?;
        }
        writeln!(f, "  {} delivered records", self.delivered_records)
    }
}
