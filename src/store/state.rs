//! What follows from the audit: which events are settled, which recipes, tickets and dead letters there are.
//! Pure: [`State::apply`] is used at commit and at replay, so that what is rebuilt is what was. It reads no
//! clock and writes no file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hms_actors::few::Few;
use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::ports::OpenTicket;
use hms_actors::receipt::Cause;
use hms_actors::settled::Settled;
use serde::{Deserialize, Serialize};

use super::record::{Body, Delivery, Record};
use super::standing::{Note, Standing};

/// All that is known, as of record `counters.seq - 1`.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub counters: Counters,
    pub recipes: BTreeMap<RecipeId, Box<StoredRecipe>>,
    /// Boxed, as recipes are: nodes of maps have room that nobody fills.
    pub targets: BTreeMap<TargetKey, Box<Target>>,
    pub tickets: BTreeMap<u64, Ticket>,
    pub letters: BTreeMap<u64, DeadLetter>,
    /// How far a recipe's last run goes. Not in the audit: losing it costs one early run.
    pub frontiers: BTreeMap<RecipeId, Offset>,
    /// The last record read in this life that opened or resolved a ticket.
    pub(super) last_ticket_change: u64,
    /// Index of `tickets`.
    pub(super) open: BTreeMap<(TargetKey, Cause), u64>,
    /// Index of `letters`: how many wait for a ticket's cause.
    pub(super) waiting: BTreeMap<(TargetKey, Cause), u64>,
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

/// A later failure of an incident that has its ticket.
pub(super) struct TicketUpdate {
    pub number: u64,
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: String,
    pub reason: String,
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
    pub targets: Few<TargetName, StoredTarget>,
    /// All revisions: begun work refers to the one that shaped it.
    pub texts: Few<Revision, Arc<str>>,
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
    #[serde(default)]
    pub standing: Standing,
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
    /// How it was resolved.
    #[serde(default)]
    pub action: Option<String>,
    /// The records that opened and resolved it.
    #[serde(default)]
    pub opened_seq: u64,
    #[serde(default)]
    pub resolved_seq: u64,
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
    /// That of the ticket which waits for its replay.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The target's number: one that was removed and applied anew has another.
    #[serde(default)]
    pub of: Option<u64>,
    /// Its last attempts, replays too.
    #[serde(default)]
    pub history: Vec<Note>,
}

/// The operator's action that removes a dead letter; its number is in the details.
pub(super) const DROP_LETTER: &str = "drop_dead_letter";

/// Resolved tickets beyond these are in the audit only.
pub(super) const RESOLVED_KEPT: usize = 10_000;

impl State {
    /// Takes a record into account. Records come in order, each once.
    pub fn apply(&mut self, record: &Record) {
        self.counters.seq = record.seq + 1;
        self.changed.insert(Row::Counters);
        match &record.body {
            Body::Delivered { delivery, dead_letter, .. } => {
                self.delivered(&delivery.key, &[(delivery.offset, *dead_letter)], record.seq);
            }
            Body::DeadLettered { .. } => self.add_letter(record),
            Body::AttemptFailed { .. } => self.note_failure(record),
            // A dead letter is none the less what it was.
            Body::Blocked { dead_letter: Some(_), .. } => {}
            Body::Blocked { delivery, policies, .. } => self.change_target(&delivery.key, |target| {
                if !target.settled.contains(delivery.offset) {
                    target.standing.blocked(delivery.offset, policies);
                }
            }),
            Body::Circuit { key, .. } => {
                self.change_target(key, |target| target.standing.circuit_changed(&record.body))
            }
            Body::Operator { action, details, .. } if action == DROP_LETTER => {
                let number = details.get("number").and_then(|number| number.parse().ok());
                number.into_iter().for_each(|number| self.remove_letter(number));
            }
            Body::TicketOpened { .. } => self.open_ticket(record),
            Body::TicketResolved { number, action, note, .. } => {
                self.resolve_ticket(*number, record.time, action, note.clone());
            }
            Body::Recipe(change) => self.change_recipe(change, record.time),
            Body::FileChanged { .. } | Body::Operator { .. } => {}
        }
    }

    /// Takes records of deliveries to one target into account, with the dead letters that went; `seq` is the last one's.
    pub fn delivered(&mut self, key: &TargetKey, events: &[(Offset, Option<u64>)], seq: u64) {
        self.counters.seq = seq + 1;
        self.changed.insert(Row::Counters);
        self.change_target(key, |target| {
            for &(offset, letter) in events {
                target.standing.delivered(offset);
                // A dead letter's event was settled when it became one, perhaps in another life of the target.
                if letter.is_none() {
                    target.settled.insert(offset);
                }
            }
        });
        events.iter().filter_map(|(_, letter)| *letter).for_each(|letter| self.remove_letter(letter));
    }

