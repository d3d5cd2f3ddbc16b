//! The report of a run, as JSON (`docs/chaos.md` has its shape) and as the lines that the runner prints.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::judge::{self, Rule, Target, Violation, World};
use crate::runner::Story;
use crate::scenario::stage::Mark;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub rounds: u32,
    pub version: String,
    pub started: String,
    pub duration_ms: u64,
    pub verdict: Verdict,
    /// Why the run broke off, if it did.
    pub broke_off: Option<String>,
    pub violations: Vec<Violation>,
    /// A null control: one of these had to be found.
    pub must_find: Vec<Rule>,
    /// What this node does not have, and the judge therefore could not check.
    pub not_checked: Vec<String>,
    pub targets: Vec<Counts>,
    pub circuits: Vec<Transition>,
    pub tickets: Vec<Ticket>,
    pub faults: Vec<FaultLine>,
    pub schedule: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All promises were kept; or, in a null control, the judge found what was removed.
    Kept,
    Broken,
    /// A null control in which the judge found nothing.
    Unnoticed,
    BrokeOff,
}

/// In events.
#[derive(Debug, Clone, Serialize)]
pub struct Counts {
    pub target: String,
    pub guarantee: &'static str,
    pub acknowledged: usize,
    /// With a receipt.
    pub delivered: usize,
    /// Took effect more than once, whether or not the guarantee allows it.
    pub twice: usize,
    /// Settled or not, the partner does not have them, and they neither wait nor are dead letters.
    pub lost: usize,
    pub waiting: u64,
    pub dead_letters: usize,
    /// Requests or writes, as far as the audit knows them.
    pub attempts: usize,
    pub failed_attempts: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Transition {
    pub target: String,
    pub at: String,
    pub to: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Ticket {
    pub number: u64,
    pub target: String,
    pub cause: String,
    pub opened: String,
    pub resolved: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FaultLine {
    /// Absent: the node.
    pub target: Option<String>,
    pub what: String,
    pub from_ms: u64,
    /// Absent: a moment, or until the end.
    pub until_ms: Option<u64>,
}

impl Report {
    pub fn new(story: &Story, violations: Vec<Violation>) -> Self {
        let world = &story.world;
        let must_find = story.scenario.must_find.to_vec();
        let verdict = match (&story.broke_off, violations.is_empty()) {
            (Some(_), _) => Verdict::BrokeOff,
            _ if !must_find.is_empty() => match violations.iter().any(|found| must_find.contains(&found.rule)) {
                true => Verdict::Kept,
                false => Verdict::Unnoticed,
            },
            (None, true) => Verdict::Kept,
            (None, false) => Verdict::Broken,
        };
        Self {
            scenario: story.scenario.name.to_owned(),
            seed: story.seed,
            rounds: story.rounds,
            version: story.version.clone(),
            started: DateTime::<Utc>::from(story.started).to_rfc3339_opts(SecondsFormat::Millis, true),
            duration_ms: since(story.started, story.ended),
            verdict,
            broke_off: story.broke_off.clone(),
            violations,
            must_find,
            not_checked: world.circuits.is_none().then(|| "circuits".to_owned()).into_iter().collect(),
            targets: world.targets.iter().map(|target| counts(world, target)).collect(),
            circuits: transitions(world),
            tickets: tickets(world),
            faults: story.marks.iter().map(|mark| fault(mark, story.started)).collect(),
            schedule: story.schedule.to_string().lines().map(str::to_owned).collect(),
        }
    }

    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::Kept
    }
}

/// Milliseconds between two moments.
pub fn since(start: SystemTime, at: SystemTime) -> u64 {
    at.duration_since(start).map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

fn counts(world: &World, target: &Target) -> Counts {
    let arrivals = judge::arrivals(target);
    let fates = judge::fates(world, target);
    let times = |id: &str| arrivals.iter().filter(|arrival| arrival.id == id).count();
    let is_dead = |offset: &u64| fates.get(offset).is_some_and(judge::Fate::is_dead);
    let is_lost = |event: &&judge::Acknowledged| {
        let waits = !fates.contains_key(&event.offset) && target.backlog.is_some_and(|waiting| waiting > 0);
        times(&event.id) == 0 && !is_dead(&event.offset) && !waits
    };
    let failed_attempts = target.records(world, "attempt_failed").count();
    let write = |record: &Value| match record["receipt"]["idempotency_key"].as_str() {
        Some(key) => key.to_owned(),
        None => record["time"].to_string(),
    };
    let writes: BTreeSet<String> = target.records(world, "delivered").map(write).collect();
    Counts {
        target: target.full_name(),
        guarantee: target.guarantee.as_str(),
        acknowledged: world.acknowledged.len(),
        delivered: fates.values().filter(|fate| !fate.delivered.is_empty()).count(),
        twice: world.acknowledged.iter().filter(|event| times(&event.id) > 1).count(),
        lost: world.acknowledged.iter().filter(is_lost).count(),
        waiting: target.backlog.unwrap_or_default(),
        dead_letters: fates.values().filter(|fate| fate.is_dead()).count(),
        attempts: failed_attempts + writes.len(),
        failed_attempts,
    }
}

fn text(record: &Value, name: &str) -> String {
    record[name].as_str().unwrap_or_default().to_owned()
}

fn transitions(world: &World) -> Vec<Transition> {
    let of_circuits = world.audit.iter().filter(|record| record["kind"] == "circuit");
    let transition = |record: &Value| Transition {
        target: format!("{}/{}", text(record, "recipe"), text(record, "target")),
        at: text(record, "time"),
        to: judge::state_of(record).to_owned(),
    };
    of_circuits.map(transition).collect()
}

fn tickets(world: &World) -> Vec<Ticket> {
    let mut tickets: Vec<Ticket> = Vec::new();
    for record in &world.audit {
        let number = record["number"].as_u64().unwrap_or_default();
        let known = tickets.iter_mut().find(|ticket| ticket.number == number);
        match (record["kind"].as_str(), known) {
            (Some("ticket_opened"), None) => tickets.push(Ticket {
                number,
                target: format!("{}/{}", text(record, "recipe"), text(record, "target")),
                cause: text(record, "cause"),
                opened: text(record, "time"),
                resolved: None,
            }),
            (Some("ticket_resolved"), Some(ticket)) => ticket.resolved = Some(text(record, "time")),
            _ => {}
        }
    }
    tickets
}

fn fault(mark: &Mark, started: SystemTime) -> FaultLine {
    FaultLine {
        target: mark.target.clone(),
        what: mark.what.clone(),
        from_ms: since(started, mark.from),
        until_ms: mark.until.map(|until| since(started, until)),
    }
}

/// What a person wants to know at once.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.is_good() { "✓" } else { "✗" };
        let seconds = self.duration_ms / 1000;
        writeln!(
            f,
            "{sign} {}  seed {}  rounds {}  {seconds} s  {}",
            self.scenario, self.seed, self.rounds, self.version
        )?;
        writeln!(
            f,
            "  {:<26}{:>13}{:>11}{:>7}{:>6}{:>6}{:>10}",
            "target", "acknowledged", "delivered", "twice", "lost", "dead", "attempts"
        )?;
        for Counts { target, acknowledged, delivered, twice, lost, dead_letters, attempts, .. } in &self.targets {
            writeln!(
                f,
                "  {target:<26}{acknowledged:>13}{delivered:>11}{twice:>7}{lost:>6}{dead_letters:>6}{attempts:>10}"
            )?;
        }
        if let Some(reason) = &self.broke_off {
            writeln!(f, "  broke off: {reason}")?;
        }
        for Violation { rule, target, what, evidence } in &self.violations {
            writeln!(f, "  {rule:?} {}: {what}\n      {evidence}", target.as_deref().unwrap_or("the node"))?;
        }
        if self.verdict == Verdict::Unnoticed {
            writeln!(f, "  the judge found none of {:?}, though it was removed", self.must_find)?;
        }
        Ok(())
    }
}
