//! The stage of a run: the real node in a process of its own, its partners, a publisher, and somebody who answers
//! tickets. It carries out the steps of a schedule and notes when each happened.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::actor::{Actor, Role};
use super::clock::NodeClock;
use super::disk::SmallDisk;
use super::publisher::Publisher;
use super::schedule::{Schedule, Step};
use crate::judge::{self, Target};
use crate::node::Node;
use crate::power;
use crate::process::Beside;
use crate::wait;

pub const RECIPE: &str = "chaos.sync";
pub const FEED: &str = "chaos";

/// Who plays, and by which rules.
#[derive(Clone)]
pub struct Cast {
    pub roles: Vec<Role>,
    /// More lines for `source` in the recipe.
    pub source: &'static str,
    /// More lines of `hms.yaml`.
    pub settings: &'static str,
    /// Needs the program with fault points.
    pub faulty: bool,
    /// The node's data is on a disk of so many bytes.
    pub disk: Option<u64>,
}

impl Cast {
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        Self { roles: roles.into_iter().collect(), source: "", settings: "", faulty: false, disk: None }
    }

    pub fn with_fault_points(self) -> Self {
        Self { faulty: true, ..self }
    }
}

/// Something that was done to the run, and for how long.
#[derive(Debug, Clone)]
pub struct Mark {
    /// `None`: to the node.
    pub target: Option<String>,
    pub what: String,
    pub from: SystemTime,
    /// `None`: a moment, or until the end.
    pub until: Option<SystemTime>,
    pub is_moment: bool,
}

pub struct Stage {
    /// It goes before the node's home does.
    pub disk: Option<SmallDisk>,
    pub node: Node,
    pub actors: Vec<Actor>,
    pub publisher: Publisher,
    pub marks: Vec<Mark>,
    pub clock: NodeClock,
    /// A replay that goes on beside the schedule.
    replay: Option<Beside>,
    /// What did not come to an end when it had to.
    pub unsettled: Vec<String>,
    /// Of the recipe's source.
    pub fields: &'static str,
    /// More lines for the recipe's source.
    source: &'static str,
}

impl Stage {
    /// Everything is up, and the recipe runs.
    pub fn new(cast: &Cast) -> Self {
        let mut node = if cast.faulty {
            Node::faulty()
        } else {
            Node::of(Node::newest().expect("the runner looks for the program first"))
        };
        let actors: Vec<Actor> = cast.roles.iter().map(|role| Actor::new(role.clone(), &node)).collect();
        introduce(&mut node, &actors);
        let disk = cast.disk.map(|bytes| SmallDisk::mount(&node.data_dir(), bytes));
        let clock = NodeClock::of(&mut node);
        node.settings(cast.settings).start();
        let publisher = Publisher::new(node.http(), FEED);
        let (fields, source) = ("[id, key, n]", cast.source);
        let (marks, unsettled, replay) = (Vec::new(), Vec::new(), None);
        let stage = Self { disk, node, actors, publisher, marks, clock, replay, unsettled, fields, source };
        stage.node.apply(&stage.recipe());
        stage
    }

