//! Runs a scenario: stage, schedule, witness, judge, report. What breaks off is a report too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use crate::judge::{World, judge};
use crate::report::Report;
use crate::scenario::Scenario;
use crate::scenario::clock::NodeClock;
use crate::scenario::schedule::Schedule;
use crate::scenario::stage::{Mark, Stage};
use crate::scenario::witness::testify;

/// All that is known about a run.
pub struct Story {
    pub scenario: &'static Scenario,
    pub seed: u64,
    pub rounds: u32,
    /// `hms --version`.
    pub version: String,
    pub schedule: Schedule,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub marks: Vec<Mark>,
    /// How the node's clock was set, if the run came so far.
    pub clock: Option<NodeClock>,
    pub world: World,
    /// Why the run could not be carried out to its end.
    pub broke_off: Option<String>,
}

/// Runs it; never panics because of what the node or a partner did.
pub fn run(scenario: &'static Scenario, seed: u64, rounds: u32) -> (Story, Report) {
    let schedule = scenario.schedule(seed, rounds);
    let started = SystemTime::now();
    let mut stage = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let stage = stage.insert(Stage::new(&(scenario.cast)()));
        stage.play(&schedule);
        testify(stage)
    }));
    let (world, broke_off) = match played {
        Ok(world) => (world, None),
        Err(panic) => (World::default(), Some(message(panic.as_ref()))),
    };
    let version = stage.as_ref().map(|stage| stage.node.version()).unwrap_or_default();
    let marks = stage.as_mut().map(|stage| std::mem::take(&mut stage.marks)).unwrap_or_default();
    let clock = stage.as_ref().map(|stage| stage.clock.clone());
    let ended = SystemTime::now();
    let story = Story { scenario, seed, rounds, version, schedule, started, ended, marks, clock, world, broke_off };
    let report = Report::new(&story, judge(&story.world));
    if !report.is_good()
        && let Some(stage) = &stage
    {
        eprintln!("--- the node's log:\n{}\n---", stage.node.log_lines().join("\n"));
    }
    (story, report)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
