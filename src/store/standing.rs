//! How it went for a target up to now, as the records say: its circuit, failures since the last success, attempts
//! at what is not settled. Part of `state.rs`'s pure rules; the heart starts an incarnation from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hms_actors::delivery::REFUSES_ALL;
use hms_actors::failure::FailureKind;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::policy::circuit::{CircuitMemory, CircuitState};
use hms_actors::ports;
use serde::{Deserialize, Serialize};

use super::record::Body;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Standing {
    pub circuit: CircuitMemory,
    /// `None` where all goes well: most targets do, and they are many.
    trouble: Option<Box<Trouble>>,
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    circuit: CircuitMemory,
    #[serde(flatten)]
    trouble: Trouble,
}

/// What has not gone well, and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Trouble {
    failures_in_a_row: u32,
    #[serde(default)]
    last_error: Option<String>,
    #[serde(default)]
    not_before: Option<Timestamp>,
    refused: BTreeSet<Offset>,
    /// Events that policies said no to last and that are not settled, by the ids of those policies; a list, because
    /// JSON has no such keys.
    #[serde(default)]
    blocked: Vec<(Vec<String>, BTreeSet<Offset>)>,
    /// By first offset and number of events of the unit; a list, because JSON has no such keys.
    tried: Vec<Tried>,
}

/// Failed attempts at one unit that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tried {
    first: Offset,
    events: u32,
    attempts: u32,
    refused: u32,
    may_have_arrived: bool,
    history: Vec<Note>,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub at: Timestamp,
    pub kind: String,
    pub error: String,
}

/// So many attempts of one event are kept, the last ones. The audit has them all.
const HISTORY: usize = 10;

impl Note {
    pub fn add_to(self, history: &mut Vec<Note>) {
        if history.len() >= HISTORY {
            history.remove(0);
        }
        history.push(self);
    }
}

impl From<Written> for Standing {
    fn from(Written { circuit, trouble }: Written) -> Self {
        let mut standing = Self { circuit, trouble: Some(Box::new(trouble)) };
        standing.look();
        standing
    }
}

impl From<Standing> for Written {
    fn from(Standing { circuit, trouble }: Standing) -> Self {
        Self { circuit, trouble: trouble.map(|trouble| *trouble).unwrap_or_default() }
    }
}

impl Standing {
    /// Of a target that begins: its circuit is closed since then.
    pub fn new(at: Timestamp) -> Self {
        Self { circuit: CircuitMemory { since: at, ..CircuitMemory::default() }, trouble: None }
    }

    /// Notices that a trouble is over.
    fn look(&mut self) {
        self.trouble.take_if(|trouble| **trouble == Trouble::default());
    }

    pub fn failed(&mut self, body: &Body, note: Note) {
        self.trouble.get_or_insert_default().failed(body, note);
    }

    pub fn delivered(&mut self, offset: Offset) {
        if let Some(trouble) = &mut self.trouble {
            trouble.delivered(offset);
            self.look();
        }
    }

    /// Policies say no to this event.
    pub fn blocked(&mut self, offset: Offset, policies: &[String]) {
        self.trouble.get_or_insert_default().blocked(offset, policies);
    }

    /// Whether policies hold an event.
    pub fn is_blocked(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| !trouble.blocked.is_empty())
    }

    /// The partner refuses whatever it is sent.
    pub fn refuses_all(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.refused.len() >= REFUSES_ALL)
    }

    /// Its event is a dead letter; returns how it went.
    pub fn given_up(&mut self, offset: Offset) -> Vec<Note> {
        let history = self.trouble.as_mut().map(|trouble| trouble.given_up(offset)).unwrap_or_default();
        self.look();
        history
    }

    pub fn circuit_changed(&mut self, body: &Body) {
        if let Body::Circuit { state, since, probe_at, open_for_ms, opened_total, .. } = *body {
            self.circuit = CircuitMemory { state, since, probe_at, open_for_ms, opened_total };
            if let Some(trouble) = self.trouble.as_mut().filter(|_| state == CircuitState::Closed) {
                trouble.failures_in_a_row = 0;
                self.look();
            }
        }
    }

    /// As the heart wants it.
    pub fn to_heart(&self) -> ports::Standing {
        let trouble = self.trouble.as_ref().map(|trouble| trouble.to_heart()).unwrap_or_default();
        ports::Standing { circuit: self.circuit.clone(), ..trouble }
    }
}

