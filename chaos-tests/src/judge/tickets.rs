//! Tickets: an incident is one target and one cause, with at most one open ticket; it closes when the incident is
//! over, and no ticket is opened for nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Target, Violation, World};

pub(super) fn one_per_incident(world: &World, target: &Target) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut causes: BTreeMap<u64, &str> = BTreeMap::new();
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
    let ours = |kind| target.records(world, kind).map(move |record| (record["seq"].as_u64(), kind, record));
    let mut records: Vec<_> = ours("ticket_opened").chain(ours("ticket_resolved")).collect();
    records.sort_by_key(|(seq, ..)| *seq);
    for (_, kind, record) in records {
        let number = record["number"].as_u64().unwrap_or(u64::MAX);
        if kind == "ticket_opened" {
            let cause = record["cause"].as_str().unwrap_or("unnamed");
            let is_update = causes.insert(number, cause).is_some();
            *opened.entry(cause).or_default() += usize::from(!is_update);
            if let Some(other) = open.insert(cause, number)
                && other != number
            {
                let what = format!("two {cause} tickets are open at once: {other} and {number}");
                found.push(target.violation(Rule::Ticket, what, record.to_string()));
            }
        } else if causes.get(&number).and_then(|cause| open.remove(cause)).is_none() {
            let what = format!("ticket {number} was closed and was not open");
            found.push(target.violation(Rule::Ticket, what, record.to_string()));
        }
    }
    for (cause, number) in open.iter().filter(|(cause, _)| !target.expected.open.contains(**cause)) {
        let what = format!("{cause} ticket {number} is still open, though the incident is over");
        found.push(target.violation(Rule::Ticket, what, "the audit has no ticket_resolved for it"));
    }
    if let Some(expected) = &target.expected.tickets {
        let causes: BTreeSet<&str> = opened.keys().copied().chain(expected.keys().map(String::as_str)).collect();
        for cause in causes {
            let (had, wanted) = (opened.get(cause).copied().unwrap_or(0), expected.get(cause).copied().unwrap_or(0));
            if had != wanted {
                let what = format!("{had} {cause} tickets were opened for {wanted} incidents");
                found.push(target.violation(Rule::Ticket, what, "ticket_opened in the audit"));
            }
        }
    }
    found
}
