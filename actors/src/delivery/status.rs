//! What can be seen of a delivery actor: one snapshot for tests, the admin endpoint and the command line.

use serde::Serialize;

use crate::failure::{Failure, FailureKind};
use crate::id::{Epoch, Offset, TargetName, Timestamp};
use crate::policy::circuit::CircuitMemory;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opening its ledger, or waiting to be started again.
    #[default]
    Starting,
    /// Nothing to do before the next run.
    Idle,
    Delivering,
    BackingOff,
    /// The circuit is open: nothing goes before the next probe.
    CircuitOpen,
    /// A human must answer a ticket first.
    Held,
    Paused,
    /// Died, and is about to be started again.
    Down,
    /// Died too often: left alone for a while, or until an operator revives it.
    Quarantined,
}

/// One target, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStatus {
    pub target: TargetName,
    pub phase: Phase,
    pub since: Timestamp,
    pub epoch: Epoch,
    /// The oldest event that is not settled.
    pub checkpoint: Offset,
    /// Events that wait, whether released by a run or not.
    pub backlog: u64,
    pub in_flight: usize,
    pub consecutive_failures: u32,
    pub delivered: u64,
    pub failed_attempts: u64,
    pub last_error: Option<String>,
    pub last_error_kind: Option<FailureKind>,
    pub last_error_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub circuit: CircuitMemory,
    /// `None`: no limit.
    pub rate: Option<RateStatus>,
    pub mailbox: Mailbox,
    /// Dead letters that are being delivered.
    pub replaying: Vec<u64>,
    /// The ticket that holds it.
    pub held_by: Option<u64>,
    pub restarts: u64,
    pub last_panic: Option<Panic>,
    /// While it is quarantined: when it is revived by itself.
    pub revived_at: Option<Timestamp>,
}

/// A rate limit, and how many requests may start now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateStatus {
    pub per_second: f64,
    pub burst: u32,
    pub available: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Mailbox {
    pub depth: usize,
    pub capacity: usize,
}

/// How an actor died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Panic {
    pub at: Timestamp,
    /// Message and place, or that it hung.
    pub what: String,
}

/// What a delivery shows of itself, over all its incarnations. Small, because they are many.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub phase: Phase,
    pub since: Timestamp,
    pub epoch: Epoch,
    pub checkpoint: Offset,
    pub backlog: u64,
    pub in_flight: usize,
    pub consecutive_failures: u32,
    pub delivered: u64,
    pub failed_attempts: u64,
    error: Option<Box<LastError>>,
    pub next_attempt_at: Option<Timestamp>,
    pub circuit: CircuitMemory,
    pub rate: Option<RateStatus>,
    pub replaying: Box<[u64]>,
    pub held_by: Option<u64>,
}

#[derive(Debug)]
struct LastError {
    message: String,
    /// What an earlier process has recorded has neither.
    kind: Option<FailureKind>,
    at: Option<Timestamp>,
}

impl Live {
    pub fn new(now: Timestamp) -> Self {
        Self { since: now, ..Self::default() }
    }

    pub fn enter(&mut self, phase: Phase, now: Timestamp) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
        if phase != Phase::BackingOff {
            self.next_attempt_at = None;
        }
    }

    pub fn failed(&mut self, failure: &Failure, now: Timestamp) {
        let (message, kind, at) = (failure.message.clone(), Some(failure.kind), Some(now));
        self.error = Some(Box::new(LastError { message, kind, at }));
    }

    pub fn succeeded(&mut self) {
        self.error = None;
        self.consecutive_failures = 0;
    }

    /// What the records say was its last error, unless a later one is known.
    pub fn remember(&mut self, error: Option<&str>) {
        let known = self.error.take();
        let error = error.map(|error| LastError { message: error.to_owned(), kind: None, at: None });
        self.error = known.or(error.map(Box::new));
    }

    pub fn last_error(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.message.as_str())
    }

    /// Events delivered, and those in failed attempts.
    pub fn counted(&self) -> (u64, u64) {
        (self.delivered, self.failed_attempts)
    }

    /// Without what its supervisor knows: how it died.
    pub fn snapshot(&self, target: TargetName, mailbox: Mailbox) -> TargetStatus {
        let error = self.error.as_deref();
        TargetStatus {
            target,
            phase: self.phase,
            since: self.since,
            epoch: self.epoch,
            checkpoint: self.checkpoint,
            backlog: self.backlog,
            in_flight: self.in_flight,
            consecutive_failures: self.consecutive_failures,
            delivered: self.delivered,
            failed_attempts: self.failed_attempts,
            last_error: error.map(|error| error.message.clone()),
            last_error_kind: error.and_then(|error| error.kind),
            last_error_at: error.and_then(|error| error.at),
            next_attempt_at: self.next_attempt_at,
            circuit: self.circuit.clone(),
            rate: self.rate,
            mailbox,
            replaying: self.replaying.to_vec(),
            held_by: self.held_by,
            restarts: 0,
            last_panic: None,
            revived_at: None,
        }
    }
}
