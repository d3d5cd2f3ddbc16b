//! What a delivery was told: the latest of each signal, not a queue of them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::id::{Offset, TargetName};
use crate::policy::circuit::CircuitOrder;
use crate::receipt::{Cause, Entry};

/// What only the delivery itself can carry out; each is answered when that is done.
#[derive(Debug)]
pub enum Ask {
    Ticket(Answer),
    Circuit(Order),
    Replay(Replay),
}

impl Ask {
    /// Says that it will not be carried out.
    pub(crate) fn refuse(self, why: &str) {
        let why = why.to_owned();
        let _ = match self {
            Self::Ticket(Answer { done, .. }) | Self::Circuit(Order { done, .. }) => done.send(Err(why)).is_ok(),
            Self::Replay(Replay { done, .. }) => done.send(Err(NotReplayed::GivenUp(why))).is_ok(),
        };
    }
}

/// An operator's order to the circuit.
#[derive(Debug)]
pub struct Order {
    pub order: CircuitOrder,
    pub by: String,
    pub note: Option<String>,
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Deliver this dead letter; answered when it is delivered or given up again.
#[derive(Debug)]
pub struct Replay {
    pub letter: u64,
    pub done: oneshot::Sender<Result<(), NotReplayed>>,
}

/// Why a dead letter is still one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayed {
    #[error("a replay of dead letter {0} is under way")]
    UnderWay(u64),
    #[error("there is no dead letter {0} of this target")]
    Gone(u64),
    #[error("refused again: {0}")]
    Refused(String),
    /// A policy says no, still.
    #[error("{0}")]
    Blocked(String),
    #[error("{0}")]
    GivenUp(String),
}

/// An operator's answer to a ticket of this target.
#[derive(Debug)]
pub struct Answer {
    pub ticket: u64,
    pub cause: Cause,
    pub action: TicketAction,
    pub by: String,
    pub note: Option<String>,
    pub done: oneshot::Sender<Result<(), String>>,
}

impl Answer {
    /// The record that closes the ticket with this answer.
    pub(super) fn closed(&self) -> Entry {
        Entry::TicketResolved {
            ticket: self.ticket,
            action: self.action.as_str(),
            by: Some(self.by.clone()),
            note: self.note.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketAction {
    Retry,
    Skip,
    Resolve,
}

impl TicketAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Resolve => "resolve",
        }
    }
}

/// What one target did with what was waiting when a run was asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunReport {
    pub target: String,
    pub delivered: u64,
    pub failed: u64,
    pub waiting: u64,
    pub error: Option<String>,
}

/// Signals to a delivery. Each overwrites the one before it, so a full mailbox can lose nothing.
#[derive(Debug, Default)]
pub(crate) struct Control {
    changed: Notify,
    frontier: Cell<Offset>,
    paused: Cell<bool>,
    stopping: Cell<bool>,
    /// Somebody wants an attempt now, whatever the back-off says.
    hurry: Cell<bool>,
    reports: RefCell<Vec<oneshot::Sender<RunReport>>>,
    asks: RefCell<Vec<Ask>>,
    /// When the oldest attempt that is under way began.
    under_way: Cell<Option<Instant>>,
}

/// Run requests, and asks, that may wait for one delivery.
const WAITERS: usize = 64;

impl Control {
    /// As an actor begins. `hurry`: it tries at once, whatever the circuit says.
    pub fn new(frontier: Offset, paused: bool, hurry: bool) -> Self {
        let (frontier, paused, hurry) = (Cell::new(frontier), Cell::new(paused), Cell::new(hurry));
        Self { frontier, paused, hurry, ..Self::default() }
    }

    pub fn release(&self, frontier: Offset) {
        self.frontier.set(self.frontier.get().max(frontier));
        self.changed.notify_one();
    }

    pub fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.changed.notify_one();
    }

    pub fn stop(&self) {
        self.stopping.set(true);
        self.changed.notify_one();
    }

    /// An attempt now; `report` is answered when what waits has been tried.
    pub fn run_now(&self, frontier: Offset, report: oneshot::Sender<RunReport>) {
        if self.reports.borrow().len() < WAITERS {
            self.reports.borrow_mut().push(report);
        }
        self.hurry.set(true);
        self.release(frontier);
    }

    pub fn ask(&self, ask: Ask) {
        if self.asks.borrow().len() >= WAITERS {
            return ask.refuse("busy: too many orders wait for this delivery; ask again in a moment");
        }
        self.asks.borrow_mut().push(ask);
        self.changed.notify_one();
    }

    /// Says when the oldest attempt that is under way began; returns what was said before.
    pub fn under_way_since(&self, began: Option<Instant>) -> Option<Instant> {
        self.under_way.replace(began)
    }

    /// For how long the oldest attempt has been under way.
    pub fn under_way(&self) -> Duration {
        self.under_way.get().map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// An attempt now, whatever schedule and back-off say.
    pub fn hurry(&self) {
        self.hurry.set(true);
        self.changed.notify_one();
    }

    pub fn frontier(&self) -> Offset {
        self.frontier.get()
    }
    pub fn paused(&self) -> bool {
        self.paused.get()
    }
    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }
    pub fn take_hurry(&self) -> bool {
        self.hurry.replace(false)
    }
    pub fn hurried(&self) -> bool {
        self.hurry.get()
    }
    pub fn take_reports(&self) -> Vec<oneshot::Sender<RunReport>> {
        self.reports.take()
    }
    pub fn take_asks(&self) -> Vec<Ask> {
        self.asks.take()
    }

    /// Tells those who asked for a run that it can't be had.
    pub fn give_up(&self, target: &TargetName, failure: &Failure) {
        self.take_hurry();
        for waiter in self.take_reports() {
            let error = Some(failure.message.clone());
            let _ = waiter.send(RunReport { target: target.to_string(), delivered: 0, failed: 0, waiting: 0, error });
        }
    }

    /// Until `wait` is over, or somebody wants an attempt or the end now.
    pub async fn pause_for(&self, wait: Duration) {
        let urgent = async {
            while !self.stopping() && !self.hurried() {
                self.changed().await;
            }
        };
        let _ = tokio::time::timeout(wait, urgent).await;
    }

    /// Until it was told to stop.
    pub async fn stopped(&self) {
        while !self.stopping() {
            self.changed().await;
        }
    }

    /// Until something was said since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
