//! The judge: from what publishers were promised, what a partner got and what the audit says, whether the
//! courier kept its word. It sees nothing else, least of all the product's own idea of what happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// An event that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub id: String,
    pub offset: u64,
    /// What its order is kept by.
    pub key: String,
}

/// How often an event may reach the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Once,
    AtLeastOnce,
}

/// What is wrong; empty when the promises were kept. `arrived` are the event ids in the order in which
/// the partner got them, `audit` all records of the node.
pub fn judge(
    promised: &[Acknowledged],
    arrived: &[String],
    times: Times,
    audit: &[Value],
    (recipe, target): (&str, &str),
) -> Vec<String> {
    let mut wrong = counts(promised, arrived, times);
    wrong.extend(order(promised, arrived));
    wrong.extend(receipts(promised, audit, recipe, target));
    wrong
}

/// Nothing lost, nothing twice, nothing invented.
fn counts(promised: &[Acknowledged], arrived: &[String], times: Times) -> Vec<String> {
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    for id in arrived {
        *count.entry(id).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for event in promised {
        match count.remove(event.id.as_str()) {
            None => wrong.push(format!("{} was acknowledged and never arrived", event.id)),
            Some(n) if n > 1 && times == Times::Once => wrong.push(format!("{} arrived {n} times", event.id)),
            Some(_) => {}
        }
    }
    wrong.extend(count.keys().map(|id| format!("{id} arrived and was never acknowledged")));
    wrong
}

/// Events of one key arrive, each for the first time, in feed order.
fn order(promised: &[Acknowledged], arrived: &[String]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Acknowledged> = promised.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut seen = BTreeSet::new();
    let mut latest: BTreeMap<&str, &Acknowledged> = BTreeMap::new();
    let mut wrong = Vec::new();
    let first_arrivals = arrived.iter().filter(|id| seen.insert(id.as_str()));
    for event in first_arrivals.filter_map(|id| by_id.get(id.as_str())) {
        if let Some(before) = latest.insert(&event.key, event)
            && before.offset > event.offset
        {
            wrong.push(format!("{} arrived after {}, which is later in its key {}", event.id, before.id, event.key));
        }
    }
    wrong
}

/// Exactly one `delivered` record for each event, and `seq` without a gap.
fn receipts(promised: &[Acknowledged], audit: &[Value], recipe: &str, target: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (expected, record) in audit.iter().enumerate() {
        if record["seq"].as_u64() != u64::try_from(expected).ok() {
            wrong.push(format!("audit record {expected} has seq {}", record["seq"]));
        }
    }
    let ours =
        |record: &&Value| record["kind"] == "delivered" && record["recipe"] == recipe && record["target"] == target;
    for event in promised {
        let about = |record: &&Value| record["event_id"] == event.id.as_str() && record["offset"] == event.offset;
        match audit.iter().filter(ours).filter(about).count() {
            1 => {}
            n => wrong.push(format!("{} has {n} delivered records for {target}", event.id)),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn promised() -> Vec<Acknowledged> {
        let event = |id: &str, offset, key: &str| Acknowledged { id: id.into(), offset, key: key.into() };
        vec![event("a1", 0, "a"), event("b1", 1, "b"), event("a2", 2, "a")]
    }

    fn audit() -> Vec<Value> {
        let record = |(seq, event): (usize, Acknowledged)| json!({"seq": seq, "kind": "delivered", "recipe": "r", "target": "t", "event_id": event.id, "offset": event.offset});
        promised().into_iter().enumerate().map(record).collect()
    }

    fn verdict(arrived: &[&str], audit: &[Value]) -> Vec<String> {
        let arrived: Vec<String> = arrived.iter().map(|&id| id.to_owned()).collect();
        judge(&promised(), &arrived, Times::Once, audit, ("r", "t"))
    }

    #[test]
    fn kept_promises_are_found_kept() {
        assert_eq!(verdict(&["b1", "a1", "a2"], &audit()), Vec::<String>::new());
    }

    #[test]
    fn what_is_lost_doubled_or_invented_is_named() {
        let wrong = verdict(&["a1", "a1", "b1", "x"], &audit());
        assert_eq!(
            wrong,
            ["a1 arrived 2 times", "a2 was acknowledged and never arrived", "x arrived and was never acknowledged"]
        );
    }

    #[test]
    fn a_later_event_of_a_key_before_an_earlier_one_is_named() {
        assert_eq!(verdict(&["a2", "b1", "a1"], &audit()), ["a1 arrived after a2, which is later in its key a"]);
    }

    #[test]
    fn a_missing_or_second_receipt_is_named() {
        let mut records = audit();
        let mut again = records.pop().expect("there are three");
        again["event_id"] = json!("b1");
        again["offset"] = json!(1);
        records.push(again);
        assert_eq!(
            verdict(&["a1", "b1", "a2"], &records),
            ["b1 has 2 delivered records for t", "a2 has 0 delivered records for t"]
        );
    }
}
