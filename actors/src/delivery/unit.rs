//! A unit of requests with its events, and one attempt at it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;

use super::base::Base;
use crate::event::{Event, EventRef, Key};
use crate::failure::Failure;
use crate::id::Offset;
use crate::policy::backoff::Backoff;
use crate::policy::circuit::Permit;
use crate::ports::{Body, OpenTicket, Request, RequestPartner, Sent, Tries};
use crate::receipt::{Cause, Entry};
use crate::work::Unit;

/// The dead letter that a unit delivers, and its first offset.
pub(super) type Name = (Option<u64>, Offset);

/// A unit with its events.
pub(super) struct Staged {
    pub unit: Unit,
    pub events: Arc<[Event]>,
    /// What its request carries, if that was made ahead.
    pub body: Option<Body>,
    /// Those that other events may have too; ascending, each once.
    pub keys: Rc<[Key]>,
    pub tries: Tries,
    /// It, or the batch that it was a part of, may have been sent: it stays begun, whatever is applied.
    pub stays: bool,
    /// Of its events' data.
    bytes: usize,
    /// It may share a key with another unit.
    pub shared: bool,
    pub refused_last: bool,
    /// Answers that it is there already, after an attempt of unknown outcome.
    pub conflicts: u32,
    /// Back-off of its own.
    pub own: Backoff,
}

/// How something in flight ended.
pub(super) enum Outcome {
    Answered(Staged, Permit, Result<Sent, Failure>),
    Panicked(Staged, Permit, Box<dyn Any + Send>),
    /// The receipts of these.
    Committed(Vec<Staged>, Result<Vec<OpenTicket>, Failure>),
}

/// One attempt. A panic of the adapter is an outcome like another, but for the actor it comes after the record.
pub(super) fn attempt(
    base: &Base,
    partner: Rc<dyn RequestPartner>,
    mut staged: Staged,
    permit: Permit,
) -> impl Future<Output = Outcome> + use<> {
    staged.tries.attempts += 1;
    let replay = staged.unit.letter.is_some();
    let (target, feed, events) = (base.key.clone(), base.recipe.feed.clone(), staged.events.clone());
    // A retry makes it again: what waits for one keeps no more than it must.
    let request = Request { target, feed, events, body: staged.body.take(), replay, seal: staged.unit.seal };
    async move {
        match AssertUnwindSafe(partner.send(&request)).catch_unwind().await {
            Ok(result) => Outcome::Answered(staged, permit, result),
            Err(panic) => Outcome::Panicked(staged, permit, panic),
        }
    }
}

impl Staged {
    pub fn new(unit: Unit, events: Vec<Event>, partner: &dyn RequestPartner) -> Self {
        let keys = events.iter().map(|event| partner.key(event)).collect();
        Self::with_keys(unit, events, keys)
    }

    /// `keys` are those of the events.
    pub fn with_keys(unit: Unit, events: Vec<Event>, mut keys: Vec<Key>) -> Self {
        keys.retain(Key::is_shared);
        keys.sort();
        keys.dedup();
        Self {
            unit,
            bytes: events.iter().map(|event| event.data.len()).sum(),
            events: events.into(),
            body: None,
            keys: keys.into(),
            tries: Tries::default(),
            stays: false,
            shared: false,
            refused_last: false,
            conflicts: 0,
            own: Backoff::default(),
        }
    }

    /// No other unit that is open has it.
    pub fn name(&self) -> Name {
        (self.unit.letter, self.first())
    }

    /// What its attempts are counted under.
    pub fn counted_as(&self) -> (Offset, u32) {
        (self.first(), u32::try_from(self.unit.offsets.len()).unwrap_or(u32::MAX))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn first(&self) -> Offset {
        self.unit.offsets.first().copied().unwrap_or_default()
    }

    /// Whether it is finished as it was begun, whatever is applied.
    pub fn stays_begun(&self) -> bool {
        let tried = self.tries.attempts > 0 && (self.events.len() > 1 || self.tries.may_have_arrived);
        self.stays || tried || self.unit.letter.is_some()
    }

    pub fn events(&self) -> Vec<EventRef> {
        self.events.iter().map(EventRef::from).collect()
    }

    /// The records of its delivery. They take the events' ids along: nobody asks for them any more.
    pub fn delivered(&mut self, sent: &Sent, entries: &mut Vec<Entry>) {
        let (attempt, letter) = (self.tries.attempts, self.unit.letter);
        let mut entry = |offset, id| {
            let (event, receipt) = (EventRef { offset, id }, sent.receipt.clone());
            entries.push(Entry::Delivered { event, attempt, payload_sha256: sent.payload_sha256, receipt, letter });
        };
        match Arc::get_mut(&mut self.events) {
            Some(events) => events.iter_mut().for_each(|event| entry(event.offset, std::mem::take(&mut event.id))),
            None => self.events.iter().for_each(|event| entry(event.offset, event.id.clone())),
        }
    }

    pub fn dead(&self, reason: &str, cause: Option<Cause>) -> Vec<Entry> {
        let entry = |event: &Event| Entry::DeadLettered {
            event: Box::new(event.clone()),
            attempt: self.tries.attempts,
            reason: reason.to_owned(),
            may_have_arrived: self.tries.may_have_arrived,
            cause,
        };
        self.events.iter().map(entry).collect()
    }
}
