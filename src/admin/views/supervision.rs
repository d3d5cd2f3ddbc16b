//! The tree of actors: who watches whom, and how they are.

use hms_actors::id::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MailboxView, Moment};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SupervisionView {
    /// The node; everybody else is below it.
    pub supervision: ActorView,
}

/// An actor and those whom it watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActorView {
    pub name: String,
    pub kind: ActorKind,
    pub state: ActorState,
    pub restarts: u64,
    /// Of this incarnation; what an older one has in flight can settle nothing. Null for those who settle nothing.
    pub epoch: Option<Epoch>,
    pub last_panic: Option<PanicView>,
    /// Null where it is not measured.
    pub mailbox: Option<MailboxView>,
    /// Null for the node: the operating system watches that one.
    pub watched_by: Option<String>,
    /// Of one in quarantine: when it is started again by itself.
    pub revived_at: Option<Moment>,
    pub children: Vec<ActorView>,
}

impl ActorView {
    /// One that runs, has never died and watches nobody.
    pub fn new(kind: ActorKind, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            state: ActorState::Running,
            restarts: 0,
            epoch: None,
            last_panic: None,
            mailbox: None,
            watched_by: None,
            revived_at: None,
            children: Vec::new(),
        }
    }

    /// The same, watching over these.
    pub fn watching(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        let watched = |child| Self { watched_by: Some(self.name.clone()), ..child };
        self.children = children.into_iter().map(watched).collect();
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    Node,
    RecipeSupervisor,
    FeedReader,
    Delivery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    Running,
    /// Its supervisor builds a new one, after a pause.
    Restarting,
    /// It died too often: left alone until an operator, or a longer pause, revives it.
    Quarantined,
    /// It was told to end, and has work in flight.
    Stopping,
    /// It is not there, or does not answer.
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PanicView {
    pub at: Moment,
    pub message: String,
}
