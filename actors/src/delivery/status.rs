//! What can be seen of a delivery actor: one snapshot for tests, the admin endpoint and the command line.

use serde::Serialize;

use crate::failure::{Failure, FailureKind};
use crate::id::{Epoch, Offset, TargetName, Timestamp};

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
    /// A human must answer a ticket first.
    Held,
    Paused,
    /// Died, and is about to be started again.
    Down,
}

/// One target, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// The ticket that holds it.
    pub held_by: Option<u64>,
    pub restarts: u64,
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
            held_by: None,
            restarts: 0,
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
