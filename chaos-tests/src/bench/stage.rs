//! The node of a run: the released program in a process of its own, what it was given, and what became of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cpu::{self, Cpu};
use super::events;
use super::results::Run;
use super::sink::Sink;
use super::wire::{Promised, Wire};
use crate::judge::Acknowledged;
use crate::node::Node;

/// A run may take as long as a slow machine wants, as long as something moves.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Stage {
    pub node: Node,
    /// What publishers were promised, in the order of their connections.
    answers: Mutex<Vec<Vec<u8>>>,
}

impl Stage {
    /// A node that is up. It has room for everything that a benchmark publishes.
    pub fn new(program: &Path) -> Self {
        Self::with(program, |_| String::new())
    }

    /// With more lines of `hms.yaml`.
    pub fn with(program: &Path, settings: impl FnOnce(&Node) -> String) -> Self {
        let mut node = Node::of(program.to_owned());
        let more = settings(&node);
        node.settings("limits: {disk: 200GiB, feed_disk: 100GiB}\n").settings(&more).start();
        Self { node, answers: Mutex::default() }
    }

    /// Publishes the requests over so many connections at once, each its share; returns when all are acknowledged.
    pub fn publish(&self, requests: &[Vec<u8>], connections: usize) {
        let address = self.node.port().address();
        let share = requests.len().div_ceil(connections).max(1);
        std::thread::scope(|scope| {
            for share in requests.chunks(share) {
                scope.spawn(move || {
                    let mut wire = Wire::connect(address);
                    share.iter().for_each(|request| self.promised(wire.publish(request)));
                });
            }
        });
    }

    /// What a publisher was promised counts.
    pub fn promised(&self, answer: Vec<u8>) {
        self.answers.lock().expect("no holder of this lock panics").push(answer);
    }

    /// A backlog of so many events, published at leisure.
    pub fn backlog(&self, feed: &str, first: usize, count: usize) {
        // By parts, so that not all bytes of a large one are in memory at once.
        const PART: usize = 100_000;
        for from in (first..first + count).step_by(PART) {
            let part = PART.min(first + count - from);
            self.publish(&events::requests(feed, from, part, events::AT_ONCE), 2);
        }
    }

    /// What was promised so far is nobody's to judge.
    pub fn forget(&self) {
        self.answers.lock().expect("no holder of this lock panics").clear();
    }

    /// As the publishers were promised.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        let answers = self.answers.lock().expect("no holder of this lock panics");
        let read = |answer: &Vec<u8>| -> Promised { serde_json::from_slice(answer).expect("a 202 says what it took") };
        let event =
            |event: super::wire::Event| Acknowledged { key: event.id.clone(), id: event.id, offset: event.offset };
        answers.iter().flat_map(|answer| read(answer).events).map(event).collect()
    }

    pub fn apply(&self, id: &str, recipe: &str) {
        let headers = [("content-type", "application/yaml")];
        let path = format!("/v1/recipes/{id}");
        self.node.http().send("PUT", &path, &headers, recipe.into()).expect("the node answers").expect(200);
    }

    /// Until nothing waits for these targets of a recipe (for all, if none is named): receipts, audit and checkpoints
    /// are on disk then.
    pub fn settled(&self, recipe: &str, targets: &[&str]) {
        let (client, path, start) = (self.node.http(), format!("/v1/recipes/{recipe}"), Instant::now());
        loop {
            let answer: Value = client.get(&path).expect(200).json();
            let mut waiting = answer["targets"].as_array().expect("a recipe has targets").iter().filter(|target| {
                let name = target["target"].as_str().unwrap_or_default();
                (targets.is_empty() || targets.contains(&name)) && target["backlog"] != 0
            });
            let Some(first) = waiting.next() else { return };
            assert!(start.elapsed() < PATIENCE, "still waiting after {PATIENCE:?}: {first}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Adds what stands on the disk for each event of the run.
    pub fn kept(&self, run: Run) -> Run {
        let parts = [("events", "events B"), ("audit", "audit B"), ("work", "work B")];
        parts.into_iter().fold(run, |run, (folder, name)| {
            let bytes = size(&self.node.data_dir().join(folder)) as f64 / run.events as f64;
            run.with(name, bytes)
        })
    }

    pub fn process(&self) -> u32 {
        self.node.process().expect("the node is up")
    }

    /// A file beside the node's data, on the same disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.node.path(name)
    }
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |file| file.len()) };
    entries.map_while(Result::ok).map(|entry| size(&entry.path())).sum()
}

/// Measures what happens between two moments: the time, and whose CPU it took.
pub struct Clock<'a> {
    node: Option<u32>,
    sinks: &'a [&'a Sink],
    /// Receivers that are processes, with their descendants.
    receivers: Vec<u32>,
    before: Cpu,
    start: Instant,
}

impl<'a> Clock<'a> {
    pub fn start(node: Option<u32>, sinks: &'a [&'a Sink], receivers: &[u32]) -> Self {
        let mut clock =
            Self { node, sinks, receivers: receivers.to_vec(), before: Cpu::default(), start: Instant::now() };
        clock.before = clock.cpu();
        clock.start = Instant::now();
        clock
    }

    pub fn stop(&self, events: usize) -> Run {
        let seconds = self.start.elapsed().as_secs_f64();
        let (now, before) = (self.cpu(), self.before);
        let cpu = Cpu {
            node: now.node - before.node,
            publisher: now.publisher - before.publisher,
            receiver: now.receiver - before.receiver,
        };
        Run { events, seconds, cpu, ..Run::default() }
    }

    fn cpu(&self) -> Cpu {
        let sinks: f64 = self.sinks.iter().map(|sink| sink.cpu()).sum();
        let processes: f64 = self.receivers.iter().map(|&process| cpu::of_tree(process)).sum();
        let publisher = cpu::of_self() + cpu::of_ended_children() - sinks;
        Cpu { node: self.node.map_or(0.0, cpu::of), publisher, receiver: sinks + processes }
    }
}
