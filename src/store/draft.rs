//! What a group of jobs will add to the audit, worked out before a byte is written. Nothing here changes the
//! state: that happens when the group is on disk.

use std::collections::{HashMap, HashSet};

use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, FeedName, Offset, TargetKey, Timestamp};
use hms_actors::receipt::{Cause, Entry};
use hms_actors::settled::Settled;

use super::fences::Fences;
use super::receipts::{Delivered, Lines};
use super::record::{Body, Record, rfc3339};
use super::state::{Counters, DROP_LETTER, State, TicketUpdate};
use super::work;
use super::writer::Job;
use crate::proof::canonical;

/// About as long as the line of a delivery is.
const LINE: usize = 512;

pub(super) struct Draft<'a> {
    state: &'a State,
    fences: &'a Fences,
    time: Timestamp,
    next: Counters,
    /// What the group itself settles, opens and closes: its records are not in the state yet.
    settled: HashMap<TargetKey, Settled>,
    tickets: HashMap<(TargetKey, Cause), Option<u64>>,
    /// Dead letters that the group delivers or drops.
    removed: HashSet<u64>,
    /// Dead letters that the group makes, by what waits for them.
    added: HashMap<(TargetKey, Cause), u64>,
    pub outcome: Outcome,
}

/// What is to be written, and what is to be done when it is.
#[derive(Default)]
pub(super) struct Outcome {
    pub lines: Vec<u8>,
    /// What follows from the lines, in their order.
    pub effects: Vec<Effect>,
    /// Dead letters' copies of events, which are stored first.
    pub letters: Vec<(u64, Vec<u8>)>,
    pub updates: Vec<TicketUpdate>,
    /// The records go into a new file.
    pub roll: bool,
}

