//! A ledger in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use hms_actors::event::Event;
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::{Epoch, Offset, TargetKey, Timestamp};
use hms_actors::ports::*;
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settled::Settled;
use hms_actors::work::Work;

/// The ledger: what is in it survives a crash of everything else.
#[derive(Default)]
pub struct FakeLedger {
    pub epoch: Cell<Epoch>,
    pub settled: RefCell<Settled>,
    pub work: RefCell<Option<Work>>,
    pub entries: RefCell<Vec<Entry>>,
    /// What was committed together.
    pub commits: RefCell<Vec<Vec<Entry>>>,
    pub tickets: RefCell<Vec<OpenTicket>>,
    pub letters: RefCell<BTreeMap<u64, Event>>,
    pub full_at: Cell<Option<Timestamp>>,
    pub clock: RefCell<Option<Rc<dyn Clock>>>,
    /// When the last record of a failed attempt was written.
    pub failed_at: Cell<Timestamp>,
    /// How long it takes to store what is begun.
    pub begin_takes: Cell<Duration>,
    /// How long it takes to write receipts.
    pub commit_takes: Cell<Duration>,
    pub begun: RefCell<Vec<Begun>>,
}

/// Requests that were stored as begun.
#[derive(Debug)]
pub struct Begun {
    pub asked: Timestamp,
    pub done: Timestamp,
    pub offsets: Vec<Offset>,
}

impl FakeLedger {
    pub fn delivered(&self) -> Vec<Offset> {
        let entries = self.entries.borrow();
        let offset = |entry: &Entry| match entry {
            Entry::Delivered { event, .. } => Some(event.offset),
            _ => None,
        };
        entries.iter().filter_map(offset).collect()
    }
}

impl FakeLedger {
    fn is_new(&self, entry: &Entry) -> bool {
        let mut tickets = self.tickets.borrow_mut();
        if let (Entry::AttemptFailed { .. }, Some(clock)) = (entry, self.clock.borrow().as_ref()) {
            self.failed_at.set(clock.now());
        }
        match entry {
            Entry::Delivered { letter: Some(letter), .. } => self.letters.borrow_mut().remove(letter).is_some(),
            Entry::Delivered { event, .. } => self.settled.borrow_mut().insert(event.offset),
            Entry::DeadLettered { event, .. } => {
                let number = self.letters.borrow().len() as u64 + 1;
                self.letters.borrow_mut().insert(number, (**event).clone());
                self.settled.borrow_mut().insert(event.offset)
            }
            Entry::TicketOpened { cause, .. } => {
                let new = tickets.iter().all(|ticket| ticket.cause != *cause);
                let number =
                    1 + self.entries.borrow().iter().filter(|e| matches!(e, Entry::TicketOpened { .. })).count() as u64;
                if new {
                    tickets.push(OpenTicket { number, cause: *cause, opened_at: Timestamp::default() });
                }
                new
            }
            Entry::TicketResolved { ticket, by: None, .. } if self.waits_for_letters(&tickets, *ticket) => false,
            Entry::TicketResolved { ticket, .. } => {
                let before = tickets.len();
                tickets.retain(|open| open.number != *ticket);
                tickets.len() < before
            }
            _ => true,
        }
    }

    /// A ticket about dead letters is not closed before they are.
    fn waits_for_letters(&self, tickets: &[OpenTicket], ticket: u64) -> bool {
        let about = tickets.iter().find(|open| open.number == ticket).map(|open| open.cause);
        let waits = |entry: &Entry| match entry {
            Entry::DeadLettered { event, cause, .. } => {
                *cause == about && self.letters.borrow().values().any(|letter| letter.offset == event.offset)
            }
            _ => false,
        };
        self.entries.borrow().iter().any(waits)
    }

    /// As the real ledger derives it: from the records alone.
    fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for entry in self.entries.borrow().iter() {
            match entry {
                Entry::Delivered { event, .. } => {
                    (standing.failures_in_a_row, standing.refused) = Default::default();
                    standing.tries.retain(|(first, _), _| *first != event.offset);
                }
                Entry::AttemptFailed { event, events, attempt, kind, may_have_arrived, retry_after, .. } => {
                    standing.not_before = retry_after.map(|wait| self.failed_at.get().plus(wait));
                    let tries = standing.tries.entry((event.offset, *events)).or_default();
                    tries.attempts = *attempt;
                    tries.may_have_arrived |= may_have_arrived;
                    if *kind == FailureKind::Refused {
                        tries.refused += 1;
                        standing.refused.insert(event.offset);
                    } else {
                        standing.failures_in_a_row += 1;
                    }
                }
                Entry::Blocked { event, policies, letter: None, .. } => {
                    standing.blocked.insert(event.offset, policies.clone());
                }
                Entry::Circuit { memory, .. } => standing.circuit = memory.clone(),
                _ => {}
            }
        }
        standing
    }

    pub fn open_causes(&self) -> Vec<Cause> {
        self.tickets.borrow().iter().map(|ticket| ticket.cause).collect()
    }
}

#[async_trait(?Send)]
impl Ledger for FakeLedger {
    async fn open(&self, _: &TargetKey) -> Result<Opened, Failure> {
        self.epoch.set(self.epoch.get() + 1);
        Ok(Opened {
            epoch: self.epoch.get(),
            settled: self.settled.borrow().clone(),
            work: self.work.borrow().clone(),
            standing: self.standing(),
            tickets: self.tickets.borrow().clone(),
            full_at: self.full_at.get(),
        })
    }

    async fn begin(&self, _: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        if epoch != self.epoch.get() {
            return Err(Failure::fenced("fenced"));
        }
        let clock = self.clock.borrow().clone();
        let now = || clock.as_ref().map_or(Timestamp::default(), |clock| clock.now());
        let asked = now();
        if !self.begin_takes.get().is_zero() {
            tokio::time::sleep(self.begin_takes.get()).await;
        }
        if let Work::Requests(units) = &work {
            let offsets = units.iter().flat_map(|unit| unit.offsets.to_vec()).collect();
            self.begun.borrow_mut().push(Begun { asked, done: now(), offsets });
        }
        *self.work.borrow_mut() = Some(work);
        Ok(())
    }

    async fn commit(&self, _: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<Vec<OpenTicket>, Failure> {
        if epoch != self.epoch.get() {
            return Err(Failure::fenced("fenced"));
        }
        if !self.commit_takes.get().is_zero() {
            tokio::time::sleep(self.commit_takes.get()).await;
        }
        self.commits.borrow_mut().push(entries.clone());
        for entry in entries {
            if self.is_new(&entry) {
                self.entries.borrow_mut().push(entry);
            }
        }
        Ok(self.tickets.borrow().clone())
    }

    async fn pace(&self, _: &TargetKey, _: Epoch, full_at: Timestamp) -> Result<(), Failure> {
        self.full_at.set(Some(full_at));
        Ok(())
    }

    async fn letter(&self, _: &TargetKey, number: u64) -> Result<Option<Event>, Failure> {
        Ok(self.letters.borrow().get(&number).cloned())
    }
}
