//! The circuit of one target: whether traffic may flow. A pure machine that takes `now`.
//!
//! Closed lets traffic flow. It opens after so many failures in a row, or when most of at least [`VOLUME`]
//! attempts within [`WINDOW`] failed. Open lets nothing through until its time has passed; then one real delivery
//! goes as the probe (half-open): its success closes the circuit, its failure opens it for twice as long.
//! Forced open is an operator's word, and only an operator's word ends it.
//!
//! Moments are the wall clock's, because they are stored; a clock that is set back delays a probe by no more than
//! the open time ([`Circuit::look`]).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// So many attempts say something about a rate.
const VOLUME: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Failures among them, in percent, with which it opens.
const FAILURE_RATE: u32 = 70;
/// Attempts are counted in slots of this many milliseconds.
const SLOT: i64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Failures in a row with which it opens.
    pub failures: u32,
    pub open_for: Duration,
    pub max_open_for: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self { failures: 3, open_for: Duration::from_secs(30), max_open_for: Duration::from_secs(600) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    #[default]
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
}

impl CircuitState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
        }
    }
}

/// What survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CircuitMemory {
    pub state: CircuitState,
    pub since: Timestamp,
    /// Of an open circuit: the probe may go then.
    pub probe_at: Option<Timestamp>,
    /// How long it is, or was last, open for; zero in one that is closed.
    pub open_for_ms: u64,
    /// How often failures opened it from closed.
    pub opened_total: u64,
}

/// What an operator may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitOrder {
    Open,
    Close,
    Probe,
}

/// An attempt that was let through. Its outcome counts for the state in which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(u64);

#[derive(Debug, Clone)]
pub struct Circuit {
    settings: CircuitSettings,
    memory: CircuitMemory,
    /// Goes up with each change of state.
    generation: u64,
    /// The probe is under way.
    probing: bool,
    failures_in_a_row: u32,
    /// `(slot, succeeded, failed)`, ascending.
    recent: VecDeque<(i64, u32, u32)>,
}

impl Circuit {
    /// As it was left; `failures_in_a_row` are those since the last success.
    pub fn restore(settings: CircuitSettings, mut memory: CircuitMemory, failures_in_a_row: u32) -> Self {
        if memory.state == CircuitState::HalfOpen {
            // Nobody knows what became of the probe: another may go.
            memory.state = CircuitState::Open;
        }
        Self { settings, memory, generation: 0, probing: false, failures_in_a_row, recent: VecDeque::new() }
    }

    pub fn memory(&self) -> &CircuitMemory {
        &self.memory
    }

    pub fn state(&self) -> CircuitState {
        self.memory.state
    }

    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Before anything is asked: a clock that was set back makes nobody wait for it to catch up.
    pub fn look(&mut self, now: Timestamp) {
        let longest = now.plus(Duration::from_millis(self.memory.open_for_ms));
        self.memory.probe_at = self.memory.probe_at.map(|at| at.min(longest));
    }

    /// How many attempts may be under way together, beside those that began before the circuit opened.
    pub fn room(&self, now: Timestamp) -> Room {
        match self.memory.state {
            CircuitState::Closed => Room::Free,
            CircuitState::Open if self.wait(now).is_zero() => Room::Probe,
            CircuitState::HalfOpen if !self.probing => Room::Probe,
            _ => Room::Nothing,
        }
    }

    /// How long the probe has to wait; zero if it has not.
    pub fn wait(&self, now: Timestamp) -> Duration {
        self.memory.probe_at.map_or(Duration::ZERO, |at| at.since(now))
    }

    /// An attempt begins; only where there is room. The change is true when it is stored.
    pub fn begin(&mut self, now: Timestamp) -> (Permit, Option<CircuitMemory>) {
        let change = match self.memory.state {
            CircuitState::Open => {
                self.memory.probe_at = None;
                Some(self.enter(CircuitState::HalfOpen, now))
            }
            _ => None,
        };
        self.probing = self.memory.state == CircuitState::HalfOpen;
        (Permit(self.generation), change)
    }

    /// It was delivered.
    pub fn succeeded(&mut self, permit: Permit, now: Timestamp) -> Option<CircuitMemory> {
        self.failures_in_a_row = 0;
        self.count(now, true);
        if permit.0 != self.generation || self.memory.state != CircuitState::HalfOpen {
            return None;
        }
        Some(self.close(now))
    }

