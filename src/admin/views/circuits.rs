//! Targets: how each is, whether traffic may flow to it, and what an operator may order.

use hms_actors::id::Offset;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Moment;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CircuitList {
    pub circuits: Vec<TargetView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetView {
    pub recipe: String,
    pub target: String,
    /// `rest`, `sftp` or `file`.
    pub adapter: String,
    /// Of the circuit.
    pub state: CircuitState,
    /// When the circuit came into this state.
    pub since: Moment,
    /// Failed attempts since the last success.
    pub consecutive_failures: u32,
    /// How often the circuit went from closed to open.
    pub opened_total: u64,
    /// Of an open circuit: when the next real delivery goes as the probe.
    pub next_probe_at: Option<Moment>,
    pub last_error: Option<String>,
    /// The oldest offset that is not settled.
    pub checkpoint: Offset,
    pub backlog: u64,
    /// When the oldest of them was published.
    pub oldest_waiting_at: Option<Moment>,
    pub in_flight: u64,
    /// Of the delivery's actor.
    pub mailbox: MailboxView,
    /// Absent where the recipe sets no limit.
    pub rate_limit: Option<RateLimitView>,
    /// Of the delivery's actor, by its supervisor.
    pub restarts: u64,
    pub guarantee: Guarantee,
    pub activity: Activity,
    /// When it is tried again, after a failure.
    pub next_attempt_at: Option<Moment>,
    /// Number of the ticket that a human has to answer before anything is sent.
    pub held_by_ticket: Option<u64>,
}

/// Whether traffic may flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// It flows.
    Closed,
    /// Nothing is sent before the next probe.
    Open,
    /// The probe is under way.
    HalfOpen,
    /// An operator opened it; only an operator closes it.
    ForcedOpen,
}

/// Messages that wait for an actor. They are signals, never events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MailboxView {
    pub depth: u64,
    pub capacity: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateLimitView {
    /// Requests a second.
    pub rate: f64,
    pub burst: u32,
    /// Requests that may start now.
    pub available: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Files with one writer.
    ExactlyOnce,
    /// A partner that honours the idempotency key.
    EffectivelyOnce,
    /// A partner that does not.
    AtLeastOnce,
    /// Rows in doubt are written again.
    AtLeastOnceOnDoubt,
}

/// What a target's delivery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Nothing waits, or the schedule's next run is not due.
    Idle,
    Delivering,
    /// After a failure, until the next attempt.
    BackingOff,
    /// Nothing goes through an open circuit before the next probe.
    CircuitOpen,
    /// Until a human answers the ticket.
    Held,
    Paused,
    /// Its actor is being rebuilt.
    Restarting,
    /// Its actor died too often: left alone until an operator revives it, or a longer pause has passed.
    Quarantined,
}

/// An operator's order to a circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitOrder {
    pub action: CircuitAction,
    /// Why, for the audit.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CircuitAction {
    /// Send nothing before it is closed again: maintenance.
    Open,
    /// Let traffic flow.
    Close,
    /// Send one delivery now, to see whether the partner is back.
    Probe,
}
