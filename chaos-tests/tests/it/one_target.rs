//! A small stage: a node with one recipe and one REST target, and its partner.

use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::wait;
use serde_json::Value;

pub const RECIPE: &str = "one.sync";
pub const TARGET: &str = "api";
pub const FEED: &str = "grants";

/// Opens after two failures and stays so for longer than any test: what goes then goes by somebody's word.
pub const SHUT: &str = "    circuit: {failures: 2, open_for: 1h, max_open_for: 1h}\n";
/// Opens after two failures, with probes in quick succession.
pub const QUICK: &str = "    circuit: {failures: 2, open_for: 100ms, max_open_for: 400ms}\n";

pub struct OneTarget {
    pub node: Node,
    pub partner: HttpPartner,
}

impl OneTarget {
    /// `more` are lines of the target. One request at a time, sent when there is an event.
    pub fn running(more: &str) -> Self {
        Self::of(Node::new(), more)
    }

    pub fn of(mut node: Node, more: &str) -> Self {
        let partner = HttpPartner::plain();
        node.start().apply(&format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: {TARGET}\n    adapter: rest\n    url: {}\n    \
             concurrency: 1\n    timeout: 2s\n{more}schedule: on_change\nretries: 2\n",
            partner.url("/api")
        ));
        Self { node, partner }
    }

    /// Publishes `e<number>`, each with a key of its own.
    pub fn publish(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.node.publish(FEED, &format!("e{number}"), &format!(r#"{{"id":{number}}}"#));
        }
    }

    /// What the node says of the target.
    pub fn target(&self) -> Value {
        self.node.http().get(&format!("/v1/recipes/{RECIPE}/targets/{TARGET}")).expect(200).json()
    }

    /// Waits until the target has it so.
    #[track_caller]
    pub fn until(&self, field: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let mut last = Value::Null;
        let found = wait::within(wait::DEADLINE, || {
            last = self.target();
            (last[field] == value).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("waited in vain for {field} to be {value}: {last:#}"))
    }

    /// Waits until so many dead letters are there.
    #[track_caller]
    pub fn letters(&self, count: usize) -> Vec<Value> {
        wait::until(&format!("{count} dead letters"), || {
            let answer = self.node.http().get("/v1/dead-letters").expect(200).json();
            answer["dead_letters"].as_array().filter(|letters| letters.len() == count).cloned()
        })
    }

    /// The one open ticket, which must be about this.
    #[track_caller]
    pub fn ticket(&self, cause: &str) -> u64 {
        let open = wait::until("a ticket", || Some(self.node.open_tickets()).filter(|open| !open.is_empty()));
        assert_eq!((open.len(), open[0]["cause"].as_str()), (1, Some(cause)), "{open:#?}");
        open[0]["number"].as_u64().expect("a number")
    }

    /// A ticket that must be closed, with what was noted.
    #[track_caller]
    pub fn closed(&self, number: u64) -> String {
        let ticket = self.node.http().get(&format!("/v1/tickets/{number}")).expect(200).json();
        assert_eq!(ticket["state"], "resolved", "{ticket}");
        ticket["note"].as_str().unwrap_or_default().to_owned()
    }

    /// The audit's records of a kind.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        self.node.audit().into_iter().filter(|record| record["kind"] == kind).collect()
    }

    /// The keys of the requests that had an effect, without recipe and target, in their order.
    pub fn effects(&self) -> Vec<String> {
        let key = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
        self.partner.effects().iter().map(|request| key(request.key().expect("a key"))).collect()
    }
}
