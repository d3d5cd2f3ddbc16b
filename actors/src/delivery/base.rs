//! What both lanes of a delivery share: the incarnation, its checkpoint, its circuit and rate limit, and the
//! ways in which outcomes are recorded.

mod failing;
mod governing;
mod orders;
mod showing;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::pacer::Pacer;
use super::{Ended, Start};
use crate::event::Event;
use crate::failure::Failure;
use crate::head::FeedHead;
use crate::id::{Epoch, Offset, Timestamp};
use crate::policy::backoff::Backoff;
use crate::policy::circuit::{Circuit, CircuitMemory, CircuitOrder, CircuitState, Permit, Room};
use crate::policy::rate::Rate;
use crate::ports::{OpenTicket, Standing};
use crate::receipt::{Cause, Entry};
use crate::settings::MAX_AHEAD;
use crate::settled::Settled;
use crate::work::Work;

pub(super) use failing::Failed;
use governing::Governing;
pub(super) use governing::{Blocked, Judges, MAX_HELD, No};

/// How much of the log is read in one go.
pub(super) const READ_BYTES: usize = 2 * 1024 * 1024;

/// So many different events refused, with no success between: it isn't the events.
pub const REFUSES_ALL: usize = 10;

pub(super) struct Base {
    start: Rc<Start>,
    pub epoch: Epoch,
    pub settled: Settled,
    pub circuit: Circuit,
    pub pacer: Rc<Pacer>,
    /// Those that are open, as of the last commit.
    pub tickets: Vec<OpenTicket>,
    /// Events that were refused since the last success, at most [`REFUSES_ALL`].
    refused: BTreeSet<Offset>,
    /// Refused attempts since then, at least.
    refusals: u32,
    pub judges: Rc<Judges>,
    governing: Governing,
    /// Answers in a row that asked for time.
    throttled: u32,
    /// Failures in a row that a human has closed the ticket of.
    dismissed: u32,
    backoff: Backoff,
    head: FeedHead,
    resume_at: Option<Instant>,
    /// `(delivered, failed attempts)` when the waiting run requests began to be served.
    counted: (u64, u64),
}

/// What was left to this incarnation that is its lane's.
pub(super) struct Left {
    pub work: Option<Work>,
    pub standing: Standing,
}

/// What its actor was given it has at hand.
impl Deref for Base {
    type Target = Start;

    fn deref(&self) -> &Start {
        &self.start
    }
}

impl Base {
    /// Begins an incarnation with what the ledger knows.
    pub async fn open(start: &Rc<Start>) -> Result<(Box<Self>, Box<Left>), Failure> {
        let opened = start.env.ledger.open(&start.key).await?;
        start.recipe.runs.borrow_mut().enter(&start.key.target, opened.settled.clone());
        let counted = {
            let mut status = start.status.borrow_mut();
            status.epoch = opened.epoch;
            status.remember(opened.standing.last_error.as_deref());
            status.counted()
        };
        let mut standing = opened.standing;
        let now = start.env.clock.now();
        let circuit =
            Circuit::restore(start.settings.circuit, std::mem::take(&mut standing.circuit), standing.failures_in_a_row);
        let pacer = Pacer {
            rate: RefCell::new(start.settings.rate.map(|rate| Box::new(Rate::restore(rate, opened.full_at, now)))),
            start: start.clone(),
            epoch: opened.epoch,
        };
        let mut blocked = std::mem::take(&mut standing.blocked);
        blocked.retain(|&offset, _| !opened.settled.contains(offset));
        let base = Self {
            start: start.clone(),
            judges: Judges::new(start.clone()),
            governing: Governing::of(blocked),
            epoch: opened.epoch,
            settled: opened.settled,
            circuit,
            pacer: Rc::new(pacer),
            tickets: opened.tickets,
            refusals: u32::try_from(standing.refused.len()).unwrap_or(u32::MAX),
            refused: std::mem::take(&mut standing.refused),
            throttled: 0,
            dismissed: 0,
            backoff: Backoff::default(),
            head: start.env.log.head(&start.recipe.feed),
            resume_at: standing.not_before.map(|at| Instant::now() + Backoff::capped(at.since(now))),
            counted,
        };
        Ok((Box::new(base), Box::new(Left { work: opened.work, standing })))
    }

