//! What a group of jobs will add to the audit, worked out before a byte is written. Nothing here changes the
//! state: that happens when the group is on disk.

use std::collections::{HashMap, HashSet};

use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, Offset, TargetKey, Timestamp};
use hms_actors::receipt::{Cause, Entry};

use super::fences::Fences;
use super::record::{Body, Record};
use super::state::{Counters, State};
use super::writer::Job;
use super::{canonical, work};

pub(super) struct Draft<'a> {
    state: &'a State,
    fences: &'a Fences,
    time: Timestamp,
    next: Counters,
    /// What the group itself settles, opens and closes: its records are not in the state yet.
    settled: HashSet<(TargetKey, Offset)>,
    tickets: HashMap<(TargetKey, Cause), Option<u64>>,
    pub outcome: Outcome,
}

/// What is to be written, and what is to be done when it is.
#[derive(Default)]
pub(super) struct Outcome {
    pub records: Vec<Record>,
    pub lines: Vec<u8>,
    /// Dead letters' copies of events, which are stored first.
    pub letters: Vec<(u64, Vec<u8>)>,
    pub updates: Vec<TicketUpdate>,
    /// Per commit the entries that are not left out.
    pub written: Vec<(TargetKey, Vec<Entry>)>,
}

pub(super) struct TicketUpdate {
    pub number: u64,
    pub attempts: u32,
    pub backlog: u64,
    pub last_error: String,
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a State, fences: &'a Fences, time: Timestamp) -> Self {
        let (settled, tickets) = Default::default();
        Self { state, fences, time, next: state.counters.clone(), settled, tickets, outcome: Outcome::default() }
    }

    /// Adds what the job wants, or says why it can't be. The others of the group go on.
    pub fn add(&mut self, job: Job) -> Result<(), Failure> {
        match job {
            Job::Barrier => Ok(()),
            Job::Commit { target, epoch, entries } => self.commit(target, epoch, entries),
            Job::Resolve { number, action, by, note } => self.resolve(number, action, by, note),
            Job::Recipe(change) => {
                self.state.check_recipe(&change)?;
                self.push(Body::Recipe(change))
            }
            Job::Operator { action, subject, details } => self.push(Body::Operator { action, subject, details }),
        }
    }

    fn commit(&mut self, target: TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<(), Failure> {
        self.fences.check(&target, epoch)?;
        let recipe = self.state.recipes.get(&target.recipe).filter(|r| r.targets.contains_key(&target.target));
        let feed = &recipe.ok_or_else(|| Failure::fenced(format!("there is no target {target}")))?.feed;
        let mut written = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(number) = self.number_for(&target, &entry)? {
                self.push(Body::of(&entry, &target, feed, number))?;
                written.push(entry);
            }
        }
        self.outcome.written.push((target, written));
        Ok(())
    }

    /// The number of the ticket or dead letter that the entry makes (0 if it makes none); `None` leaves it out.
    fn number_for(&mut self, target: &TargetKey, entry: &Entry) -> Result<Option<u64>, Failure> {
        Ok(match entry {
            Entry::Delivered { event, .. } => self.settles(target, event.offset).then_some(0),
            Entry::DeadLettered { event, .. } => {
                if !self.settles(target, event.offset) {
                    return Ok(None);
                }
                let number = take(&mut self.next.letter);
                self.outcome.letters.push((number, work::encode_event(event)?));
                Some(number)
            }
            Entry::TicketOpened { cause, attempts, backlog, last_error, .. } => {
                let (attempts, backlog, last_error) = (*attempts, *backlog, last_error.clone());
                let incident = (target.clone(), *cause);
                if let Some(number) = self.ticket_of(&incident) {
                    self.outcome.updates.push(TicketUpdate { number, attempts, backlog, last_error });
                    return Ok(None);
                }
                let number = take(&mut self.next.ticket);
                self.tickets.insert(incident, Some(number));
                Some(number)
            }
            Entry::TicketResolved { ticket, .. } => self.close_ticket(*ticket).map(|_| 0),
            Entry::AttemptFailed { .. } | Entry::FileChanged { .. } => Some(0),
        })
    }

    fn resolve(&mut self, number: u64, action: String, by: String, note: Option<String>) -> Result<(), Failure> {
        let none = || Failure::refused(format!("there is no open ticket {number}"));
        let key = self.close_ticket(number).ok_or_else(none)?;
        self.push(Body::TicketResolved { key, number, action, by: Some(by), note })
    }

    /// Whether the event is settled by this, and not by anything before.
    fn settles(&mut self, target: &TargetKey, offset: Offset) -> bool {
        !self.state.is_settled(target, offset) && self.settled.insert((target.clone(), offset))
    }

    fn ticket_of(&self, incident: &(TargetKey, Cause)) -> Option<u64> {
        match self.tickets.get(incident) {
            Some(number) => *number,
            None => self.state.open.get(incident).copied(),
        }
    }

    /// Marks the ticket closed; says whose it is, if it was open.
    fn close_ticket(&mut self, number: u64) -> Option<TargetKey> {
        let known = self.state.tickets.get(&number).map(|ticket| (ticket.key.clone(), ticket.cause));
        let drafted = || self.tickets.iter().find(|(_, open)| **open == Some(number)).map(|(of, _)| of.clone());
        let incident = known.or_else(drafted).filter(|incident| self.ticket_of(incident) == Some(number))?;
        self.tickets.insert(incident.clone(), None);
        Some(incident.0)
    }

    fn push(&mut self, body: Body) -> Result<(), Failure> {
        let record = Record { seq: self.next.seq, time: self.time, body };
        self.outcome.lines.extend(canonical::to_vec(&record)?);
        self.outcome.lines.push(b'\n');
        self.next.seq += 1;
        self.outcome.records.push(record);
        Ok(())
    }
}

/// The next number.
fn take(counter: &mut u64) -> u64 {
    let number = *counter;
    *counter += 1;
    number
}