    /// The partner, or the way to it, failed. `at_once`: no second attempt is needed to know that the next
    /// one would fail as well. `not_before`: the partner asked for so much time.
    pub fn failed(
        &mut self,
        permit: Permit,
        now: Timestamp,
        at_once: bool,
        not_before: Option<Duration>,
    ) -> Option<CircuitMemory> {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.count(now, false);
        if permit.0 != self.generation {
            return None;
        }
        let enough = at_once || self.is_enough(now);
        match self.memory.state {
            CircuitState::Closed if enough => {
                self.memory.opened_total += 1;
                Some(self.open(now, self.settings.open_for, not_before))
            }
            CircuitState::HalfOpen => {
                let twice = Duration::from_millis(self.memory.open_for_ms.saturating_mul(2));
                Some(self.open(now, twice.clamp(self.settings.open_for, self.settings.max_open_for), not_before))
            }
            _ => None,
        }
    }

    /// What came back says that the next attempt would fail as well, though it was no failure of this kind.
    pub fn tripped(&mut self, permit: Permit, now: Timestamp) -> Option<CircuitMemory> {
        let failures = self.failures_in_a_row;
        let change = self.failed(permit, now, true, None);
        self.failures_in_a_row = failures;
        change
    }

    /// The partner answered, but it says nothing of whether it works: a refused event. Another may be tried.
    pub fn refused(&mut self, permit: Permit) {
        if permit.0 == self.generation {
            self.probing = false;
        }
    }

    /// What an operator orders; `None` if it is so already, or can't be (a probe of one that is not open).
    pub fn order(&mut self, order: CircuitOrder, now: Timestamp) -> Option<CircuitMemory> {
        match (order, self.memory.state) {
            (CircuitOrder::Open, CircuitState::ForcedOpen) | (CircuitOrder::Close, CircuitState::Closed) => None,
            (CircuitOrder::Open, _) => {
                self.memory.probe_at = None;
                Some(self.enter(CircuitState::ForcedOpen, now))
            }
            (CircuitOrder::Close, _) => {
                self.failures_in_a_row = 0;
                Some(self.close(now))
            }
            (CircuitOrder::Probe, CircuitState::Open) => {
                self.memory.probe_at = Some(now);
                Some(self.memory.clone())
            }
            (CircuitOrder::Probe, _) => None,
        }
    }

    fn open(&mut self, now: Timestamp, open_for: Duration, not_before: Option<Duration>) -> CircuitMemory {
        let open_for = open_for.max(not_before.unwrap_or_default());
        self.memory.open_for_ms = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
        self.memory.probe_at = Some(now.plus(open_for));
        self.enter(CircuitState::Open, now)
    }

    fn close(&mut self, now: Timestamp) -> CircuitMemory {
        (self.memory.probe_at, self.memory.open_for_ms) = (None, 0);
        self.recent.clear();
        self.enter(CircuitState::Closed, now)
    }

    fn enter(&mut self, state: CircuitState, now: Timestamp) -> CircuitMemory {
        (self.memory.state, self.memory.since) = (state, now);
        self.generation += 1;
        self.probing = false;
        self.memory.clone()
    }

    fn count(&mut self, now: Timestamp, succeeded: bool) {
        if self.memory.state != CircuitState::Closed {
            return;
        }
        let slot = now.0.div_euclid(SLOT);
        self.forget_old(slot);
        if self.recent.back().is_none_or(|&(last, ..)| last != slot) {
            self.recent.push_back((slot, 0, 0));
        }
        if let Some((_, good, bad)) = self.recent.back_mut() {
            let count = if succeeded { good } else { bad };
            *count = count.saturating_add(1);
        }
    }

    /// Also forgets slots of a future from which the clock came back.
    fn forget_old(&mut self, slot: i64) {
        let slots = WINDOW.as_millis() as i64 / SLOT;
        self.recent.retain(|&(then, ..)| then <= slot && then > slot - slots);
    }

    fn is_enough(&mut self, now: Timestamp) -> bool {
        self.forget_old(now.0.div_euclid(SLOT));
        let (good, bad) =
            self.recent.iter().fold((0u64, 0u64), |(good, bad), &(_, g, b)| (good + u64::from(g), bad + u64::from(b)));
        let (all, volume, rate) = (good + bad, u64::from(VOLUME), u64::from(FAILURE_RATE));
        self.failures_in_a_row >= self.settings.failures || (all >= volume && bad * 100 >= all * rate)
    }
}

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// One attempt.
    Probe,
    Nothing,
}

#[cfg(test)]
mod tests;
