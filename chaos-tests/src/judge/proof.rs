//! The audit: numbered without a gap, one `delivered` record for an event and a target, and each one's
//! `payload_sha256` is that of bytes which the partner really has, at the place or under the key of the receipt.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::arrivals::{id_of, ids_of};
use super::{Evidence, FileCopy, Rule, Target, Violation, World};

/// `seq` counts from 0 without a gap.
pub(super) fn sequence(world: &World) -> Vec<Violation> {
    let numbered = world.audit.iter().zip(0u64..);
    let wrong = numbered.filter(|(record, expected)| record["seq"].as_u64() != Some(*expected));
    let violation = |(record, expected): (&Value, u64)| Violation {
        rule: Rule::Proof,
        target: None,
        what: format!("the audit's record {expected} has seq {}", record["seq"]),
        evidence: record.to_string(),
    };
    // One gap moves all that come after it: the first says it all.
    wrong.map(violation).take(1).collect()
}

pub(super) fn truthful(world: &World, target: &Target) -> Vec<Violation> {
    let ids: BTreeMap<u64, &str> = world.acknowledged.iter().map(|event| (event.offset, event.id.as_str())).collect();
    let mut first: BTreeMap<u64, &Value> = BTreeMap::new();
    let taken = taken(target);
    let mut found = Vec::new();
    for record in target.records(world, "delivered") {
        let offset = record["offset"].as_u64().unwrap_or(u64::MAX);
        let id = record["event_id"].as_str().unwrap_or_default();
        if let Some(before) = first.insert(offset, record) {
            let what = format!("{id} has two delivered records");
            found.push(target.violation(Rule::Proof, what, format!("records {} and {}", before["seq"], record["seq"])));
        }
        if ids.get(&offset) != Some(&id) {
            let what = format!("a receipt for {id} at offset {offset}, where publishers were promised another event");
            found.push(target.violation(Rule::Proof, what, record.to_string()));
        }
        if !is_true(target, &taken, record, id) {
            let what = format!("the receipt of {id} is not of bytes that the partner has");
            found.push(target.violation(Rule::Proof, what, record.to_string()));
        }
    }
    found
}

/// The requests that took effect, by their key: with the hash of the body, and the events in it.
type Taken<'a> = BTreeMap<Option<&'a str>, Vec<(String, BTreeSet<String>)>>;

fn taken(target: &Target) -> Taken<'_> {
    let mut taken = Taken::new();
    if let Evidence::Requests(requests) = &target.evidence {
        for request in requests.iter().filter(|request| request.effect) {
            let proof = (sha256(&request.body), ids_of(request).into_iter().collect());
            taken.entry(request.key.as_deref()).or_default().push(proof);
        }
    }
    taken
}

fn is_true(target: &Target, taken: &Taken, record: &Value, id: &str) -> bool {
    let receipt = &record["receipt"];
    if receipt == "operator" {
        // A human's word; whether the event is there is judged by its arrival.
        return true;
    }
    let hash = record["payload_sha256"].as_str().unwrap_or_default();
    match &target.evidence {
        Evidence::Files(copies) => copies.iter().any(|copy| stands(copy, receipt, hash, id)),
        Evidence::Requests(_) => {
            let under_key = taken.get(&receipt["idempotency_key"].as_str());
            under_key.is_some_and(|all| all.iter().any(|(body, ids)| body == hash && ids.contains(id)))
        }
    }
}

fn stands(copy: &FileCopy, receipt: &Value, hash: &str, id: &str) -> bool {
    let number = |name: &str| receipt[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let (Some(offset), Some(length)) = (number("file_offset"), number("length")) else { return false };
    let row = offset.checked_add(length).and_then(|end| copy.bytes.get(offset..end));
    row.is_some_and(|row| {
        receipt["path"] == copy.path.as_str()
            && sha256(row) == hash
            && id_of(String::from_utf8_lossy(row).trim_end()).as_deref() == Some(id)
    })
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
