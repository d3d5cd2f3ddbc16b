//! What both lanes of a delivery share: the incarnation, its checkpoint, its back-off, and the ways in
//! which outcomes are recorded.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::control::{Answer, Control, RunReport};
use super::status::{Phase, TargetStatus};
use super::{Ended, Start};
use crate::event::{Event, EventRef};
use crate::failure::{Failure, FailureKind};
use crate::id::{Epoch, FeedName, Offset, TargetKey, Timestamp};
use crate::policy::backoff::Backoff;
use crate::policy::runs::Runs;
use crate::receipt::{Cause, Entry};
use crate::runtime::Env;
use crate::settings::{MAX_AHEAD, TargetSettings};
use crate::settled::Settled;
use crate::work::Work;

/// How much of the log is read in one go.
const READ_BYTES: usize = 2 * 1024 * 1024;

pub(super) struct Base {
    pub key: TargetKey,
    pub feed: FeedName,
    pub settings: TargetSettings,
    pub env: Env,
    pub epoch: Epoch,
    pub settled: Settled,
    pub control: Rc<Control>,
    pub backoff: Backoff,
    /// The open doubt ticket, which holds the target until a human answers.
    pub held_by: Option<u64>,
    head: watch::Receiver<Offset>,
    resume_at: Option<Instant>,
    rng: SmallRng,
    status: Rc<RefCell<TargetStatus>>,
    runs: Rc<RefCell<Runs>>,
    quiet: Rc<tokio::sync::Notify>,
    /// `(delivered, failed attempts)` when the waiting run requests began to be served.
    counted: (u64, u64),
}

impl Base {
    /// Begins an incarnation with what the ledger knows.
    pub async fn open(start: &Start, control: &Rc<Control>) -> Result<(Self, Option<Work>), Failure> {
        let opened = start.env.ledger.open(&start.key).await?;
        start.runs.borrow_mut().enter(&start.key.target, opened.settled.clone());
        let held_by = start.env.ledger.held_by(&start.key);
        let counted = {
            let mut status = start.status.borrow_mut();
            (status.epoch, status.held_by) = (opened.epoch, held_by);
            (status.delivered, status.failed_attempts)
        };
        let base = Self {
            key: start.key.clone(),
            feed: start.feed.clone(),
            settings: start.settings.clone(),
            env: start.env.clone(),
            epoch: opened.epoch,
            settled: opened.settled,
            control: control.clone(),
            backoff: Backoff::default(),
            held_by,
            head: start.env.log.head(&start.feed),
            resume_at: None,
            rng: SmallRng::from_rng(&mut rand::rng()),
            status: start.status.clone(),
            runs: start.runs.clone(),
            quiet: start.quiet.clone(),
            counted,
        };
        Ok((base, opened.work))
    }

    /// Notices what time and signals have changed: a back-off ends by itself, or because somebody asked for a run;
    /// then true.
    pub fn refresh(&mut self) -> bool {
        self.resume_at = self.resume_at.filter(|&at| at > Instant::now());
        let hurried = self.control.take_hurry();
        if hurried {
            self.resume_at = None;
            let status = self.status.borrow();
            self.counted = (status.delivered, status.failed_attempts);
        }
        hurried
    }

    /// Whether an attempt may be made now.
    pub fn may_send(&self) -> bool {
        !self.control.paused() && !self.control.stopping() && self.held_by.is_none() && self.resume_at.is_none()
    }

    /// The first offset that may not go yet.
    pub fn until(&self) -> Offset {
        self.control.frontier().min(self.settled.below().saturating_add(MAX_AHEAD))
    }

    /// The next unsettled events, and the offset from which to read on.
    pub async fn read(&self, from: Offset, until: Offset, max_events: usize) -> Result<(Vec<Event>, Offset), Failure> {
        let mut events = self.env.log.read(&self.feed, from, until, max_events, READ_BYTES).await?;
        let next = events.last().map_or(until, |event| event.offset + 1);
        events.retain(|event| !self.settled.contains(event.offset));
        Ok((events, next))
    }