    /// A later failure of an incident that has its ticket.
    pub fn update_ticket(&mut self, update: TicketUpdate) {
        let TicketUpdate { number, attempts, backlog, last_error, reason } = update;
        if let Some(ticket) = self.tickets.get_mut(&number) {
            (ticket.attempts, ticket.backlog) = (attempts, backlog);
            (ticket.last_error, ticket.reason) = (last_error, reason);
            self.changed.insert(Row::Ticket(number));
        }
    }

    pub fn set_frontier(&mut self, recipe: &RecipeId, frontier: Offset) {
        self.frontiers.insert(recipe.clone(), frontier);
        self.changed.insert(Row::Frontier(recipe.clone()));
    }

    /// The number of the open ticket of this incident.
    pub fn ticket_of(&self, key: &TargetKey, cause: Cause) -> Option<u64> {
        self.open.get(&(key.clone(), cause)).copied()
    }

    fn change_target(&mut self, key: &TargetKey, change: impl FnOnce(&mut Target)) {
        if let Some(target) = self.targets.get_mut(key) {
            change(target);
            self.changed.insert(Row::Target(key.clone()));
        }
    }

    fn note_failure(&mut self, record: &Record) {
        let Body::AttemptFailed { delivery, dead_letter, failure, error, .. } = &record.body else { return };
        let note = Note { at: record.time, kind: failure.clone(), error: error.clone() };
        match dead_letter {
            None => self.change_target(&delivery.key, |target| target.standing.failed(&record.body, note)),
            Some(number) => {
                let Some(letter) = self.letters.get_mut(number) else { return };
                letter.attempts += 1;
                note.add_to(&mut letter.history);
                self.changed.insert(Row::Letter(*number));
            }
        }
    }

    fn add_letter(&mut self, record: &Record) {
        let Body::DeadLettered { delivery, number, reason, may_have_arrived, cause } = &record.body else { return };
        let Delivery { key, feed, event_id, offset, attempt } = delivery.clone();
        let (mut of, mut history) = (None, Vec::new());
        self.change_target(&key, |target| {
            target.settled.insert(offset);
            (of, history) = (Some(target.id), target.standing.given_up(offset));
        });
        let letter = DeadLetter {
            number: *number,
            key,
            feed,
            event_id,
            offset,
            reason: reason.clone(),
            attempts: attempt,
            at: record.time,
            may_have_arrived: *may_have_arrived,
            cause: *cause,
            of,
            history,
        };
        self.counters.letter = self.counters.letter.max(number + 1);
        self.count_letter(&letter, true);
        self.letters.insert(*number, letter);
        self.changed.insert(Row::Letter(*number));
    }

    fn remove_letter(&mut self, number: u64) {
        if let Some(letter) = self.letters.remove(&number) {
            self.count_letter(&letter, false);
            self.changed.insert(Row::Letter(number));
        }
    }

    pub(super) fn count_letter(&mut self, letter: &DeadLetter, one_more: bool) {
        let Some(cause) = letter.cause else { return };
        let of = (letter.key.clone(), cause);
        let count = self.waiting.entry(of.clone()).or_default();
        *count = if one_more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.waiting.remove(&of);
        }
    }

    /// Whether this target is the one to deliver the dead letter: the one that missed the event, or one that was
    /// applied anew under its name and does not get the event by itself.
    pub fn is_of(&self, letter: &DeadLetter, key: &TargetKey) -> bool {
        let (Some(target), Some(recipe)) = (self.targets.get(key), self.recipes.get(&key.recipe)) else { return false };
        let begins = recipe.targets.get(&key.target).map_or(0, |target| target.start);
        let missed = letter.of.is_none_or(|of| of == target.id);
        letter.key == *key && letter.feed == recipe.feed && (missed || letter.offset < begins)
    }

    /// The target's open tickets.
    pub fn tickets_of(&self, key: &TargetKey) -> Vec<OpenTicket> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let numbers = Cause::ALL.into_iter().filter_map(|cause| self.ticket_of(key, cause));
        let open = numbers.filter_map(|number| self.tickets.get(&number));
        let ticket =
            |ticket: &Ticket| OpenTicket { number: ticket.number, cause: ticket.cause, opened_at: ticket.opened_at };
        open.map(ticket).collect()
    }

    fn open_ticket(&mut self, record: &Record) {
        let Body::TicketOpened { key, number, cause, reason, attempts, backlog, last_error } = record.body.clone()
        else {
            return;
        };
        self.counters.ticket = self.counters.ticket.max(number + 1);
        self.last_ticket_change = record.seq;
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
            action: None,
            opened_seq: record.seq,
            resolved_seq: 0,
        };
        self.tickets.insert(number, ticket);
        self.changed.insert(Row::Ticket(number));
    }

    pub(super) fn resolve_ticket(&mut self, number: u64, at: Timestamp, action: &str, note: Option<String>) {
        // The record that is being applied.
        let seq = self.counters.seq.saturating_sub(1);
        let Some(ticket) = self.tickets.get_mut(&number) else { return };
        (ticket.action, ticket.resolved_seq, self.last_ticket_change) = (Some(action.to_owned()), seq, seq);
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
