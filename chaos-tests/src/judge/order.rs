//! Order: per key, and in files all events in feed order. An earlier event that comes after a later one is wrong
//! also when it is a repetition: it would overwrite what is newer. Excepted are replayed dead letters, and a batch
//! that comes again as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Acknowledged, Arrival, Evidence, Fate, Rule, Target, Violation, World};

pub(super) fn kept(
    world: &World,
    target: &Target,
    arrivals: &[Arrival],
    fates: &BTreeMap<u64, Fate>,
) -> Vec<Violation> {
    let by_id: BTreeMap<&str, &Acknowledged> =
        world.acknowledged.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut latest: BTreeMap<&str, (&Acknowledged, &str)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for arrival in arrivals {
        let Some(event) = by_id.get(arrival.id.as_str()) else { continue };
        if fates.get(&event.offset).is_some_and(Fate::is_replayed) {
            continue;
        }
        let line = match target.evidence {
            Evidence::Requests(_) => event.key.as_str(),
            Evidence::Files(_) => "the feed",
        };
        let is_repetition = !seen.insert(event.offset);
        let (before, unit) = *latest.entry(line).or_insert((event, &arrival.unit));
        let of_one_batch = is_repetition && *unit == arrival.unit && matches!(target.evidence, Evidence::Requests(_));
        if before.offset > event.offset && !of_one_batch {
            let what = format!("{} came after {}, which is later in {line}", event.id, before.id);
            found.push(target.violation(Rule::Order, what, &arrival.evidence));
        } else if before.offset <= event.offset {
            latest.insert(line, (event, &arrival.unit));
        }
    }
    found
}
