//! The stage for the edges of the machine: a node with a partner over HTTP and a file on this machine, what was
//! promised to the publisher, and whether both partners have it. The edges themselves are in `edges_*.rs`.

use chaos_tests::judge::{Acknowledged, Evidence, FileCopy, Guarantee, Request, Target, World, judge};
use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::wait;

pub const RECIPE: &str = "edge.sync";
pub const FEED: &str = "grants";

/// What one publication came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Published {
    Acknowledged,
    Refused(u16),
}

pub struct Edge {
    pub node: Node,
    pub partner: HttpPartner,
    pub promised: Vec<Acknowledged>,
    /// What the store has lost before the partner over HTTP had it.
    pub lost: Vec<String>,
}

impl Edge {
    /// The node is not started yet.
    pub fn new(node: Node) -> Self {
        std::fs::create_dir(node.path("spool")).expect("the home is writable");
        Self { node, partner: HttpPartner::plain(), promised: Vec::new(), lost: Vec::new() }
    }

    pub fn running(node: Node) -> Self {
        let mut edge = Self::new(node);
        edge.start();
        edge
    }

    pub fn start(&mut self) {
        self.node.start();
        self.apply();
    }

    /// What the command says of it.
    pub fn apply(&self) -> String {
        self.node.apply(&self.recipe())
    }

    pub fn recipe(&self) -> String {
        format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: [id]\ntargets:\n  - name: http\n    adapter: rest\n    \
             url: {}\n  - name: spool\n    adapter: file\n    path: {}\n    format: csv\nschedule: on_change\n",
            self.partner.url("/events"),
            self.node.path("spool/grants.csv").display()
        )
    }

    /// Publishes an event with so many bytes more than it needs.
    #[track_caller]
    pub fn try_publish(&mut self, id: &str, bytes: usize) -> Published {
        let data = format!(r#"{{"id":"{id}","more":"{}"}}"#, "x".repeat(bytes));
        let answer = self.node.try_publish(FEED, id, &data).expect("the node answers");
        if answer.status != 202 {
            return Published::Refused(answer.status);
        }
        let answer = answer.json();
        let offset = answer["events"][0]["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {answer}"));
        if !self.promised.iter().any(|event| event.id == id) {
            self.promised.push(Acknowledged { id: id.to_owned(), offset, key: "all".to_owned() });
        }
        Published::Acknowledged
    }

    /// Publishes an event, which must be acknowledged.
    #[track_caller]
    pub fn publish(&mut self, id: &str) {
        assert_eq!(self.try_publish(id, 0), Published::Acknowledged);
    }

    /// The ids that the partner over HTTP has accepted, a repeated key counting once.
    pub fn accepted(&self) -> Vec<String> {
        let accepted = self.partner.effects().into_iter().filter(|request| request.answered == Some(200));
        accepted.filter_map(|request| Some(request.header("ce-id")?.to_owned())).collect()
    }

    /// Waits until both partners have all that was promised, and the audit says so; then nothing may be lost,
    /// doubled or out of order.
    #[track_caller]
    pub fn judge(&self) {
        let settled = || {
            let backlog = |target: &str| self.node.target(RECIPE, target)["backlog"].as_u64();
            (backlog("http") == Some(0) && backlog("spool") == Some(0)).then_some(())
        };
        let done = wait::within(wait::DEADLINE, settled);
        assert!(done.is_some(), "{} {}", self.node.target(RECIPE, "http"), self.node.target(RECIPE, "spool"));
        let audit = self.node.audit();
        // Over HTTP each event has a key of its own; a file keeps the feed's order.
        let own_key = |event: &Acknowledged| Acknowledged { key: event.id.clone(), ..event.clone() };
        let requests = Evidence::Requests(self.partner.received().iter().map(Request::from).collect());
        let mut http = Target::new(RECIPE, "http", Guarantee::EffectivelyOnce, requests);
        http.expected.dead = self.lost.iter().cloned().collect();
        let path = self.node.path("spool/grants.csv");
        let bytes = std::fs::read(&path).unwrap_or_default();
        let copy = FileCopy { path: path.display().to_string(), bytes, ..FileCopy::default() };
        let spool = Target::new(RECIPE, "spool", Guarantee::ExactlyOnce, Evidence::Files(vec![copy]));
        let keyed = self.promised.iter().map(own_key).collect();
        for (target, acknowledged) in [(http, keyed), (spool, self.promised.clone())] {
            let world = World { acknowledged, targets: vec![target], audit: audit.clone(), ..World::default() };
            assert_eq!(judge(&world), []);
        }
    }

    /// Waits until the node says so, in its log or as the last error of a target.
    #[track_caller]
    pub fn says(&self, words: &str) {
        wait::until(&format!("the node to say `{words}`"), || self.has_said(words).then_some(()));
    }

    pub fn has_said(&self, words: &str) -> bool {
        self.node.log_lines().iter().any(|line| line.contains(words))
    }

    /// Waits until a target's last error holds the words.
    #[track_caller]
    pub fn complains(&self, target: &str, words: &str) {
        let complains = || {
            let state = self.node.target(RECIPE, target);
            state["last_error"].as_str().is_some_and(|error| error.contains(words)).then_some(())
        };
        let found = wait::within(wait::DEADLINE, complains);
        assert!(found.is_some(), "no `{words}` in {}", self.node.target(RECIPE, target));
    }
}