    /// The recipe for all partners as they are.
    pub fn recipe(&self) -> String {
        let Self { fields, source, .. } = self;
        let targets: String = self.actors.iter().map(Actor::yaml).collect();
        format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: {fields}\n  key: key\n{source}targets:\n{targets}schedule: on_change\n"
        )
    }

    pub fn play(&mut self, schedule: &Schedule) {
        schedule.0.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(count) => self.publisher.publish(*count),
            Step::Acknowledged => {
                wait::until("the publisher's receipts", || self.publisher.is_done().then_some(()));
            }
            Step::Wait(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
            Step::Kill => {
                self.begin(None, "killed", false);
                self.node.kill9();
            }
            Step::PowerCut => {
                self.begin(None, "no power", false);
                self.node.kill9();
                power::cut(&self.node.data_dir());
            }
            Step::Start => {
                self.node.start();
                self.end(None);
            }
            Step::StartWith(point) => {
                self.node.start_to_die_at(point);
                self.end(None);
            }
            Step::Died => {
                self.publish_until_death();
                self.begin(None, "died", false);
            }
            Step::Fault(target, fault) => {
                self.end(Some(target));
                self.begin(Some(target), &fault.to_string(), false);
                self.actor(target).fault(fault);
            }
            Step::Heal(target) => {
                self.actor(target).heal();
                self.end(Some(target));
            }
            Step::Hand(target, hand) => {
                self.begin(Some(target), &hand.to_string(), true);
                self.actor(target).hand(hand);
            }
            Step::Opened(target) => {
                wait::until("a circuit to open", || {
                    (self.node.target(RECIPE, target)["state"] != "closed").then_some(())
                });
            }
            Step::Run => drop(self.node.cli(["sync", "run", RECIPE, "--no-wait"])),
            Step::Replay(rate) => {
                self.begin(None, &step.to_string(), true);
                self.replay = Some(self.node.cli_beside(["dlq", "replay", "--all", "--rate", &format!("{rate}/s")]));
            }
            Step::ReplayAll => {
                self.begin(None, &step.to_string(), true);
                self.replay_all();
            }
            Step::Settle => self.settle(),
            Step::ClockAt(minutes) => {
                self.begin(None, &step.to_string(), true);
                self.clock.set(&self.node, *minutes);
            }
            Step::Call(what, call) => {
                self.begin(None, what, true);
                call(self);
            }
        }
    }

    /// A fault point is passed at some event: there is always another.
    fn publish_until_death(&mut self) {
        let mut polls = 0;
        wait::until("the node to die at its fault point", || {
            polls += 1;
            if polls % 5 == 0 {
                self.publisher.publish(1);
            }
            (!self.node.is_running()).then_some(())
        });
        self.node.wait_until_dead();
    }

    pub fn actor(&mut self, name: &str) -> &mut Actor {
        let is_it = |actor: &&mut Actor| actor.role.name == name || actor.role.formerly.as_deref() == Some(name);
        let found = self.actors.iter_mut().find(is_it);
        found.unwrap_or_else(|| panic!("the scenario has no target {name}"))
    }

    fn begin(&mut self, target: Option<&str>, what: &str, is_moment: bool) {
        let (target, what) = (target.map(str::to_owned), what.to_owned());
        self.marks.push(Mark { target, what, from: SystemTime::now(), until: None, is_moment });
    }

    fn end(&mut self, target: Option<&str>) {
        let open = |mark: &&mut Mark| mark.target.as_deref() == target && mark.until.is_none() && !mark.is_moment;
        if let Some(mark) = self.marks.iter_mut().rev().find(open) {
            mark.until = Some(SystemTime::now());
        }
    }

    /// Until nothing waits. Whoever is at the desk answers doubt, and asks for a run when a back-off is long.
    fn settle(&mut self) {
        let mut asked = SystemTime::UNIX_EPOCH;
        let settled = wait::within(wait::DEADLINE, || {
            assert!(self.node.is_running(), "the node died by itself:\n{}", self.node.log_lines().join("\n"));
            if !self.publisher.is_done() {
                return None;
            }
            if self.backlogs().values().all(|&waiting| waiting == 0) {
                return Some(());
            }
            if asked.elapsed().is_ok_and(|since| since > Duration::from_millis(500)) {
                self.answer_doubts();
                self.step(&Step::Run);
                asked = SystemTime::now();
            }
            None
        });
        if settled.is_none() {
            let what = if self.publisher.is_done() { "something still waits" } else { "publishers still wait" };
            self.begin(None, what, true);
            self.unsettled.push(format!("{what} after {:?} in which nothing was wrong", wait::DEADLINE));
        }
    }

    /// What an operator does whose replay was interrupted: the same again.
    fn replay_all(&mut self) {
        wait::until("the last dead letter to go", || {
            drop(self.node.cli(["dlq", "replay", "--all"]));
            self.dead_letters().is_empty().then_some(())
        });
    }

    pub fn dead_letters(&self) -> Vec<Value> {
        let answer = self.node.http().get("/v1/dead-letters").expect(200).json();
        answer["dead_letters"].as_array().cloned().unwrap_or_default()
    }

    /// Events that wait, by target, as the node says.
    pub fn backlogs(&self) -> BTreeMap<String, u64> {
        let answer = self.node.http().get(&format!("/v1/recipes/{RECIPE}"));
        if answer.status == 404 {
            // The scenario has deleted it.
            return BTreeMap::new();
        }
        let answer = answer.expect(200).json();
        let targets = answer["targets"].as_array().cloned().unwrap_or_default();
        let backlog = |target: &Value| Some((target["target"].as_str()?.to_owned(), target["backlog"].as_u64()?));
        targets.iter().filter_map(backlog).collect()
    }

    /// Somebody goes and looks whether the rows in doubt arrived, and says so.
    fn answer_doubts(&mut self) {
        let doubts = self.node.open_tickets().into_iter().filter(|ticket| ticket["cause"] == "doubt");
        for ticket in doubts.collect::<Vec<_>>() {
            let name = ticket["target"].as_str().unwrap_or_default().to_owned();
            let arrived = self.oldest_without_receipt_arrived(&name);
            let (action, note) = if arrived { ("resolve", Some("the rows are there")) } else { ("retry", None) };
            self.begin(Some(&name), &format!("doubt answered: {action}"), true);
            // It may be answered by the time: then there is nothing to do.
            self.node.answer_ticket(ticket["number"].as_u64().unwrap_or_default(), action, note);
        }
    }

    fn oldest_without_receipt_arrived(&mut self, name: &str) -> bool {
        let settled: Vec<Option<u64>> = self
            .node
            .audit()
            .iter()
            .filter(|record| {
                record["target"] == name && (record["kind"] == "delivered" || record["kind"] == "dead_lettered")
            })
            .map(|record| record["offset"].as_u64())
            .collect();
        let waiting = self.publisher.acknowledged().into_iter().find(|event| !settled.contains(&Some(event.offset)));
        let there = judge::arrivals(&self.target(name));
        waiting.is_some_and(|event| there.iter().any(|arrival| arrival.id == event.id))
    }

    /// A target as the judge sees it.
    pub fn target(&self, name: &str) -> Target {
        let actor = self.actors.iter().find(|actor| actor.role.name == name).expect("a target of the scenario");
        let target = Target::new(RECIPE, name, actor.guarantee(), actor.evidence());
        Target { expected: actor.role.expected.clone(), formerly: actor.role.formerly.clone(), ..target }
    }
}

fn introduce(node: &mut Node, actors: &[Actor]) {
    let introductions: Vec<_> = actors.iter().filter_map(Actor::introduction).collect();
    let known: String = introductions.iter().map(|(_, known, _)| known.as_str()).collect();
    let connect: String = introductions.iter().map(|(connect, ..)| connect.as_str()).collect();
    if !introductions.is_empty() {
        let known = node.file("known_hosts", &known).display().to_string();
        let secrets = node.path("secrets").display().to_string();
        node.settings(&format!("connect_to:\n{connect}known_hosts: {known}\nsecrets_dir: {secrets}\n"));
    }
    for (_, _, (name, key)) in &introductions {
        node.file(name, key);
    }
}
