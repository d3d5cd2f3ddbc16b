//! Circuits: they move only as the field knows it, what the endpoint shows is what the audit's last record says,
//! and the end is as the scenario expects it.

use serde_json::Value;

use super::{Circuit, Rule, Target, Violation, World};

/// The state that a `circuit` record leads to.
pub fn state_of(record: &Value) -> &str {
    record["to"].as_str().or_else(|| record["state"].as_str()).unwrap_or_default()
}

pub(super) fn lawful(world: &World, target: &Target) -> Vec<Violation> {
    let Some(circuits) = &world.circuits else { return Vec::new() };
    let mut found = Vec::new();
    let mut state = "closed";
    let mut was_open = false;
    for record in target.records(world, "circuit") {
        let next = state_of(record);
        if !may_follow(state, next) {
            let what = format!("the circuit went from {state} to {next:?}");
            found.push(target.violation(Rule::Circuit, what, record.to_string()));
        }
        was_open |= next == "open";
        state = next;
    }
    let is_ours =
        |circuit: &&Value| circuit["recipe"] == target.recipe.as_str() && circuit["target"] == target.name.as_str();
    let shown =
        circuits.iter().find(is_ours).map_or("nothing", |circuit| circuit["state"].as_str().unwrap_or_default());
    if target.expected.circuit == Circuit::Gone {
        state = "nothing";
    }
    // After a restart what was being tried is open again until the next probe.
    if shown != state && (state, shown) != ("half_open", "open") {
        let what = format!("the endpoint shows {shown}, the audit's last word is {state}");
        found.push(target.violation(Rule::Circuit, what, "GET /v1/circuits against the audit"));
    }
    let (wanted, is_so) = match target.expected.circuit {
        Circuit::Closed => ("closed at the end", state == "closed"),
        Circuit::Undisturbed => ("never anything but closed", state == "closed" && !was_open),
        Circuit::Recovered => ("open once, and closed at the end", state == "closed" && was_open),
        Circuit::Gone => ("gone", shown == "nothing"),
        Circuit::Open => ("open at the end", matches!(state, "open" | "half_open")),
    };
    if !is_so {
        let opened = target.records(world, "circuit").filter(|record| state_of(record) == "open").count();
        let what = format!("the circuit should be {wanted}");
        found.push(target.violation(Rule::Circuit, what, format!("it is {state} and was opened {opened} times")));
    }
    found
}

fn may_follow(state: &str, next: &str) -> bool {
    match (state, next) {
        // An operator may force it from anywhere, and end that in either way.
        (_, "forced_open") | ("forced_open", "closed" | "open" | "half_open") => true,
        ("closed", "open") | ("open", "half_open") | ("half_open", "open") => true,
        // The node died while its probe was under way: another goes.
        ("half_open", "half_open") => true,
        // From `open` directly only when an operator closes it.
        ("half_open" | "open", "closed") => true,
        _ => false,
    }
}