/// What lines change in the state.
pub(super) enum Effect {
    Record(Box<Record>),
    /// Deliveries to one target, with the dead letters that went; `seq` is the last record's.
    Delivered {
        target: TargetKey,
        events: Vec<(Offset, Option<u64>)>,
        seq: u64,
    },
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a State, fences: &'a Fences, time: Timestamp) -> Self {
        let (settled, tickets, removed, added) = Default::default();
        let (next, outcome) = (state.counters.clone(), Outcome::default());
        Self { state, fences, time, next, settled, tickets, removed, added, outcome }
    }

    /// Adds what the job wants, or says why it can't be. The others of the group go on.
    pub fn add(&mut self, job: Job) -> Result<(), Failure> {
        match job {
            Job::Barrier => Ok(()),
            Job::Roll => {
                self.outcome.roll = true;
                Ok(())
            }
            Job::Commit { target, epoch, entries } => self.commit(target, epoch, entries),
            Job::Resolve { number, action, by, note } => self.resolve(number, action, by, note),
            Job::Recipe(change) => {
                self.state.check_recipe(&change)?;
                self.push(Body::Recipe(change))
            }
            Job::DropLetter { number, by, reason } => self.drop_letter(number, by, reason),
            Job::Operator { action, subject, details } => self.push(Body::Operator { action, subject, details }),
        }
    }

    fn commit(&mut self, target: TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<(), Failure> {
        self.fences.check(&target, epoch)?;
        let recipe = self.state.recipes.get(&target.recipe).filter(|r| r.targets.contains_key(&target.target));
        let feed = &recipe.ok_or_else(|| Failure::fenced(format!("there is no target {target}")))?.feed;
        let mut settled = self.settled.remove(&target).unwrap_or_default();
        let committed = self.entries(&target, feed, &entries, &mut settled);
        self.settled.insert(target, settled);
        committed
    }

    fn entries(
        &mut self,
        target: &TargetKey,
        feed: &'a FeedName,
        entries: &[Entry],
        settled: &mut Settled,
    ) -> Result<(), Failure> {
        let time = rfc3339::text(self.time)?;
        let mut lines = Lines::new(target, &time);
        self.outcome.lines.reserve(entries.len() * LINE);
        let known = self.state.targets.get(target).map(|target| &target.settled);
        for entry in entries {
            let Some(number) = self.number_for(target, entry, known, settled)? else { continue };
            // A dead letter's record speaks of its own feed.
            let feed = self.feed_of(entry).unwrap_or(feed);
            if let Entry::Delivered { event, attempt, payload_sha256, receipt, letter } = entry {
                let (attempt, letter) = (*attempt, *letter);
                let delivered = Delivered { feed, event, attempt, payload_sha256, receipt, letter };
                lines.add(self.next.seq, delivered, &mut self.outcome.lines)?;
                let seq = take(&mut self.next.seq);
                self.outcome.delivered(target, (event.offset, letter), seq);
                letter.map_or(Ok(()), |letter| self.close_if_last(letter))?;
            } else {
                self.push(Body::of(entry, target, feed, number))?;
            }
        }
        Ok(())
    }

    /// The number of the ticket or dead letter that the entry makes (0 if it makes none); `None` leaves it out.
    /// `drafted` is what the group itself settles of the target.
    fn number_for(
        &mut self,
        target: &TargetKey,
        entry: &Entry,
        known: Option<&Settled>,
        drafted: &mut Settled,
    ) -> Result<Option<u64>, Failure> {
        let is_settled = |offset| known.is_some_and(|settled| settled.contains(offset));
        let mut settles = |offset| !is_settled(offset) && drafted.insert(offset);
        Ok(match entry {
            Entry::Delivered { letter: Some(letter), .. } => self.takes_letter(target, *letter).then_some(0),
            Entry::Delivered { event, .. } => settles(event.offset).then_some(0),
            Entry::DeadLettered { event, cause, .. } => {
                if !settles(event.offset) {
                    return Ok(None);
                }
                if let Some(cause) = cause {
                    *self.added.entry((target.clone(), *cause)).or_default() += 1;
                }
                let number = take(&mut self.next.letter);
                self.outcome.letters.push((number, work::encode_event(event)?));
                Some(number)
            }
            Entry::TicketOpened { cause, attempts, backlog, last_error, reason } => {
                let (attempts, backlog) = (*attempts, *backlog);
                let (last_error, reason) = (last_error.clone(), reason.clone());
                let incident = (target.clone(), *cause);
                if let Some(number) = self.ticket_of(&incident) {
                    self.outcome.updates.push(TicketUpdate { number, attempts, backlog, last_error, reason });
                    return Ok(None);
                }
                let number = take(&mut self.next.ticket);
                self.tickets.insert(incident, Some(number));
                Some(number)
            }
            Entry::TicketResolved { ticket, by, .. } => {
                if by.is_none() && self.waits_for_letters(*ticket) {
                    return Ok(None);
                }
                self.close_ticket(*ticket).map(|_| 0)
            }
            Entry::AttemptFailed { .. } | Entry::Blocked { .. } | Entry::FileChanged { .. } | Entry::Circuit { .. } => {
                Some(0)
            }
        })
    }

    fn resolve(&mut self, number: u64, action: String, by: String, note: Option<String>) -> Result<(), Failure> {
        let none = || Failure::refused(format!("there is no open ticket {number}"));
        let key = self.close_ticket(number).ok_or_else(none)?;
        self.push(Body::TicketResolved { key, number, action, by: Some(by), note })
    }

    fn feed_of(&self, entry: &Entry) -> Option<&'a FeedName> {
        match entry {
            Entry::Delivered { letter: Some(letter), .. }
            | Entry::AttemptFailed { letter: Some(letter), .. }
            | Entry::Blocked { letter: Some(letter), .. } => self.state.letters.get(letter).map(|letter| &letter.feed),
            _ => None,
        }
    }

    /// Whether the dead letter is this target's, and nothing before has removed it.
    fn takes_letter(&mut self, target: &TargetKey, number: u64) -> bool {
        let known = self.state.letters.get(&number).is_some_and(|letter| self.state.is_of(letter, target));
        known && self.removed.insert(number)
    }

    fn drop_letter(&mut self, number: u64, by: String, reason: String) -> Result<(), Failure> {
        let none = || Failure::refused(format!("there is no dead letter {number}"));
        let letter = self.state.letters.get(&number).ok_or_else(none)?;
        if !self.removed.insert(number) {
            return Err(none());
        }
        let details = [
            ("number", number.to_string()),
            ("recipe", letter.key.recipe.to_string()),
            ("target", letter.key.target.to_string()),
            ("event_id", letter.event_id.clone()),
            ("offset", letter.offset.to_string()),
            ("reason", reason),
        ];
        let details = details.map(|(name, value)| (name.to_owned(), value)).into();
        self.push(Body::Operator { action: DROP_LETTER.to_owned(), subject: by, details })?;
        self.close_if_last(number)
    }

    /// A ticket about refused events is closed when the last of its dead letters is delivered or dropped.
    fn close_if_last(&mut self, letter: u64) -> Result<(), Failure> {
        let Some(letter) = self.state.letters.get(&letter) else { return Ok(()) };
        let Some(cause @ (Cause::Refused | Cause::Policy)) = letter.cause else { return Ok(()) };
        let incident = (letter.key.clone(), cause);
        let left =
            self.state.waiting.get(&incident).copied().unwrap_or(0) + self.added.get(&incident).copied().unwrap_or(0);
        // While the partner refuses everything nothing more is given up, and what policies hold is none: that is an
        // incident without dead letters.
        let held = self.state.targets.get(&incident.0).is_some_and(|target| match cause {
            Cause::Policy => target.standing.is_blocked(),
            _ => target.standing.refuses_all(),
        });
        let removed = self.removed.iter().filter_map(|number| self.state.letters.get(number));
        let removed = removed.filter(|other| other.key == incident.0 && other.cause == Some(cause)).count() as u64;
        match self.ticket_of(&incident) {
            Some(number) if removed >= left && !held => {
                self.close_ticket(number);
                let note = Some("its dead letters are delivered or dropped".to_owned());
                self.push(Body::TicketResolved {
                    key: incident.0,
                    number,
                    action: "settled".to_owned(),
                    by: None,
                    note,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the ticket is about dead letters of which some are left.
    fn waits_for_letters(&self, ticket: u64) -> bool {
        let known = self.state.tickets.get(&ticket);
        known.is_some_and(|ticket| {
            let incident = (ticket.key.clone(), ticket.cause);
            self.state.waiting.contains_key(&incident) || self.added.contains_key(&incident)
        })
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
        self.outcome.effects.push(Effect::Record(record.into()));
        Ok(())
    }
}

impl Outcome {
    fn delivered(&mut self, to: &TargetKey, event: (Offset, Option<u64>), number: u64) {
        match self.effects.last_mut() {
            Some(Effect::Delivered { target, events, seq }) if target == to => {
                events.push(event);
                *seq = number;
            }
            _ => self.effects.push(Effect::Delivered { target: to.clone(), events: vec![event], seq: number }),
        }
    }
}

/// The next number.
fn take(counter: &mut u64) -> u64 {
    let number = *counter;
    *counter += 1;
    number
}
