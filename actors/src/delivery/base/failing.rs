//! What a failed attempt means for its target: circuit, back-off, ticket, and the record of it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Base, REFUSES_ALL, circuit};
use crate::delivery::Ended;
use crate::event::EventRef;
use crate::failure::{Failure, FailureKind};
use crate::id::{Offset, Timestamp};
use crate::policy::backoff::Backoff;
use crate::policy::circuit::{CircuitMemory, CircuitState, Permit};
use crate::receipt::{Cause, Entry};
use crate::settings::MAX_AHEAD;

/// An attempt that failed.
pub(in crate::delivery) struct Failed<'a> {
    pub failure: &'a Failure,
    /// What was in it; none if it did not come to events.
    pub events: &'a [EventRef],
    pub attempt: u32,
    pub permit: Permit,
    pub letter: Option<u64>,
    /// What else follows from it, written in the same breath.
    pub also: Vec<Entry>,
}

impl Base {
    /// One more event is refused; whether by now it isn't the events.
    pub fn note_refused(&mut self, offset: Offset) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        if !self.refuses_all() {
            self.refused.insert(offset);
        }
        self.refuses_all()
    }

    /// An attempt failed: what that means for the target, and the record of it.
    pub async fn failed(&mut self, failed: Failed<'_>) -> Ended {
        let Failed { failure, events, attempt, permit, letter, also } = failed;
        if failure.kind == FailureKind::Fenced {
            return Err(failure.clone());
        }
        let now = self.env.clock.now();
        let change = self.count(failure, permit, now);
        self.tell(failure, events, attempt, now);
        // A node that can't write can't write this either.
        if failure.kind == FailureKind::Node {
            return Ok(());
        }
        let mut entries = Vec::new();
        if let Some(first) = events.first() {
            entries.push(Entry::AttemptFailed {
                event: first.clone(),
                events: u32::try_from(events.len()).unwrap_or(u32::MAX),
                attempt,
                payload_sha256: failure.payload_sha256,
                kind: failure.kind,
                error: failure.message.clone(),
                may_have_arrived: !failure.definite,
                retry_after: failure
                    .retry_after
                    .filter(|_| failure.kind == FailureKind::Throttled)
                    .map(Backoff::capped),
                letter,
            });
        }
        entries.extend(change.map(|memory| circuit(memory, &failure.message)));
        entries.extend(self.incident(failure));
        entries.extend(also);
        self.commit(entries).await
    }

    /// What the failure is to circuit and back-off.
    fn count(&mut self, failure: &Failure, permit: Permit, now: Timestamp) -> Option<CircuitMemory> {
        let asked = failure.retry_after.map(Backoff::capped);
        match failure.kind {
            FailureKind::Transient => self.circuit.failed(permit, now, false, asked),
            FailureKind::Configuration => self.circuit.failed(permit, now, true, asked),
            FailureKind::Throttled => {
                // Answers to requests that were under way together are one answer.
                self.throttled += u32::from(self.resume_at.is_none());
                let goes_on = self.throttled > self.settings.circuit.failures;
                if goes_on || self.circuit.state() == CircuitState::HalfOpen {
                    self.circuit.failed(permit, now, false, asked)
                } else {
                    None
                }
            }
            FailureKind::Refused if self.refuses_all() => self.circuit.tripped(permit, now),
            FailureKind::Refused
            | FailureKind::Doubt
            | FailureKind::Blocked
            | FailureKind::Node
            | FailureKind::Fenced => {
                self.circuit.refused(permit);
                None
            }
        }
    }

    /// Says it to those who look.
    fn tell(&mut self, failure: &Failure, events: &[EventRef], attempt: u32, now: Timestamp) {
        self.recipe.runs.borrow_mut().failed(events.iter().map(|event| event.offset));
        self.env.witness.attempted(&self.key, Some(failure.kind), events.len() as u64);
        let mut status = self.status.borrow_mut();
        status.failed(failure, now);
        status.failed_attempts += events.len() as u64;
        tracing::warn!(delivery = %self.key, attempt, kind = failure.kind.as_str(), "delivery failed: {}", failure.message);
    }

    /// The ticket that the failure opens or brings up to date.
    fn incident(&self, failure: &Failure) -> Option<Entry> {
        let in_a_row = self.circuit.failures_in_a_row();
        let (cause, reason) = match failure.kind {
            FailureKind::Configuration => (Cause::Configuration, failure.message.clone()),
            FailureKind::Transient | FailureKind::Throttled
                if in_a_row.saturating_sub(self.dismissed) >= self.settings.retries =>
            {
                (Cause::Outage, format!("{in_a_row} attempts in a row failed: {}", failure.message))
            }
            FailureKind::Refused if self.refuses_all() => {
                let why = format!(
                    "{REFUSES_ALL} different events in a row were refused, so it isn't the events; nothing more is given up: {}",
                    failure.message
                );
                return Some(self.ticket(Cause::Refused, why, self.refusals, &failure.message));
            }
            _ => return None,
        };
        Some(self.ticket(cause, reason, in_a_row, &failure.message))
    }

    /// A human is needed, or knows already.
    pub fn ticket(&self, cause: Cause, reason: String, attempts: u32, last_error: &str) -> Entry {
        let backlog = self.settled.waiting(self.head.get());
        Entry::TicketOpened { cause, reason, attempts, backlog, last_error: last_error.to_owned() }
    }

    /// A human has closed this ticket; the next failures count anew.
    pub fn dismiss(&mut self, cause: Cause) {
        if cause == Cause::Outage {
            self.dismissed = self.circuit.failures_in_a_row();
        }
    }

    /// Unless the circuit is open, the target waits by itself. Failures of attempts that were under way together
    /// count as one.
    pub fn back_off(&mut self, failure: &Failure) {
        if matches!(self.circuit.state(), CircuitState::Open | CircuitState::ForcedOpen) {
            return;
        }
        let now = Instant::now();
        match (self.resume_at, failure.retry_after) {
            (None, asked) => self.resume_at = Some(now + self.backoff.failed(asked, &mut rand::rng())),
            (Some(at), Some(asked)) => self.resume_at = Some(at.max(now + Backoff::capped(asked))),
            (Some(_), None) => {}
        }
    }

    /// With an old event that does not settle a target runs so far ahead and no further.
    pub fn complain_if_far_ahead(&self) {
        if self.until() < self.control.frontier() {
            let oldest = self.settled.below();
            self.complain(format!(
                "event {oldest} is not settled, and {MAX_AHEAD} events beyond it are: no more are sent before"
            ));
        }
    }

    /// Says why nothing new is begun, though nothing has failed just now.
    pub fn complain(&self, why: String) {
        self.complain_of(Failure::refused(why));
    }

    pub(super) fn complain_of(&self, failure: Failure) {
        self.status.borrow_mut().failed(&failure, self.env.clock.now());
    }

    /// How long a failure of its own makes one delivery wait.
    pub fn own_wait(&mut self, backoff: &mut Backoff, failure: &Failure) -> Duration {
        backoff.failed(failure.retry_after, &mut rand::rng())
    }
}
