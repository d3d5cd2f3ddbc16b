//! What follows from the audit: which events are settled, which recipes, tickets and dead letters there are.
//! Pure: [`State::apply`] is used at commit and at replay, so that what is rebuilt is what was. It reads no
//! clock and writes no file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::receipt::Cause;
use hms_actors::settled::Settled;
use serde::{Deserialize, Serialize};

use super::record::{Body, Delivery, Record};

/// All that is known, as of record `counters.seq - 1`.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub counters: Counters,
    pub recipes: BTreeMap<RecipeId, StoredRecipe>,
    pub targets: BTreeMap<TargetKey, Target>,
    pub tickets: BTreeMap<u64, Ticket>,
    pub letters: BTreeMap<u64, DeadLetter>,
    /// How far a recipe's last run goes. Not in the audit: losing it costs one early run.
    pub frontiers: BTreeMap<RecipeId, Offset>,
    /// Index of `tickets`.
    pub(super) open: BTreeMap<(TargetKey, Cause), u64>,
    /// What the cache does not have yet.
    pub(super) changed: BTreeSet<Row>,
}

/// The next number of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub seq: u64,
    pub target: u64,
    pub ticket: u64,
    pub letter: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { seq: 0, target: 0, ticket: 1, letter: 1 }
    }
}

/// What is stored in one piece in the cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Row {
    Counters,
    Recipe(RecipeId),
    Target(TargetKey),
    Ticket(u64),
    Letter(u64),
    Frontier(RecipeId),
}

/// A recipe as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecipe {
    pub id: RecipeId,
    pub revision: Revision,
    pub feed: FeedName,
    pub paused: bool,
    /// Kept for its revision: the next apply counts on.
    pub deleted: bool,
    pub targets: BTreeMap<TargetName, StoredTarget>,
    /// All revisions: begun work refers to the one that shaped it.
    pub texts: BTreeMap<Revision, Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTarget {
    /// The revision in which its settings last changed.
    pub revision: Revision,
    /// Where it started.
    pub start: Offset,
}

impl StoredRecipe {
    /// The YAML of the current revision.
    pub fn text(&self) -> &str {
        self.texts.get(&self.revision).map_or("", |text| text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Never used again, and kept over a rename: begun work is stored under it.
    pub id: u64,
    pub settled: Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    Open,
    Resolved,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub number: u64,
    pub state: TicketState,
    pub key: TargetKey,
    pub cause: Cause,
    pub reason: String,
    pub opened_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    /// Kept up to date while it is open; these three are not in the audit, which has what they began with.
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: String,
    pub note: Option<String>,
}

/// A dead letter. Its copy of the event is in the work journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub number: u64,
    pub key: TargetKey,
    pub feed: FeedName,
    pub event_id: String,
    pub offset: Offset,
    pub reason: String,
    pub attempts: u32,
    pub at: Timestamp,
    pub may_have_arrived: bool,
}

/// Resolved tickets beyond these are in the audit only.
pub(super) const RESOLVED_KEPT: usize = 10_000;

impl State {
    /// Takes a record into account. Records come in order, each once.
    pub fn apply(&mut self, record: &Record) {
        self.counters.seq = record.seq + 1;
        self.changed.insert(Row::Counters);
        match &record.body {
            Body::Delivered { delivery, .. } => self.settle(&delivery.key, delivery.offset),
            Body::DeadLettered { delivery, number, reason, may_have_arrived } => {
                self.settle(&delivery.key, delivery.offset);
                self.add_letter(record.time, delivery, *number, reason, *may_have_arrived);
            }
            Body::TicketOpened { .. } => self.open_ticket(record),
            Body::TicketResolved { number, note, .. } => self.resolve_ticket(*number, record.time, note.clone()),
            Body::Recipe(change) => self.change_recipe(change, record.time),
            Body::AttemptFailed { .. } | Body::FileChanged { .. } | Body::Operator { .. } => {}
        }
    }

    /// A later failure of an incident that has its ticket.
    pub fn update_ticket(&mut self, number: u64, attempts: u32, backlog: u64, last_error: &str) {
        if let Some(ticket) = self.tickets.get_mut(&number) {
            (ticket.attempts, ticket.backlog) = (attempts, backlog);
            last_error.clone_into(&mut ticket.last_error);
            self.changed.insert(Row::Ticket(number));
        }
    }

    pub fn set_frontier(&mut self, recipe: &RecipeId, frontier: Offset) {
        self.frontiers.insert(recipe.clone(), frontier);
        self.changed.insert(Row::Frontier(recipe.clone()));
    }

    pub fn is_settled(&self, key: &TargetKey, offset: Offset) -> bool {
        self.targets.get(key).is_some_and(|target| target.settled.contains(offset))
    }

    /// The number of the open ticket of this incident.
    pub fn ticket_of(&self, key: &TargetKey, cause: Cause) -> Option<u64> {
        self.open.get(&(key.clone(), cause)).copied()
    }

    fn settle(&mut self, key: &TargetKey, offset: Offset) {
        if let Some(target) = self.targets.get_mut(key) {
            target.settled.insert(offset);
            self.changed.insert(Row::Target(key.clone()));
        }
    }

    fn add_letter(&mut self, at: Timestamp, delivery: &Delivery, number: u64, reason: &str, may_have_arrived: bool) {
        let Delivery { key, feed, event_id, offset, attempt } = delivery.clone();
        let reason = reason.to_owned();
        let letter =
            DeadLetter { number, key, feed, event_id, offset, reason, attempts: attempt, at, may_have_arrived };
        self.counters.letter = self.counters.letter.max(number + 1);
        self.letters.insert(number, letter);
        self.changed.insert(Row::Letter(number));
    }

    fn open_ticket(&mut self, record: &Record) {
        let Body::TicketOpened { key, number, cause, reason, attempts, backlog, last_error } = record.body.clone()
        else {
            return;
        };
        self.counters.ticket = self.counters.ticket.max(number + 1);
        self.open.insert((key.clone(), cause), number);
        let (state, opened_at) = (TicketState::Open, record.time);
        let ticket = Ticket {
            number,
            state,
            key,
            cause,
            reason,
            opened_at,
            resolved_at: None,
            attempts,
            backlog,
            last_error,
            note: None,
        };
        self.tickets.insert(number, ticket);
        self.changed.insert(Row::Ticket(number));
    }

    pub(super) fn resolve_ticket(&mut self, number: u64, at: Timestamp, note: Option<String>) {
        let Some(ticket) = self.tickets.get_mut(&number) else { return };
        (ticket.state, ticket.resolved_at, ticket.note) = (TicketState::Resolved, Some(at), note);
        self.open.remove(&(ticket.key.clone(), ticket.cause));
        self.changed.insert(Row::Ticket(number));
        if self.tickets.len() - self.open.len() > RESOLVED_KEPT {
            self.drop_oldest_resolved();
        }
    }

    fn drop_oldest_resolved(&mut self) {
        let oldest = self.tickets.values().find(|ticket| ticket.state == TicketState::Resolved);
        if let Some(number) = oldest.map(|ticket| ticket.number) {
            self.tickets.remove(&number);
            self.changed.insert(Row::Ticket(number));
        }
    }
}
