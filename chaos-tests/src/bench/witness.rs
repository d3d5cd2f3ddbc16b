//! Has every run judged by the judge of the chaos tests: nothing lost, nothing twice, one true receipt for each event.
//! So that ten million records fit into memory, targets are judged one by one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::results::Row;
use super::sink::Sink;
use super::stage::Stage;
use crate::judge::{self, Acknowledged, Evidence, Expected, Guarantee, Rule, Target, World};

/// A target that is to be judged.
pub struct Witness {
    pub recipe: String,
    pub target: String,
    pub guarantee: Guarantee,
    pub evidence: Evidence,
    /// What was acknowledged on its feed, from where it began.
    pub acknowledged: Vec<Acknowledged>,
    pub expected: Expected,
}

impl Witness {
    pub fn new(recipe: &str, target: &str, evidence: Evidence, acknowledged: Vec<Acknowledged>) -> Self {
        let guarantee = match evidence {
            Evidence::Files(_) => Guarantee::ExactlyOnce,
            Evidence::Requests(_) => Guarantee::EffectivelyOnce,
        };
        let (recipe, target) = (recipe.to_owned(), target.to_owned());
        Self { recipe, target, guarantee, evidence, acknowledged, expected: Expected::default() }
    }
}

/// What came to a sink that has one target.
pub fn requests(sink: &Sink) -> Evidence {
    Evidence::Requests(sink.arrivals().into_iter().map(|arrival| arrival.request).collect())
}

/// What came to a sink, by the path of its urls.
pub fn requests_by_path(sink: &Sink) -> BTreeMap<String, Evidence> {
    let mut by_path: BTreeMap<String, Vec<judge::Request>> = BTreeMap::new();
    for arrival in sink.arrivals() {
        by_path.entry(arrival.path).or_default().push(arrival.request);
    }
    by_path.into_iter().map(|(path, requests)| (path, Evidence::Requests(requests))).collect()
}

/// Judges the run; what is wrong goes into the row. In a row's first run the judge itself is tried.
pub fn judge(row: &mut Row, stage: &Stage, witnesses: impl IntoIterator<Item = Witness>) {
    let mut audit = audit(stage);
    let circuits = stage.node.http().get("/v1/circuits").expect(200).json();
    let circuits: Vec<Value> = circuits["circuits"].as_array().cloned().unwrap_or_default();
    for witness in witnesses {
        let name = format!("{}/{}", witness.recipe, witness.target);
        let shown = circuits.iter().find(|circuit| {
            circuit["recipe"] == witness.recipe.as_str() && circuit["target"] == witness.target.as_str()
        });
        let mut target = Target::new(&witness.recipe, &witness.target, witness.guarantee, witness.evidence);
        target.backlog = shown.and_then(|circuit| circuit["backlog"].as_u64());
        target.expected = witness.expected;
        let mut world = World {
            acknowledged: witness.acknowledged,
            targets: vec![target],
            audit: audit.remove(&name).map(records).unwrap_or_default(),
            circuits: Some(shown.into_iter().cloned().collect()),
            unsettled: Vec::new(),
        };
        let found = judge::judge(&world);
        let say = |violation: judge::Violation| format!("{:?} {name}: {}", violation.rule, violation.what);
        row.violations.extend(found.into_iter().take(20).map(say));
        if !row.judge_notices {
            row.judge_notices = notices(&mut world);
        }
    }
}

/// The null control: the same world with one event missing at the partner, and with one twice.
fn notices(world: &mut World) -> bool {
    let finds = |world: &World, rule: Rule| judge::judge(world).iter().any(|found| found.rule == rule);
    let evidence = world.targets[0].evidence.clone();
    let mut bent = |bend: fn(&mut Evidence), rule| {
        bend(&mut world.targets[0].evidence);
        let found = finds(world, rule);
        world.targets[0].evidence = evidence.clone();
        found
    };
    bent(lose_one, Rule::Lost) && bent(double_one, Rule::Twice)
}

fn lose_one(evidence: &mut Evidence) {
    match evidence {
        Evidence::Requests(requests) => drop(requests.pop()),
        Evidence::Files(copies) => {
            if let Some(copy) = copies.last_mut() {
                copy.bytes.truncate(start_of_last(&copy.bytes));
            }
        }
    }
}

fn double_one(evidence: &mut Evidence) {
    match evidence {
        Evidence::Requests(requests) => {
            let again =
                requests.last().cloned().map(|request| judge::Request { key: Some("another".to_owned()), ..request });
            requests.extend(again);
        }
        Evidence::Files(copies) => {
            if let Some(copy) = copies.last_mut() {
                copy.bytes.extend_from_within(start_of_last(&copy.bytes)..);
            }
        }
    }
}

/// Of the last line.
fn start_of_last(bytes: &[u8]) -> usize {
    let without_end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    without_end.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// A record's line, as far as it is sorted by.
#[derive(Deserialize)]
struct Label {
    seq: u64,
    recipe: Option<String>,
    target: Option<String>,
}

/// All records, by the target that they are of. They stay text until their target is judged: there are millions.
fn audit(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let (client, mut next) = (stage.node.http(), 0);
    let mut by_target: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let page = client.get(&format!("/v1/audit?from={next}&limit=20000")).expect(200).text();
        if page.is_empty() {
            return by_target;
        }
        for line in page.lines() {
            let label: Label = serde_json::from_str(line).expect("a record is JSON");
            assert_eq!(label.seq, next, "a gap in the audit: {line}");
            next += 1;
            if let (Some(recipe), Some(target)) = (label.recipe, label.target) {
                by_target.entry(format!("{recipe}/{target}")).or_default().push(line.to_owned());
            }
        }
    }
}

/// Numbered as the judge of one target wants them.
fn records(lines: Vec<String>) -> Vec<Value> {
    let record = |(number, line): (usize, String)| {
        let mut record: Value = serde_json::from_str(&line).expect("a record is JSON");
        record["seq"] = number.into();
        if let Some(receipt) = record["receipt"].as_object_mut() {
            // Long, and not the judge's affair.
            receipt.remove("url");
            receipt.remove("response_sha256");
        }
        record
    };
    lines.into_iter().enumerate().map(record).collect()
}
