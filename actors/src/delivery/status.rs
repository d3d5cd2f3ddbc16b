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

impl TargetStatus {
    pub fn new(target: TargetName, now: Timestamp) -> Self {
        Self {
            target,
            phase: Phase::Starting,
            since: now,
            epoch: 0,
            checkpoint: 0,
            backlog: 0,
            in_flight: 0,
            consecutive_failures: 0,
            delivered: 0,
            failed_attempts: 0,
            last_error: None,
            last_error_kind: None,
            last_error_at: None,
            next_attempt_at: None,
            circuit: CircuitMemory::default(),
            rate: None,
            mailbox: Mailbox::default(),
            replaying: Vec::new(),
            held_by: None,
            restarts: 0,
            last_panic: None,
            revived_at: None,
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Timestamp) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
        if phase != Phase::BackingOff {
            self.next_attempt_at = None;
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure, now: Timestamp) {
        self.last_error = Some(failure.message.clone());
        self.last_error_kind = Some(failure.kind);
        self.last_error_at = Some(now);
    }

    pub(crate) fn succeeded(&mut self) {
        self.last_error = None;
        self.last_error_kind = None;
        self.last_error_at = None;
        self.consecutive_failures = 0;
    }
}