    /// Events at these offsets, in order.
    pub async fn read_each(&self, offsets: &[Offset]) -> Result<Vec<Event>, Failure> {
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return Ok(Vec::new()) };
        let mut events = Vec::with_capacity(offsets.len());
        let mut from = first;
        while from <= last {
            let read = self.env.log.read(&self.feed, from, last + 1, offsets.len().max(64), READ_BYTES).await?;
            let Some(end) = read.last().map(|event| event.offset + 1) else { break };
            events.extend(read.into_iter().filter(|event| offsets.binary_search(&event.offset).is_ok()));
            from = end;
        }
        Ok(events)
    }

    pub fn commit(&self, entries: Vec<Entry>) -> impl Future<Output = Ended> + use<> {
        let (ledger, key, epoch) = (self.env.ledger.clone(), self.key.clone(), self.epoch);
        async move { ledger.commit(&key, epoch, entries).await }
    }

    pub async fn begin(&self, work: Work) -> Ended {
        self.env.ledger.begin(&self.key, self.epoch, work).await
    }

    /// An attempt delivered these events, and that is on disk. `clean`: nothing else has failed and waits for its retry.
    pub fn delivered(&mut self, events: impl IntoIterator<Item = (Offset, Timestamp)>, clean: bool) {
        self.backoff.succeeded();
        if clean {
            self.status.borrow_mut().succeeded();
        }
        let count = self.settle(events, true);
        self.env.witness.attempted(&self.key, None, count);
    }

    /// These events are settled, and that is on disk.
    pub fn settle(&mut self, events: impl IntoIterator<Item = (Offset, Timestamp)>, delivered: bool) -> u64 {
        let now = self.env.clock.now();
        let mut count = 0;
        for (offset, published) in events {
            if self.settled.insert(offset) {
                count += 1;
                self.runs.borrow_mut().settled(&self.key.target, offset, delivered);
                if delivered {
                    self.env.witness.delivered(&self.key, now.since(published));
                }
            }
        }
        if delivered {
            self.status.borrow_mut().delivered += count;
        }
        count
    }

    /// An attempt at these events failed, and the audit says so.
    pub async fn failed(&mut self, failure: &Failure, events: &[EventRef], attempt: u32) -> Ended {
        let now = self.env.clock.now();
        self.runs.borrow_mut().failed(events.iter().map(|event| event.offset));
        self.env.witness.attempted(&self.key, Some(failure.kind), events.len() as u64);
        {
            let mut status = self.status.borrow_mut();
            status.failed(failure, now);
            status.failed_attempts += events.len() as u64;
            status.consecutive_failures += 1;
        }
        tracing::warn!(delivery = %self.key, attempt, kind = failure.kind.as_str(), "delivery failed: {}", failure.message);
        let Some(first) = events.first() else { return Ok(()) };
        // A node that can't write can't write this either.
        if failure.kind == FailureKind::Node {
            return Ok(());
        }
        self.commit(vec![Entry::AttemptFailed {
            event: first.clone(),
            events: u32::try_from(events.len()).unwrap_or(u32::MAX),
            attempt,
            payload_sha256: failure.payload_sha256,
            kind: failure.kind,
            error: failure.message.clone(),
        }])
        .await
    }

    /// The next attempt waits. Failures of attempts that were under way together count as one.
    pub fn back_off(&mut self, failure: &Failure) {
        if self.resume_at.is_some() {
            return;
        }
        let wait = self.backoff.failed(failure.retry_after, &mut self.rng);
        self.resume_at = Some(Instant::now() + wait);
        self.status.borrow_mut().next_attempt_at = Some(self.env.clock.now().plus(wait));
    }

    /// Says why nothing new is begun, though nothing has failed just now.
    pub fn complain(&self, why: String) {
        self.status.borrow_mut().failed(&Failure::refused(why), self.env.clock.now());
    }

    /// How long a failure of its own makes one delivery wait.
    pub fn own_wait(&mut self, backoff: &mut Backoff, failure: &Failure) -> Duration {
        backoff.failed(failure.retry_after, &mut self.rng)
    }

    /// Holds the target until a human answers.
    pub async fn hold(&mut self, failure: &Failure, attempts: u32) -> Ended {
        let reason = failure.message.clone();
        let backlog = self.status.borrow().backlog;
        let ticket = Entry::TicketOpened { cause: Cause::Doubt, last_error: reason.clone(), reason, attempts, backlog };
        self.commit(vec![ticket]).await?;
        self.held_by = self.env.ledger.held_by(&self.key);
        self.status.borrow_mut().held_by = self.held_by;
        Ok(())
    }

    /// An answer was carried out.
    pub fn answered(&mut self) {
        self.held_by = None;
        self.resume_at = None;
        self.status.borrow_mut().held_by = None;
    }

    pub fn answers(&self) -> Vec<Answer> {
        self.control.take_answers()
    }

    /// Waits for a signal or for the end of the back-off, or `until`.
    pub async fn wait(&self, until: Option<Instant>) {
        let until = match (self.resume_at, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match until {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.control.changed() => {}
                }
            }
            None => self.control.changed().await,
        }
    }

    /// Says what it does now, to all who look. `busy` while there is something in flight or to be tried at once.
    pub fn show(&mut self, in_flight: usize, busy: bool) {
        let head = *self.head.borrow();
        let phase = if in_flight > 0 {
            Phase::Delivering
        } else if self.control.paused() {
            Phase::Paused
        } else if self.held_by.is_some() {
            Phase::Held
        } else if self.resume_at.is_some() {
            Phase::BackingOff
        } else if busy {
            Phase::Delivering
        } else {
            Phase::Idle
        };
        {
            let mut status = self.status.borrow_mut();
            let next = status.next_attempt_at;
            status.enter(phase, self.env.clock.now());
            status.next_attempt_at = next.filter(|_| phase == Phase::BackingOff);
            status.in_flight = in_flight;
            status.checkpoint = self.settled.below();
            status.backlog = self.settled.waiting(head);
        }
        self.runs.borrow_mut().set_busy(&self.key.target, busy || in_flight > 0);
        if !busy && in_flight == 0 {
            self.report();
            self.quiet.notify_one();
        }
    }

    /// Answers those who asked for a run: what waited has been tried.
    fn report(&mut self) {
        if self.control.hurried() {
            return;
        }
        let status = self.status.borrow();
        let now = (status.delivered, status.failed_attempts);
        for waiter in self.control.take_reports() {
            let error = match (self.held_by, self.control.paused()) {
                (Some(ticket), _) => {
                    Some(format!("held by ticket {ticket}: {}", status.last_error.as_deref().unwrap_or("in doubt")))
                }
                (None, true) => Some("paused".to_owned()),
                (None, false) => status.last_error.clone(),
            };
            let _ = waiter.send(RunReport {
                target: self.key.target.to_string(),
                delivered: now.0 - self.counted.0,
                failed: now.1 - self.counted.1,
                waiting: self.settled.waiting(self.control.frontier()),
                error,
            });
        }
        self.counted = now;
    }
}
