//! Tickets: what a human has to decide, and the answers.

use hms_actors::receipt::Cause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Moment;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TicketList {
    pub tickets: Vec<TicketView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TicketView {
    pub number: u64,
    pub state: TicketState,
    pub recipe: String,
    pub target: String,
    #[schemars(with = "String")]
    pub cause: Cause,
    pub reason: String,
    pub opened_at: Moment,
    pub resolved_at: Option<Moment>,
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    Open,
    Resolved,
}

/// A human's answer to a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketAnswer {
    pub action: TicketAction,
    /// What the human found out. A doubt ticket is resolved only with one.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketAction {
    /// Doubt: the rows did not arrive, write them again. Otherwise: try now.
    Retry,
    /// Doubt: make dead letters of them. Otherwise: only of what failed last.
    Skip,
    /// Doubt: they arrived, settle them. Otherwise: close the ticket.
    Resolve,
}
