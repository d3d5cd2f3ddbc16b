//! Who watches whom, as it is now: the snapshot that the admin endpoint shows.

use actix::{Handler, Message};
use serde::Serialize;

use super::{Child, RecipeSupervisor};
use crate::delivery::{Mailbox, Panic};
use crate::id::{Epoch, Timestamp};

/// One actor with its children.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActorSnapshot {
    pub name: String,
    pub kind: Kind,
    pub state: State,
    /// How often it died.
    pub restarts: u64,
    /// Deliveries only: what is under way under an older one can settle nothing.
    pub epoch: Option<Epoch>,
    pub last_panic: Option<Panic>,
    /// Deliveries only.
    pub mailbox: Option<Mailbox>,
    /// While it is quarantined or down: when it is started again by itself.
    pub revived_at: Option<Timestamp>,
    pub children: Vec<ActorSnapshot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Node,
    RecipeSupervisor,
    FeedReader,
    Delivery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    /// It died, and is about to be started again.
    Restarting,
    /// It died too often: its siblings go on without it.
    Quarantined,
    /// It was told to stop and lets what is in flight end.
    Stopping,
    /// A supervisor that died too often.
    Down,
    /// Its thread is held up by something. A thread can't be ended from outside: systemd's watchdog ends the process.
    NotAnswering,
}

impl ActorSnapshot {
    pub(crate) fn new(name: &str, kind: Kind, state: State) -> Self {
        let name = name.to_owned();
        Self {
            name,
            kind,
            state,
            restarts: 0,
            epoch: None,
            last_panic: None,
            mailbox: None,
            revived_at: None,
            children: Vec::new(),
        }
    }
}

/// The children of a supervisor.
#[derive(Message)]
#[rtype(result = "Vec<ActorSnapshot>")]
pub(crate) struct Branch;

impl Handler<Branch> for RecipeSupervisor {
    type Result = Vec<ActorSnapshot>;

    fn handle(&mut self, _: Branch, _: &mut Self::Context) -> Self::Result {
        let watch = &self.reader.watch;
        let state = if self.reader.addr.is_some() { State::Running } else { State::Restarting };
        let reader = ActorSnapshot {
            restarts: watch.restarts(),
            last_panic: watch.last_panic().cloned(),
            ..ActorSnapshot::new(self.settings.feed.as_str(), Kind::FeedReader, state)
        };
        std::iter::once(reader).chain(self.targets.values().map(|child| child.as_actor())).collect()
    }
}

impl Child {
    fn state(&self) -> State {
        match () {
            () if self.told_to_stop => State::Stopping,
            () if self.post.is_some() => State::Running,
            () if self.watch.revived_at().is_some() => State::Quarantined,
            () => State::Restarting,
        }
    }

    fn as_actor(&self) -> ActorSnapshot {
        ActorSnapshot {
            restarts: self.watch.restarts(),
            epoch: Some(self.status.borrow().epoch),
            last_panic: self.watch.last_panic().cloned(),
            mailbox: Some(self.mailbox()),
            revived_at: self.watch.revived_at(),
            ..ActorSnapshot::new(self.settings.name.as_str(), Kind::Delivery, self.state())
        }
    }
}