    /// Notices what time and signals have changed: a back-off ends by itself, or because somebody asked for a run;
    /// then true.
    pub fn refresh(&mut self) -> bool {
        self.resume_at = self.resume_at.filter(|&at| at > Instant::now());
        self.circuit.look(self.env.clock.now());
        let hurried = self.control.take_hurry();
        if hurried {
            self.resume_at = None;
            self.governing.hurry();
            self.circuit.order(CircuitOrder::Probe, self.env.clock.now());
            let counted = self.status.borrow().counted();
            self.counted = counted;
        }
        hurried
    }

    /// What may be sent now, as far as the target goes; the rate limit is asked for each request.
    pub fn room(&self) -> Room {
        let waits = self.control.paused() || self.control.stopping() || self.held_by().is_some();
        if waits || self.resume_at.is_some() { Room::Nothing } else { self.circuit.room(self.env.clock.now()) }
    }

    /// The open doubt ticket, which holds the target until a human answers.
    pub fn held_by(&self) -> Option<u64> {
        self.tickets.iter().find(|ticket| ticket.cause == Cause::Doubt).map(|ticket| ticket.number)
    }

    /// The partner refuses whatever it is sent: no event is to blame.
    pub fn refuses_all(&self) -> bool {
        self.refused.len() >= REFUSES_ALL
    }

    /// The first offset that may not go yet.
    pub fn until(&self) -> Offset {
        self.control.frontier().min(self.settled.below().saturating_add(MAX_AHEAD))
    }

