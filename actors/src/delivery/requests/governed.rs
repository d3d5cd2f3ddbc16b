//! What policies say no to in this lane: it waits with its key while others pass, or becomes a dead letter.
//!
//! An event that is new is left out of its batch. What was begun keeps its shape: it is asked about before each push,
//! and waits whole if any of its events may not go.

use super::Requests;
use crate::delivery::Ended;
use crate::delivery::base::{Base, Blocked, No};
use crate::delivery::control::{Answer, NotReplayed};
use crate::delivery::unit::Staged;
use crate::event::{Event, Key};
use crate::failure::Failure;
use crate::id::Offset;
use crate::receipt::{Cause, Entry};

/// So many are asked about in one go.
pub(super) const ASKED: usize = 256;

impl Requests {
    /// What is held is asked about again, when its time has come.
    pub(super) async fn ask_again(&mut self, base: &mut Base) -> Ended {
        if !base.asks_again() {
            return Ok(());
        }
        for staged in std::mem::take(&mut self.blocked) {
            // Asked about as soon as it could go.
            self.put_before(staged);
        }
        let offsets: Vec<Offset> = self.held.keys().copied().collect();
        for some in offsets.chunks(ASKED) {
            let mut still = Vec::new();
            for event in base.read_each(some).await? {
                match base.no_to(base.settings.revision, &event) {
                    None => {
                        if let Some(key) = self.held.remove(&event.offset) {
                            self.released.push_back((key, vec![event.offset]));
                        }
                    }
                    Some(no) => {
                        if no.gives_up
                            && let Some(key) = self.held.remove(&event.offset)
                        {
                            self.free(&key);
                        }
                        still.push(new(event, no));
                    }
                }
            }
            base.blocked(still).await?;
            // Others of this thread have their turn.
            tokio::task::yield_now().await;
        }
        base.blocked(Vec::new()).await
    }

    /// Of events that waited behind their key, which is theirs now, those that may go. The first one that is held keeps
    /// the key, and the rest waits behind it.
    pub(super) fn cleared(
        &mut self,
        base: &mut Base,
        key: &Key,
        waited: Vec<Event>,
        blocked: &mut Vec<Blocked>,
    ) -> Vec<Event> {
        let mut may_go = Vec::new();
        let mut waited = waited.into_iter();
        while let Some(event) = waited.next() {
            let Some(no) = base.no_to(base.settings.revision, &event) else {
                may_go.push(event);
                continue;
            };
            if no.gives_up {
                blocked.push(new(event, no));
                continue;
            }
            let mut rest: Vec<Offset> = waited.map(|event| event.offset).collect();
            if may_go.is_empty() {
                self.keys.put_back(key.clone(), &rest);
                self.held.insert(event.offset, key.clone());
                blocked.push(new(event, no));
            } else {
                // When those before it are settled it is asked about again.
                rest.insert(0, event.offset);
                self.keys.put_back(key.clone(), &rest);
            }
            return may_go;
        }
        if may_go.is_empty() {
            self.free(key);
        }
        may_go
    }

    /// A unit that is begun goes only if policies say no to none of its events.
    pub(super) async fn governed(&mut self, base: &mut Base, staged: Staged) -> Result<Option<Staged>, Failure> {
        let revision = staged.unit.revision;
        let asked = staged.events.iter().map(|event| (event, base.no_to(revision, event)));
        let nos: Vec<(Event, No)> = asked.filter_map(|(event, no)| Some((event.clone(), no?))).collect();
        let Some((first, no)) = nos.first() else { return Ok(Some(staged)) };
        if let Some(letter) = staged.unit.letter {
            base.blocked_letter(first, staged.tries.attempts, no, letter).await?;
            self.close_unit(&staged);
            self.replayed(letter, Err(NotReplayed::Blocked(no.denial.words.clone())));
            self.store_open(base).await?;
            return Ok(None);
        }
        if staged.events.len() > 1 && !staged.tries.may_have_arrived {
            // None of it is there: what may go goes without the rest.
            self.split(base, staged).await?;
            return Ok(None);
        }
        let whole = staged.events.len() > 1;
        let (attempt, may_have_arrived) = (staged.tries.attempts, staged.tries.may_have_arrived);
        // Of a batch of which nobody knows whether it arrived nothing is given up by itself.
        let of = |(event, no): (Event, No)| {
            let no = No { gives_up: no.gives_up && !whole, ..no };
            Blocked { event, no, attempt, may_have_arrived }
        };
        let blocked: Vec<Blocked> = nos.into_iter().map(of).collect();
        let given_up = blocked.iter().all(|blocked| blocked.no.gives_up);
        if given_up {
            base.blocked(blocked).await?;
            self.close_unit(&staged);
            self.store_open(base).await?;
        } else {
            self.blocked.push(staged);
            base.blocked(blocked).await?;
        }
        Ok(None)
    }

    /// A human's answer to the ticket about what policies hold. Skipped is the oldest event that is held.
    pub(super) async fn skip_held(&mut self, base: &mut Base, answer: &Answer) -> Result<bool, Failure> {
        let oldest = self.blocked.iter().map(Staged::first).chain(self.held.keys().copied()).min();
        let Some(oldest) = oldest else { return Ok(false) };
        if let Some(at) = self.blocked.iter().position(|staged| staged.first() == oldest) {
            let staged = self.blocked.swap_remove(at);
            self.give_up(base, &staged, answer).await?;
            return Ok(true);
        }
        let dead = |event: Event| Entry::DeadLettered {
            event: event.into(),
            attempt: 0,
            reason: "an operator skipped it".to_owned(),
            may_have_arrived: false,
            cause: Some(Cause::Policy),
        };
        let events = base.read_each(&[oldest]).await?;
        let settled: Vec<_> = events.iter().map(|event| (event.offset, event.published)).collect();
        base.commit(events.into_iter().map(dead).collect()).await?;
        base.settle(settled, false);
        if let Some(key) = self.held.remove(&oldest) {
            self.free(&key);
        }
        Ok(true)
    }
}

/// One that was never sent.
pub(super) fn new(event: Event, no: No) -> Blocked {
    Blocked { event, no, attempt: 0, may_have_arrived: false }
}
