//! The judge: from what publishers were promised, what partners got and what the audit says, whether the courier
//! kept its word. It sees nothing else, least of all the product's own idea of what happened.

mod arrivals;
mod circuits;
mod fates;
mod order;
mod proof;
#[cfg(test)]
mod tests;
mod tickets;
mod world;

use serde::Serialize;

pub use arrivals::{Arrival, arrivals, id_of};
pub use circuits::state_of;
pub use fates::{Fate, fates};
pub use world::{Acknowledged, Circuit, Evidence, Expected, FileCopy, Guarantee, Request, Target, World};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub rule: Rule,
    /// `recipe/target`; `None` for the node as a whole.
    pub target: Option<String>,
    pub what: String,
    /// Where to look: positions, records, keys.
    pub evidence: String,
}

/// Which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Acknowledged and not with the partner, though settled or not in sight.
    Lost,
    /// More often in effect than the guarantee says.
    Twice,
    /// At the partner, and never acknowledged; or a row that is torn or overwritten.
    Invented,
    Order,
    /// A request's key and bytes are the same over all retries.
    Key,
    /// Each delivery has one record, which tells the truth.
    Proof,
    /// Every event is delivered, waiting or a dead letter.
    InSight,
    Circuit,
    Ticket,
}

/// What is wrong; empty when the promises were kept.
pub fn judge(world: &World) -> Vec<Violation> {
    let mut found = proof::sequence(world);
    let violation = |what: &String| Violation {
        rule: Rule::InSight,
        target: None,
        what: what.clone(),
        evidence: "a deadline that only what never ends reaches".to_owned(),
    };
    found.extend(world.unsettled.iter().map(violation));
    for target in &world.targets {
        let arrivals = arrivals(target);
        let fates = fates(world, target);
        found.extend(arrivals::sound(world, target, &arrivals));
        found.extend(fates::kept(world, target, &arrivals, &fates));
        found.extend(order::kept(world, target, &arrivals, &fates));
        found.extend(proof::truthful(world, target));
        found.extend(circuits::lawful(world, target));
        found.extend(tickets::one_per_incident(world, target));
    }
    found
}

impl Target {
    fn violation(&self, rule: Rule, what: impl Into<String>, evidence: impl Into<String>) -> Violation {
        Violation { rule, target: Some(self.full_name()), what: what.into(), evidence: evidence.into() }
    }

    pub fn full_name(&self) -> String {
        format!("{}/{}", self.recipe, self.name)
    }

    /// The records of the audit that are about this target, of one kind.
    pub fn records<'a>(&'a self, world: &'a World, kind: &'a str) -> impl Iterator<Item = &'a serde_json::Value> {
        world.audit.iter().filter(move |record| {
            let name = record["target"].as_str();
            record["kind"] == kind
                && record["recipe"] == self.recipe.as_str()
                && (name == Some(&self.name) || (name.is_some() && name == self.formerly.as_deref()))
        })
    }
}
