//! What becomes of a unit that was tried: delivered, tried again, split, or given up as a dead letter.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::Requests;
use crate::delivery::Ended;
use crate::delivery::base::{Base, Failed};
use crate::delivery::control::NotReplayed;
use crate::delivery::keyed::{Keys, Meets};
use crate::delivery::unit::{Outcome, Staged};
use crate::event::Key;
use crate::failure::{Failure, FailureKind};
use crate::guard::words_of;
use crate::policy::circuit::{CircuitState, Permit, Room};
use crate::ports::{OpenTicket, Sent};
use crate::receipt::{Cause, Entry};
use crate::work::Unit;

/// So often "it is there already" after an attempt of unknown outcome is taken to be about that attempt, which
/// the partner may still be working on. From then on it is a refusal.
const CONFLICTS: u32 = 10;

/// For so long a receipt waits for others, which come while so much is under way: a sync costs as much for one as for
/// a hundred. It is the commit delay of databases.
const GATHER: Duration = Duration::from_millis(1);

/// So many wait for no more: what a sync costs is little beside them.
const MANY: usize = 128;

/// What partners have accepted, and what is to be written of it.
#[derive(Default)]
pub(super) struct Accepted {
    staged: Vec<Staged>,
    entries: Vec<Entry>,
    /// When the first of it came.
    since: Option<Instant>,
    /// Whether an event waited for a key of it when it came.
    awaited: bool,
}

impl Accepted {
    /// When it is to be written at the latest; never if there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + GATHER)
    }

    fn add(&mut self, mut staged: Staged, sent: &Sent, keys: &Keys) {
        self.since.get_or_insert_with(Instant::now);
        self.awaited |= staged.keys.iter().any(|key| keys.meets(key) == Meets::Waiting);
        staged.delivered(sent, &mut self.entries);
        self.staged.push(staged);
    }
}

impl Requests {
    /// Takes all that has ended by now, `outcome` first. What was accepted meanwhile is one commit.
    pub(super) async fn ended(&mut self, base: &mut Base, outcome: Outcome) -> Ended {
        self.moved = Instant::now();
        let mut next = Some(outcome);
        while let Some(outcome) = next {
            match outcome {
                Outcome::Answered(staged, permit, Ok(sent)) => {
                    self.sending -= 1;
                    self.accepted.add(staged, &sent, &self.keys);
                    let also = base.recovered(permit);
                    if !also.is_empty() {
                        // A change of the circuit is written before an operator's order that follows it.
                        self.accepted.entries.extend(also);
                        self.commit(base).await?;
                    }
                }
                Outcome::Answered(staged, permit, Err(failure)) => {
                    self.sending -= 1;
                    self.failed(base, staged, permit, failure).await?;
                }
                Outcome::Panicked(staged, permit, panic) => {
                    self.sending -= 1;
                    // Nothing that was accepted ends with the actor.
                    self.commit(base).await?;
                    let failure = Failure::transient(format!("the adapter panicked: {}", words_of(panic.as_ref())));
                    self.failed(base, staged, permit, failure).await?;
                    // After the record: its supervisor starts a new actor.
                    std::panic::resume_unwind(panic)
                }
                Outcome::Committed(staged, result) => self.committed(base, staged, result)?,
            }
            next = self.running.next().now_or_never().flatten();
        }
        if !self.gathers(base) {
            self.commit_accepted(base);
        }
        Ok(())
    }

    /// Whether receipts may wait for more: half of what may be under way is, and nothing waited for one of
    /// them when it came.
    fn gathers(&self, base: &Base) -> bool {
        base.room() == Room::Free
            && self.shared == 0
            && self.accepted.entries.len() < MANY
            && !self.accepted.awaited
            && self.sending > 0
            && 2 * self.sending >= self.concurrency
    }

    /// Commits receipts that have waited for long enough.
    pub(super) fn commit_what_is_due(&mut self, base: &Base) {
        if self.accepted.due().is_some_and(|due| due <= Instant::now()) {
            self.commit_accepted(base);
        }
    }

    /// Begins to commit what has been accepted; others go on meanwhile.
    fn commit_accepted(&mut self, base: &Base) {
        let Accepted { staged, entries, since, .. } = std::mem::take(&mut self.accepted);
        if since.is_some() {
            let commit = base.commit_apart(entries);
            self.running.push(Box::pin(async move { Outcome::Committed(staged, commit.await) }));
        }
    }

    /// Commits receipts and waits for it.
    async fn commit(&mut self, base: &mut Base) -> Ended {
        let Accepted { staged, entries, since, .. } = std::mem::take(&mut self.accepted);
        if since.is_none() {
            return Ok(());
        }
        let committed = base.commit_apart(entries).await;
        self.committed(base, staged, committed)
    }

    /// The receipts are on disk.
    fn committed(
        &mut self,
        base: &mut Base,
        delivered: Vec<Staged>,
        result: Result<Vec<OpenTicket>, Failure>,
    ) -> Ended {
        base.tickets = result?;
        let clean = self.retry.is_empty() && self.stuck.is_empty();
        for staged in delivered {
            match staged.unit.letter {
                None => base.delivered(staged.events.iter().map(|event| (event.offset, event.published)), clean),
                Some(letter) => {
                    staged.events.iter().for_each(|event| base.redelivered(event.published, clean));
                    self.replayed(letter, Ok(()));
                }
            }
            self.close_unit(&staged);
        }
        Ok(())
    }

    /// It is settled: its keys go to those who wait for them.
    pub(super) fn close_unit(&mut self, staged: &Staged) {
        self.flying.remove(&staged.name());
        self.shared -= usize::from(staged.shared);
        staged.keys.iter().for_each(|key| self.free(key));
    }