    /// The next unsettled events, and the offset from which to read on.
    pub async fn read(&self, from: Offset, until: Offset, max_events: usize) -> Result<(Vec<Event>, Offset), Failure> {
        let mut events = self.env.log.read(&self.recipe.feed, from, until, max_events, READ_BYTES).await?;
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
            let read = self.env.log.read(&self.recipe.feed, from, last + 1, offsets.len().max(64), READ_BYTES).await?;
            let Some(end) = read.last().map(|event| event.offset + 1) else { break };
            events.extend(read.into_iter().filter(|event| offsets.binary_search(&event.offset).is_ok()));
            from = end;
        }
        Ok(events)
    }

    /// A dead letter's own copy of its event.
    pub async fn letter(&self, number: u64) -> Result<Option<Event>, Failure> {
        self.env.ledger.letter(&self.key, number).await
    }

    /// Writes these, for something that goes on while others do.
    pub fn commit_apart(&self, entries: Vec<Entry>) -> impl Future<Output = Result<Vec<OpenTicket>, Failure>> + use<> {
        let (ledger, key, epoch) = (self.env.ledger.clone(), self.key.clone(), self.epoch);
        async move { ledger.commit(&key, epoch, entries).await }
    }

    pub async fn commit(&mut self, entries: Vec<Entry>) -> Ended {
        self.tickets = self.commit_apart(entries).await?;
        Ok(())
    }

    pub fn begin(&self, work: Work) -> impl Future<Output = Ended> + use<> {
        let (ledger, key, epoch) = (self.env.ledger.clone(), self.key.clone(), self.epoch);
        async move { ledger.begin(&key, epoch, work).await }
    }

    /// An attempt begins, where there is room for one; as a probe the circuit's record says so first.
    pub async fn begin_attempt(&mut self) -> Result<Permit, Failure> {
        let (permit, change) = self.circuit.begin(self.env.clock.now());
        if let Some(memory) = change {
            self.commit(vec![circuit(memory, "its time has passed: one delivery goes as the probe")]).await?;
        }
        Ok(permit)
    }

    /// What is written together with the receipts of an attempt that succeeded.
    pub fn recovered(&mut self, permit: Permit) -> Vec<Entry> {
        let now = self.env.clock.now();
        let mut entries = Vec::new();
        if let Some(memory) = self.circuit.succeeded(permit, now) {
            entries.push(circuit(memory, "the probe was delivered"));
        }
        // Successes of attempts that began before the circuit opened don't end an incident.
        let flows = self.circuit.state() == CircuitState::Closed;
        let over = |cause| match cause {
            _ if !flows => false,
            Cause::Outage | Cause::Configuration | Cause::Quarantine => true,
            Cause::Refused => self.refuses_all(),
            _ => false,
        };
        let (closed, open) = self.tickets.iter().partition(|ticket| over(ticket.cause));
        self.tickets = open;
        entries.extend(Vec::into_iter(closed).map(|ticket: OpenTicket| Entry::TicketResolved {
            ticket: ticket.number,
            action: "recovered",
            by: None,
            note: Some(format!("deliveries succeed again after {}", in_words(now.since(ticket.opened_at)))),
        }));
        (self.throttled, self.dismissed, self.refusals) = (0, 0, 0);
        self.refused.clear();
        self.backoff.succeeded();
        entries
    }

    /// An attempt delivered these events, and that is on disk. `clean`: nothing else has failed and waits for its retry.
    pub fn delivered(&mut self, events: impl IntoIterator<Item = (Offset, Timestamp)>, clean: bool) {
        if clean && self.governing.is_empty() {
            self.status.borrow_mut().succeeded();
        }
        let count = self.settle(events, true);
        self.env.witness.attempted(&self.key, None, count);
    }

    /// A dead letter was delivered, and that is on disk: its event was settled long ago. `clean` as above.
    pub fn redelivered(&mut self, published: Timestamp, clean: bool) {
        if clean && self.governing.is_empty() {
            self.status.borrow_mut().succeeded();
        }
        self.env.witness.attempted(&self.key, None, 1);
        self.env.witness.delivered(&self.key, self.env.clock.now().since(published), 1);
        self.status.borrow_mut().delivered += 1;
    }

    /// These events are settled, and that is on disk.
    pub fn settle(&mut self, events: impl IntoIterator<Item = (Offset, Timestamp)>, delivered: bool) -> u64 {
        let start = self.start.clone();
        let (env, key, now) = (&start.env, &start.key, start.env.clock.now());
        let mut runs = start.recipe.runs.borrow_mut();
        let mut count = 0;
        // Neighbours were mostly published together.
        let mut alike: Option<(Timestamp, u64)> = None;
        let tell = |(published, events)| env.witness.delivered(key, now.since(published), events);
        for (offset, published) in events {
            if !self.settled.insert(offset) {
                continue;
            }
            count += 1;
            self.governing.forget(offset);
            runs.settled(&key.target, offset, delivered);
            match &mut alike {
                Some((at, events)) if *at == published => *events += 1,
                before => {
                    let before = before.replace((published, 1));
                    before.into_iter().filter(|_| delivered).for_each(tell);
                }
            }
        }
        drop(runs);
        alike.into_iter().filter(|_| delivered).for_each(tell);
        if delivered {
            self.status.borrow_mut().delivered += count;
        }
        count
    }

    /// Holds the target until a human answers.
    pub async fn hold(&mut self, failure: &Failure, attempts: u32) -> Ended {
        let ticket = self.ticket(Cause::Doubt, failure.message.clone(), attempts, &failure.message);
        self.commit(vec![ticket]).await
    }

    /// A doubt was answered: the target goes on at once.
    pub fn answered(&mut self) {
        self.resume_at = None;
    }

    /// Waits for a signal, for the end of the back-off, for the next probe, or `until`.
    pub async fn wait(&self, until: Option<Instant>) {
        let probe = Some(self.circuit.wait(self.env.clock.now())).filter(|wait| !wait.is_zero());
        let probe = probe.map(|wait| Instant::now() + wait);
        match [self.resume_at, probe, until].into_iter().flatten().min() {
            // Boxed: most wait for no moment, and are many.
            Some(at) => drop(Box::pin(tokio::time::timeout_at(at, self.control.changed())).await),
            None => self.control.changed().await,
        }
    }
}

/// A change of the circuit that no operator ordered.
fn circuit(memory: CircuitMemory, reason: &str) -> Entry {
    Entry::Circuit { memory, reason: reason.to_owned(), by: None }
}

/// `3 min 12 s`, in the two largest units.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let words: Vec<String> = parts[from..].iter().take(2).map(|(count, unit)| format!("{count} {unit}")).collect();
    words.join(" ")
}
