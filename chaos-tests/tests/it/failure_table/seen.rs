//! What the outside sees of one row of the table: admin endpoint and audit, nothing else.

use std::collections::BTreeSet;

use chaos_tests::node::Node;
use serde_json::Value;

/// The first event of each row, which meets what is wrong, and the one behind it.
pub const FIRST: &str = "first";
pub const SECOND: &str = "second";

/// Everything that the node tells, at one moment.
pub struct Outside {
    audit: Vec<Value>,
    circuits: Vec<Value>,
    tickets: Vec<Value>,
    letters: Vec<Value>,
}

/// One row, as far as the promises speak of it. Attempts are counted in the order of the audit.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// What `attempt_failed.failure` says.
    pub failures: BTreeSet<String>,
    /// Whether an attempt left it open if the partner did what it was asked.
    pub may_have_arrived: bool,
    /// Failed attempts after which the circuit opened first.
    pub opened_after: Option<usize>,
    /// Whether it is open now, or half open for a probe.
    pub is_open: bool,
    /// The cause of the ticket, and the failed attempts after which it was opened.
    pub ticket: Option<(String, usize)>,
    /// The attempts of the first event until it was a dead letter.
    pub dead_after: Option<u64>,
    pub first_is_delivered: bool,
    pub second_is_delivered: bool,
}

impl Outside {
    pub fn look(node: &Node) -> Self {
        let list = |path: &str, name: &str| {
            let answer = node.http().get(path).expect(200).json();
            answer[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer}")).clone()
        };
        // The audit last: what is seen elsewhere stands in it.
        let (circuits, tickets) = (list("/v1/circuits", "circuits"), list("/v1/tickets", "tickets"));
        let letters = list("/v1/dead-letters", "dead_letters");
        Self { circuits, tickets, letters, audit: node.audit() }
    }

    /// The records of a kind, of the recipe with this name.
    pub fn records(&self, recipe: &str, kind: &str) -> Vec<&Value> {
        self.audit.iter().filter(|record| record["recipe"] == recipe && record["kind"] == kind).collect()
    }

    pub fn circuit(&self, recipe: &str) -> &Value {
        let found = self.circuits.iter().find(|circuit| circuit["recipe"] == recipe);
        found.unwrap_or_else(|| panic!("no circuit of {recipe}"))
    }

    pub fn tickets(&self, recipe: &str) -> Vec<&Value> {
        self.tickets.iter().filter(|ticket| ticket["recipe"] == recipe).collect()
    }

    pub fn letters(&self, recipe: &str) -> Vec<&Value> {
        self.letters.iter().filter(|letter| letter["recipe"] == recipe).collect()
    }

    pub fn seen(&self, recipe: &str) -> Seen {
        let failed = self.records(recipe, "attempt_failed");
        let failed_before = |record: &Value| {
            let seq = record["seq"].as_u64();
            failed.iter().filter(|failed| failed["seq"].as_u64() < seq).count()
        };
        let delivered = |id: &str| self.records(recipe, "delivered").iter().any(|record| record["event_id"] == id);
        let opened = self.records(recipe, "circuit").into_iter().find(|record| record["state"] == "open");
        let tickets = self.records(recipe, "ticket_opened");
        let ticket = tickets
            .first()
            .map(|record| (record["cause"].as_str().unwrap_or_default().to_owned(), failed_before(record)));
        Seen {
            failures: failed.iter().map(|record| record["failure"].as_str().unwrap_or_default().to_owned()).collect(),
            may_have_arrived: failed.iter().any(|record| record["may_have_arrived"] == true),
            opened_after: opened.map(failed_before),
            is_open: self.circuit(recipe)["state"] != "closed",
            ticket,
            dead_after: self.letters(recipe).first().and_then(|letter| letter["attempts"].as_u64()),
            first_is_delivered: delivered(FIRST),
            second_is_delivered: delivered(SECOND),
        }
    }
}