    /// The work that had the key has ended: it goes to those who wait for it.
    pub(super) fn free(&mut self, key: &Key) {
        let waiting = self.keys.next(key, self.max_events);
        if !waiting.is_empty() {
            self.released.push_back((key.clone(), waiting));
        }
    }

    /// The attempt that the incarnation before was ended for counts as a failed one of the oldest unit: which one it
    /// was nobody knows any more.
    pub(super) async fn note_hang(&mut self, base: &mut Base) -> Ended {
        let Some(why) = base.hung.take() else { return Ok(()) };
        let Some(mut staged) = self.retry.pop_front() else { return Ok(()) };
        staged.tries.attempts += 1;
        let permit = base.begin_attempt().await?;
        self.failed(base, staged, permit, Failure::transient(why)).await
    }

    /// It could not even be sent.
    pub(super) async fn not_sent(&mut self, base: &mut Base, staged: Staged, failure: Failure) -> Ended {
        let permit = base.begin_attempt().await?;
        self.failed(base, staged, permit, failure).await
    }

    async fn failed(&mut self, base: &mut Base, mut staged: Staged, permit: Permit, failure: Failure) -> Ended {
        let failure = self.seen_in_context(&mut staged, failure);
        self.flying.remove(&staged.name());
        self.failed_last = Some(staged.name());
        staged.refused_last = failure.kind == FailureKind::Refused;
        staged.tries.may_have_arrived |= !failure.definite;
        if staged.refused_last {
            return self.refused(base, staged, permit, failure).await;
        }
        self.record(base, &staged, permit, &failure, Vec::new()).await?;
        match failure.kind {
            // One delivery's bad luck, as long as the circuit is closed.
            FailureKind::Transient if base.circuit.state() == CircuitState::Closed => {
                self.wait_by_itself(base, staged, &failure)
            }
            // The circuit says when.
            _ if matches!(base.circuit.state(), CircuitState::Open | CircuitState::ForcedOpen) => {
                self.stuck.push_back((Instant::now(), staged));
            }
            _ => {
                base.back_off(&failure);
                let at = self.retry.partition_point(|other| other.first() < staged.first());
                self.retry.insert(at, staged);
            }
        }
        Ok(())
    }

    /// "It is there already" may be about our own attempt of which nobody knows what became.
    fn seen_in_context(&self, staged: &mut Staged, failure: Failure) -> Failure {
        if !failure.conflict || !staged.tries.may_have_arrived || staged.conflicts >= CONFLICTS {
            return failure;
        }
        staged.conflicts += 1;
        let message = format!("{} (after an attempt of unknown outcome, which may have arrived)", failure.message);
        Failure { kind: FailureKind::Transient, message, ..failure }
    }

    /// A batch is split, an event is tried so often as the recipe says and is then given up; unless the partner
    /// refuses everything: then nothing is.
    async fn refused(&mut self, base: &mut Base, mut staged: Staged, permit: Permit, failure: Failure) -> Ended {
        // One of unknown outcome of which the partner says that it is there already may be there already.
        let may_be_there = failure.conflict && staged.tries.may_have_arrived;
        if staged.events.len() > 1 && !may_be_there {
            self.record(base, &staged, permit, &failure, Vec::new()).await?;
            return self.split(base, staged).await;
        }
        staged.tries.refused += 1;
        // A dead letter that is refused again says nothing new.
        let refuses_all = staged.unit.letter.is_none() && base.note_refused(staged.first());
        if refuses_all || staged.tries.refused < base.settings.retries {
            self.record(base, &staged, permit, &failure, Vec::new()).await?;
            self.wait_by_itself(base, staged, &failure);
            return Ok(());
        }
        match staged.unit.letter {
            None => {
                let reason = format!("refused: {}", failure.message);
                let mut also = staged.dead(&reason, Some(Cause::Refused));
                let (attempts, why) = (staged.tries.attempts, format!("events are refused: {}", failure.message));
                also.push(base.ticket(Cause::Refused, why, attempts, &failure.message));
                self.record(base, &staged, permit, &failure, also).await?;
                base.settle(staged.events.iter().map(|event| (event.offset, event.published)), false);
                self.close_unit(&staged);
            }
            Some(letter) => {
                self.record(base, &staged, permit, &failure, Vec::new()).await?;
                self.close_unit(&staged);
                self.replayed(letter, Err(NotReplayed::Refused(failure.message.clone())));
                self.store_open(base).await?;
            }
        }
        Ok(())
    }

    /// Two halves, each with its key; stored before either is sent.
    pub(super) async fn split(&mut self, base: &mut Base, whole: Staged) -> Ended {
        let partner = self.partner(base, whole.unit.revision)?;
        let (left, right) = whole.events.split_at(whole.events.len() / 2);
        for events in [left, right] {
            let offsets = events.iter().map(|event| event.offset).collect();
            let unit = Unit { revision: whole.unit.revision, offsets, letter: None, seal: whole.unit.seal };
            let mut half = Staged::new(unit, events.to_vec(), partner.as_ref());
            half.shared = true;
            half.stays = true;
            self.open_unit(half);
        }
        self.close_unit(&whole);
        self.store_open(base).await
    }

    fn wait_by_itself(&mut self, base: &mut Base, mut staged: Staged, failure: &Failure) {
        let wait = base.own_wait(&mut staged.own, failure);
        self.stuck.push_back((Instant::now() + wait, staged));
    }

    async fn record(
        &mut self,
        base: &mut Base,
        staged: &Staged,
        permit: Permit,
        failure: &Failure,
        also: Vec<Entry>,
    ) -> Ended {
        let (events, attempt, letter) = (staged.events(), staged.tries.attempts, staged.unit.letter);
        base.failed(Failed { failure, events: &events, attempt, permit, letter, also }).await
    }
}