impl Trouble {
    fn failed(&mut self, body: &Body, note: Note) {
        let Body::AttemptFailed { delivery, events, failure, may_have_arrived, retry_after_ms, .. } = body else {
            return;
        };
        self.last_error = Some(note.error.clone());
        self.not_before = retry_after_ms.map(|wait| note.at.plus(Duration::from_millis(wait))).max(self.not_before);
        let refused = failure == FailureKind::Refused.as_str();
        if failure == FailureKind::Transient.as_str() || failure == FailureKind::Configuration.as_str() {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        }
        if refused && *events == 1 && self.refused.len() < REFUSES_ALL {
            self.refused.insert(delivery.offset);
        }
        let of_it = |tried: &Tried| (tried.first, tried.events) == (delivery.offset, *events);
        let at = self.tried.iter().position(of_it).unwrap_or_else(|| {
            let (first, events, history) = (delivery.offset, *events, Vec::new());
            self.tried.push(Tried { first, events, attempts: 0, refused: 0, may_have_arrived: false, history });
            self.tried.len() - 1
        });
        let tried = &mut self.tried[at];
        tried.attempts = delivery.attempt;
        tried.refused += u32::from(refused);
        tried.may_have_arrived |= may_have_arrived;
        note.add_to(&mut tried.history);
    }

    fn delivered(&mut self, offset: Offset) {
        self.failures_in_a_row = 0;
        (self.last_error, self.not_before) = (None, None);
        self.refused.clear();
        self.tried.retain(|tried| tried.first != offset);
        self.let_go(offset);
    }

    fn blocked(&mut self, offset: Offset, policies: &[String]) {
        self.let_go(offset);
        match self.blocked.iter_mut().find(|(by, _)| by == policies) {
            Some((_, offsets)) => drop(offsets.insert(offset)),
            None => self.blocked.push((policies.to_vec(), [offset].into())),
        }
    }

    fn let_go(&mut self, offset: Offset) {
        self.blocked.retain_mut(|(_, offsets)| {
            offsets.remove(&offset);
            !offsets.is_empty()
        });
    }

    fn given_up(&mut self, offset: Offset) -> Vec<Note> {
        self.let_go(offset);
        let of_it = |tried: &mut Tried| tried.first == offset;
        let mut history: Vec<Note> = self.tried.extract_if(.., of_it).flat_map(|tried| tried.history).collect();
        history.sort_by_key(|note| note.at);
        history
    }

    fn to_heart(&self) -> ports::Standing {
        let tries = |tried: &Tried| {
            let (attempts, refused, may_have_arrived) = (tried.attempts, tried.refused, tried.may_have_arrived);
            ((tried.first, tried.events), ports::Tries { attempts, refused, may_have_arrived })
        };
        let blocked =
            self.blocked.iter().flat_map(|(by, offsets)| offsets.iter().map(|offset| (*offset, by.clone()))).collect();
        ports::Standing {
            blocked,
            circuit: CircuitMemory::default(),
            failures_in_a_row: self.failures_in_a_row,
            refused: self.refused.clone(),
            last_error: self.last_error.clone(),
            not_before: self.not_before,
            tries: self.tried.iter().map(tries).collect::<BTreeMap<_, _>>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_written_as_ever_and_takes_no_room_for_trouble_that_it_has_not() {
        let written = json!({
            "circuit": { "state": "closed", "since": 5, "probe_at": null, "open_for_ms": 0, "opened_total": 0 },
            "failures_in_a_row": 0, "last_error": null, "not_before": null, "refused": [], "blocked": [], "tried": [],
        });
        let calm: Standing = serde_json::from_value(written.clone()).unwrap();
        assert_eq!((&calm, calm.trouble.is_none()), (&Standing::new(Timestamp(5)), true));
        assert_eq!(serde_json::to_value(calm).unwrap(), written);
        let mut blocked = Standing::new(Timestamp(5));
        blocked.blocked(7, &["no_pii".to_owned()]);
        let read: Standing = serde_json::from_value(serde_json::to_value(&blocked).unwrap()).unwrap();
        assert_eq!((&read, read.is_blocked()), (&blocked, true));
        blocked.delivered(7);
        assert_eq!(blocked, Standing::new(Timestamp(5)));
    }
}
