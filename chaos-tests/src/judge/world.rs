//! What the judge sees: what publishers were promised, what partners have, what the audit says. Plain data, so that
//! a test can make a world by hand. How a world is gathered from a running node is `scenario/witness.rs`.

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

/// Everything that can be seen from outside at the end of a run.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub acknowledged: Vec<Acknowledged>,
    pub targets: Vec<Target>,
    /// All records of the audit, as they were served.
    pub audit: Vec<Value>,
    /// `GET /v1/circuits`; `None` if the node has no such route.
    pub circuits: Option<Vec<Value>>,
    /// What did not come to an end though nothing was wrong any more, in words.
    pub unsettled: Vec<String>,
}

/// One target of a recipe, its partner's evidence, and what the scenario says of its end.
#[derive(Debug, Clone)]
pub struct Target {
    pub recipe: String,
    pub name: String,
    /// What it was called before it was renamed: those records are its own.
    pub formerly: Option<String>,
    pub guarantee: Guarantee,
    pub evidence: Evidence,
    /// How many events wait, as the node says. `None`: it was not asked.
    pub backlog: Option<u64>,
    pub expected: Expected,
}

impl Target {
    pub fn new(recipe: &str, name: &str, guarantee: Guarantee, evidence: Evidence) -> Self {
        let (recipe, name) = (recipe.to_owned(), name.to_owned());
        Self { recipe, name, formerly: None, guarantee, evidence, backlog: None, expected: Expected::default() }
    }
}

/// How often an event may take effect at the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Files with one writer: a row a time.
    ExactlyOnce,
    /// A partner that honours the key: what comes again with the same key has no effect.
    EffectivelyOnce,
    AtLeastOnce,
}

impl Guarantee {
    /// The contract's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly_once",
            Self::EffectivelyOnce => "effectively_once",
            Self::AtLeastOnce => "at_least_once",
        }
    }
}

/// What the partner has.
#[derive(Debug, Clone)]
pub enum Evidence {
    /// In the order in which the partner saw them; what it took away first, what lies there now last.
    Files(Vec<FileCopy>),
    /// Its log, in the order in which the requests came.
    Requests(Vec<Request>),
}

/// What a file of the partner held at one time.
#[derive(Debug, Clone, Default)]
pub struct FileCopy {
    /// As the recipe's path names it.
    pub path: String,
    pub bytes: Vec<u8>,
    /// So many of the first bytes are in an earlier copy of the same path: they were seen there.
    pub seen: usize,
    /// Lines in it that somebody else wrote, which must stay.
    pub foreign: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// `ce-id` of a request with one event.
    pub event: Option<String>,
    pub body: Vec<u8>,
    /// Whether the partner carried it out, whatever became of its answer.
    pub effect: bool,
}

/// What the scenario says of a target's end.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Events may still wait.
    pub may_wait: bool,
    /// These events, and no others, are dead letters at the end.
    pub dead: BTreeSet<String>,
    pub circuit: Circuit,
    /// How many tickets were opened, by cause, and no others. `None`: as many as there were incidents, which
    /// the scenario can't count.
    pub tickets: Option<BTreeMap<String, usize>>,
    /// Causes of which a ticket may be open at the end.
    pub open: BTreeSet<String>,
}

/// What a circuit may have gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Circuit {
    /// Whatever is lawful, and closed at the end.
    #[default]
    Closed,
    /// It never left `closed`: nothing happened to this target.
    Undisturbed,
    /// It was open at least once and is closed at the end.
    Recovered,
    /// It is open, or being tried, at the end.
    Open,
    /// The target is no more, and no circuit is shown for it.
    Gone,
}
