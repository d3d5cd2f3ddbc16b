//! What a delivery was told: the latest of each signal, not a queue of them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::failure::Failure;
use crate::id::{Offset, TargetName};
use crate::receipt::Cause;

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
    answers: RefCell<Vec<Answer>>,
}

/// Run requests and answers that may wait for one delivery.
const WAITERS: usize = 64;

impl Control {
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

    pub fn answer(&self, answer: Answer) {
        if self.answers.borrow().len() < WAITERS {
            self.answers.borrow_mut().push(answer);
        }
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
    pub fn take_answers(&self) -> Vec<Answer> {
        self.answers.take()
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

    /// Until something was said since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
