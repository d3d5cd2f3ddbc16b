//! What became of each event: delivered, a dead letter, or waiting, as the audit says; and whether that fits what
//! the partner has. Nothing lost, nothing twice, everything in sight.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Acknowledged, Arrival, Guarantee, Rule, Target, Violation, World};

/// What the audit says of an event and a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// `seq` of the records.
    pub delivered: Vec<u64>,
    pub dead: Vec<u64>,
    pub may_have_arrived: bool,
}

impl Fate {
    /// A dead letter that was not replayed since.
    pub fn is_dead(&self) -> bool {
        self.delivered.is_empty() && !self.dead.is_empty()
    }

    pub fn is_replayed(&self) -> bool {
        !self.delivered.is_empty() && !self.dead.is_empty()
    }
}

/// By offset.
pub fn fates(world: &World, target: &Target) -> BTreeMap<u64, Fate> {
    let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
    let place = |record: &Value| record["offset"].as_u64().zip(record["seq"].as_u64());
    for (offset, seq) in target.records(world, "delivered").filter_map(place) {
        fates.entry(offset).or_default().delivered.push(seq);
    }
    for record in target.records(world, "dead_lettered") {
        if let Some((offset, seq)) = place(record) {
            let fate = fates.entry(offset).or_default();
            fate.dead.push(seq);
            fate.may_have_arrived |= record["may_have_arrived"] == true;
        }
    }
    fates
}

pub(super) fn kept(
    world: &World,
    target: &Target,
    arrivals: &[Arrival],
    fates: &BTreeMap<u64, Fate>,
) -> Vec<Violation> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for arrival in arrivals {
        places.entry(&arrival.id).or_default().push(&arrival.evidence);
    }
    let nothing = Fate::default();
    let mut found = Vec::new();
    let mut waiting = 0;
    for event in &world.acknowledged {
        let fate = fates.get(&event.offset).unwrap_or(&nothing);
        let places = places.get(event.id.as_str()).map_or(&[][..], Vec::as_slice);
        waiting += u64::from(fate.delivered.is_empty() && fate.dead.is_empty());
        found.extend(one(target, event, fate, places));
    }
    if let Some(backlog) = target.backlog
        && backlog != waiting
    {
        let what = format!("{waiting} events have neither a receipt nor a dead letter, and the node says {backlog}");
        found.push(target.violation(Rule::InSight, what, "audit against backlog"));
    }
    found.extend(dead(world, target, fates));
    found
}

fn one(target: &Target, event: &Acknowledged, fate: &Fate, places: &[&str]) -> Option<Violation> {
    let id = &event.id;
    let evidence = || {
        format!(
            "offset {}, receipts {:?}, dead letters {:?}, arrivals {places:?}",
            event.offset, fate.delivered, fate.dead
        )
    };
    let violation = |rule, what: String| Some(target.violation(rule, what, evidence()));
    let may_repeat = target.guarantee == Guarantee::AtLeastOnce || (fate.is_replayed() && fate.may_have_arrived);
    if places.len() > 1 && !may_repeat {
        return violation(Rule::Twice, format!("{id} took effect {} times", places.len()));
    }
    match (fate.delivered.is_empty(), fate.dead.is_empty(), places.is_empty()) {
        (false, _, true) => violation(Rule::Lost, format!("{id} has a receipt and never arrived")),
        (true, true, _) if target.expected.may_wait => None,
        (true, true, true) => violation(Rule::Lost, format!("{id} was acknowledged and never arrived")),
        (true, true, false) => violation(Rule::Proof, format!("{id} arrived and has no receipt")),
        (true, false, false) if !fate.may_have_arrived => {
            violation(Rule::InSight, format!("{id} is a dead letter, and arrived"))
        }
        _ => None,
    }
}

/// The dead letters are those which the scenario made, and no delivered event became one.
fn dead(world: &World, target: &Target, fates: &BTreeMap<u64, Fate>) -> Vec<Violation> {
    let id = |offset: &u64| {
        let event = world.acknowledged.iter().find(|event| event.offset == *offset);
        event.map_or_else(|| format!("offset {offset}"), |event| event.id.clone())
    };
    let dead: BTreeSet<String> =
        fates.iter().filter(|(_, fate)| fate.is_dead()).map(|(offset, _)| id(offset)).collect();
    let mut found = Vec::new();
    for id in dead.difference(&target.expected.dead) {
        found.push(target.violation(Rule::InSight, format!("{id} was made a dead letter"), "nothing refused it"));
    }
    for id in target.expected.dead.difference(&dead) {
        found.push(target.violation(Rule::InSight, format!("{id} is no dead letter"), "the partner refused it"));
    }
    for (offset, fate) in fates {
        if let (Some(delivered), Some(dead)) = (fate.delivered.first(), fate.dead.last())
            && delivered < dead
        {
            let what = format!("{} was delivered, and then made a dead letter", id(offset));
            found.push(target.violation(Rule::InSight, what, format!("records {delivered} and {dead}")));
        }
    }
    found
}
