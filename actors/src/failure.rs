//! The one vocabulary of failures. Each adapter translates its protocol into it in one function
//! (`classify.rs`); what a failure means is decided here in the heart.

use std::time::Duration;

use serde::Serialize;

/// What kind of failure it is, which decides what happens next (docs/delivery.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The partner or the way to it: the same delivery again after a back-off.
    Transient,
    /// The partner asked for time (`Retry-After`).
    Throttled,
    /// Ours or theirs to mend (credentials, host key, address, permission): everything waits, no event is to blame.
    Configuration,
    /// This event is refused; the next may go on where the target allows it.
    Refused,
    /// Nobody can know whether rows arrived or were read: held until a human says.
    Doubt,
    /// A policy says no: nothing was sent. No attempt, so it concerns neither the circuit nor the count of failures.
    Blocked,
    /// The node itself can't go on (store, disk): nothing was sent.
    Node,
    /// A newer incarnation has taken over: this one ends.
    Fenced,
}

impl FailureKind {
    /// The label of `sync_fail_total{kind}` and of the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Configuration => "configuration",
            Self::Refused => "refused",
            Self::Doubt => "doubt",
            Self::Blocked => "blocked",
            Self::Node => "node",
            Self::Fenced => "fenced",
        }
    }
}

/// A failed attempt, in words an operator can act on. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// How long the partner asked us to wait.
    pub retry_after: Option<Duration>,
    /// The partner answered: it is known that this attempt had no effect. False after a timeout, a reset
    /// or anything else that leaves it open whether the bytes had an effect.
    pub definite: bool,
    /// The partner says that it has this already, or has it under way: after an attempt of unknown outcome that
    /// is no refusal.
    pub conflict: bool,
    /// SHA-256 of the bytes that were tried, if it came to bytes.
    pub payload_sha256: Option<[u8; 32]>,
}

impl Failure {
    fn new(kind: FailureKind, definite: bool, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, definite, conflict: false, payload_sha256: None }
    }
    /// Says which bytes were tried.
    pub fn of(self, payload_sha256: [u8; 32]) -> Self {
        Self { payload_sha256: Some(payload_sha256), ..self }
    }
    /// A failure after which nobody knows whether the bytes had an effect.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient, false, message)
    }
    /// A transient failure before anything was sent, or with a definite answer.
    pub fn transient_definite(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient, true, message)
    }
    pub fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(FailureKind::Throttled, true, message) }
    }
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Configuration, true, message)
    }
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, true, message)
    }
    /// Refused because it would be there twice.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { conflict: true, ..Self::refused(message) }
    }
    pub fn doubt(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Doubt, false, message)
    }
    /// A policy says no to what was begun.
    pub fn blocked(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Blocked, true, message)
    }
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Fenced, false, message)
    }
    pub fn node(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Node, true, message)
    }
}
