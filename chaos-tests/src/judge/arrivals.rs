//! What took effect at a partner, event by event, read from its files or its log of requests; and whether what
//! stands there is whole, ours to be there, and untouched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Evidence, FileCopy, Guarantee, Request, Rule, Target, Violation, World};

/// One effect of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub id: String,
    /// The request that it came in, by its key; all rows of a file are one.
    pub unit: String,
    pub evidence: String,
}

/// Everything that took effect, in order.
pub fn arrivals(target: &Target) -> Vec<Arrival> {
    match &target.evidence {
        Evidence::Files(copies) => copies.iter().enumerate().flat_map(rows).collect(),
        Evidence::Requests(requests) => effects(requests, target.guarantee == Guarantee::EffectivelyOnce),
    }
}

/// The event that a row, or a body with one event, is about: its `id`, or the first column.
pub fn id_of(row: &str) -> Option<String> {
    let row = row.trim_end_matches('\r');
    if !row.starts_with('{') {
        return row.split(',').next().filter(|id| !id.is_empty()).map(str::to_owned);
    }
    let row: Value = serde_json::from_str(row).ok()?;
    row["id"].as_str().map(str::to_owned)
}

/// The events of a request, in the order of its body.
pub(super) fn ids_of(request: &Request) -> Vec<String> {
    if let Some(event) = &request.event {
        return vec![event.clone()];
    }
    let text = String::from_utf8_lossy(&request.body);
    match serde_json::from_str(&text) {
        Ok(Value::Array(events)) => events.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect(),
        _ => text.lines().filter_map(id_of).collect(),
    }
}

fn rows((number, copy): (usize, &FileCopy)) -> Vec<Arrival> {
    let mut offset = copy.seen;
    let mut found = Vec::new();
    for line in copy.bytes[copy.seen.min(copy.bytes.len())..].split_inclusive(|&byte| byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        if !text.is_empty() && !copy.foreign.iter().any(|foreign| foreign == text) {
            // What can't be read is nobody's event, and named as such.
            let id = id_of(text).unwrap_or_else(|| text.to_owned());
            let unit = copy.path.clone();
            found.push(Arrival { id, unit, evidence: format!("copy {number} of {}, byte {offset}", copy.path) });
        }
        offset += line.len();
    }
    found
}

fn effects(requests: &[Request], honours_keys: bool) -> Vec<Arrival> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (number, request) in requests.iter().enumerate().filter(|(_, request)| request.effect) {
        let is_new = request.key.as_ref().is_none_or(|key| seen.insert(key));
        if is_new || !honours_keys {
            let key = request.key.as_deref().unwrap_or("none");
            let arrival = |id| Arrival { id, unit: key.to_owned(), evidence: format!("request {number}, key {key}") };
            found.extend(ids_of(request).into_iter().map(arrival));
        }
    }
    found
}

/// Nothing invented, torn or overwritten; one key and one body for each request, over all its retries.
pub(super) fn sound(world: &World, target: &Target, arrivals: &[Arrival]) -> Vec<Violation> {
    let known: BTreeSet<&str> = world.acknowledged.iter().map(|event| event.id.as_str()).collect();
    let strangers = arrivals.iter().filter(|arrival| !known.contains(arrival.id.as_str()));
    let invented = |arrival: &Arrival| {
        let what = format!("{:?} is there and was never acknowledged", arrival.id);
        target.violation(Rule::Invented, what, &arrival.evidence)
    };
    let mut found: Vec<Violation> = strangers.map(invented).collect();
    match &target.evidence {
        Evidence::Files(copies) => found.extend(untouched(target, copies)),
        Evidence::Requests(requests) => found.extend(one_key(target, requests)),
    }
    found
}

fn untouched(target: &Target, copies: &[FileCopy]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, copy) in copies.iter().enumerate() {
        let place = format!("copy {number} of {}", copy.path);
        if copy.bytes.last().is_some_and(|&byte| byte != b'\n') {
            found.push(target.violation(Rule::Invented, "the last row is torn: it has no line end", &place));
        }
        let seen = &copy.bytes[..copy.seen.min(copy.bytes.len())];
        let before = copies[..number].iter().filter(|earlier| earlier.path == copy.path);
        if copy.seen > copy.bytes.len()
            || (copy.seen > 0 && !before.clone().any(|earlier| earlier.bytes.starts_with(seen)))
        {
            let what = format!("what stood in the first {} bytes is gone or was overwritten", copy.seen);
            found.push(target.violation(Rule::Invented, what, &place));
        }
        let text = String::from_utf8_lossy(&copy.bytes);
        let gone = copy.foreign.iter().filter(|foreign| !text.lines().any(|line| line == *foreign));
        found.extend(
            gone.map(|row| target.violation(Rule::Invented, format!("somebody else's row {row:?} is gone"), &place)),
        );
    }
    found
}

fn one_key(target: &Target, requests: &[Request]) -> Vec<Violation> {
    let mut bodies: BTreeMap<&str, (usize, &[u8])> = BTreeMap::new();
    let mut found = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let Some(key) = &request.key else {
            found.push(target.violation(Rule::Key, "a request has no idempotency key", format!("request {number}")));
            continue;
        };
        let (first, body) = *bodies.entry(key).or_insert((number, &request.body));
        if body != request.body {
            let place = format!("requests {first} and {number}");
            found.push(target.violation(Rule::Key, format!("key {key} came with two different bodies"), place));
        }
    }
    found
}
