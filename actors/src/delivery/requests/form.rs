//! How units come about: from events that are next in the feed, and from those that waited behind a key.

use std::collections::VecDeque;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};

use super::governed::{ASKED, new};
use super::{Requests, STAGED_BYTES};
use crate::delivery::Ended;
use crate::delivery::base::{Base, Blocked, Failed, MAX_HELD, READ_BYTES};
use crate::delivery::keyed::Meets;
use crate::delivery::unit::Staged;
use crate::event::{Event, Key};
use crate::failure::Failure;
use crate::id::Offset;
use crate::policy::circuit::Room;
use crate::ports::RequestPartner;
use crate::work::Unit;

/// Units that wait for a retry of their own; with so many, or so much data in them, the lane reads no further.
const MAX_STUCK: usize = 1_000;

/// Events read ahead of what can be sent.
const READ_AHEAD: usize = 256;

/// A part of the feed, and the offset from which to read on.
pub(super) type Page = LocalBoxFuture<'static, Result<(Vec<Event>, Offset), Failure>>;

/// Data in one unit.
const UNIT_BYTES: usize = 4 << 20;

/// Events in flight or on their way to their receipts. Where the disk is slower than the partner, more of them make each
/// of its writes longer and none of them sooner.
const MOST_UNSETTLED: usize = 16_384;

/// Events that are formed into units in one go: others of this thread have their turn in between.
const IN_ONE_GO: usize = 2_048;

impl Requests {
    /// Forms units ahead of what is in flight and begins to store them as begun, while those before them are sent. For a
    /// probe one is enough.
    pub(super) async fn stage(&mut self, base: &mut Base) -> Ended {
        let Some(most) = self.may_stage(base) else { return Ok(()) };
        if !self.has_events(base) {
            return Ok(());
        }
        let partner = self.partner(base, base.settings.revision);
        let (partner, seal) = match partner.and_then(|partner| partner.seal().map(|seal| (partner, seal))) {
            Ok(ready) => ready,
            Err(failure) => {
                let permit = base.begin_attempt().await?;
                let (events, also) = (&[][..], Vec::new());
                base.failed(Failed { failure: &failure, events, attempt: 0, permit, letter: None, also }).await?;
                base.back_off(&failure);
                return Ok(());
            }
        };
        let mut units = Vec::new();
        let (mut bytes, mut events) = (self.ready.iter().map(Staged::bytes).sum::<usize>(), 0);
        while self.ready.len() + units.len() < most && bytes < STAGED_BYTES && events < IN_ONE_GO {
            let mut blocked = Vec::new();
            let (formed, keys) = self.form(base, partner.as_ref(), &mut blocked).await?;
            let (none, blocks) = (formed.is_empty(), !blocked.is_empty());
            if blocks {
                base.blocked(blocked).await?;
            }
            if !none {
                let offsets = formed.iter().map(|event| event.offset).collect();
                let unit = Unit { revision: base.settings.revision, offsets, letter: None, seal };
                let unit = Staged::with_keys(unit, formed, keys);
                (bytes, events) = (bytes + unit.bytes(), events + unit.events.len());
                units.push(unit);
            }
            if (none && !blocks) || self.held.len() >= MAX_HELD {
                break;
            }
        }
        if !units.is_empty() {
            self.store(base, units, partner, seal);
        }
        Ok(())
    }

    /// How many units to have ready, if more are to be begun.
    fn may_stage(&self, base: &Base) -> Option<usize> {
        let (enough, most) = match base.room() {
            Room::Free => (2 * self.concurrency, 4 * self.concurrency),
            Room::Probe if self.retry.is_empty() => (1, 1),
            _ => return None,
        };
        let unsettled = || self.flying.values().map(|flight| flight.unit.offsets.len()).sum::<usize>();
        let no = self.storing.is_some() || self.ready.len() >= enough || unsettled() >= MOST_UNSETTLED;
        Some(most).filter(|_| !no)
    }

    /// Whether there is something of which units can be made.
    fn has_events(&self, base: &Base) -> bool {
        let there = || !self.released.is_empty() || !self.read.is_empty() || self.scan < base.until();
        !self.is_full_of_failures() && !self.is_full_of_held() && there()
    }

    pub(super) fn can_stage(&self, base: &Base) -> bool {
        self.may_stage(base).is_some() && self.has_events(base)
    }

    /// Says what else holds back units that there would be room for, if something does.
    pub(super) fn complain_of_what_holds_back(&self, base: &Base) {
        if self.may_stage(base).is_none() || self.has_events(base) {
            return;
        }
        if self.is_full_of_failures() {
            base.complain(format!(
                "{} requests wait for their retry: no more are begun before one of them is settled",
                self.stuck.len()
            ));
        } else if self.is_full_of_held() {
            base.complain(format!(
                "{MAX_HELD} events are held by policies: no more are begun before one of them may go or is given up"
            ));
        } else {
            base.complain_if_far_ahead();
        }
    }

    fn is_full_of_failures(&self) -> bool {
        self.stuck.len() >= MAX_STUCK
            || self.stuck.iter().map(|(_, staged)| staged.bytes()).sum::<usize>() >= STAGED_BYTES
    }

    fn is_full_of_held(&self) -> bool {
        self.released.is_empty() && self.held.len() >= MAX_HELD
    }

    /// The events of the next unit, ascending, and their keys; none if nothing may go. `blocked` are those that were found on the way
    /// and that policies say no to.
    async fn form(
        &mut self,
        base: &mut Base,
        partner: &dyn RequestPartner,
        blocked: &mut Vec<Blocked>,
    ) -> Result<(Vec<Event>, Vec<Key>), Failure> {
        let mut events: Vec<Event> = Vec::with_capacity(self.max_events.min(self.read.len()));
        let mut mine: Vec<Key> = Vec::new();
        while let Some((key, offsets)) =
            self.released.pop_front_if(|(_, offsets)| events.len() + offsets.len() <= self.max_events)
        {
            let waited = base.read_each(&offsets).await?;
            let may_go = self.cleared(base, &key, waited, blocked);
            if !may_go.is_empty() {
                mine.push(key);
                events.extend(may_go);
            }
        }
        let mut bytes: usize = events.iter().map(|event| event.data.len()).sum();
        while events.len() < self.max_events && bytes < UNIT_BYTES && blocked.len() < ASKED {
            let Some(event) = self.next_event(base).await? else { break };
            let key = partner.key(&event);
            let meets = self.keys.meets(&key);
            let ours = meets == Meets::Taken && mine.contains(&key);
            // Also one of ours, if others of it wait: they are older.
            if meets != Meets::Nothing && !ours {
                self.keys.park(key, event.offset);
                continue;
            }
            match base.no_to(base.settings.revision, &event) {
                Some(no) if no.gives_up => {
                    blocked.push(new(event, no));
                    continue;
                }
                // Asked about again when those before it are settled.
                Some(_) if ours => {
                    self.keys.park(key, event.offset);
                    continue;
                }
                Some(no) => {
                    self.keys.take(key.clone());
                    self.held.insert(event.offset, key);
                    blocked.push(new(event, no));
                    continue;
                }
                None => {}
            }
            if !ours && key.is_shared() {
                self.keys.take(key.clone());
                mine.push(key);
            }
            bytes += event.data.len();
            events.push(event);
        }
        events.sort_by_key(|event| event.offset);
        Ok((events, mine))
    }

    /// The next event of the feed that is nobody's yet.
    async fn next_event(&mut self, base: &Base) -> Result<Option<Event>, Failure> {
        let until = base.until();
        // What was read may be settled or begun to the last event, also page after page: nobody would wake us for
        // what comes after it.
        while self.read.is_empty() && self.scan < until {
            let page = self.page.take().unwrap_or_else(|| self.page(base, self.scan, until));
            let (events, next) = page.await?;
            self.scan = next;
            if next < until {
                // It comes while these are formed and sent.
                let mut page = self.page(base, next, until);
                self.page = Some(match (&mut page).now_or_never() {
                    Some(read) => ready(read).boxed_local(),
                    None => page,
                });
            }
            let begun = self.begun_from(events.first().map_or(next, |event| event.offset));
            let is_new =
                |event: &Event| !base.settled.contains(event.offset) && begun.binary_search(&event.offset).is_err();
            let mut events = VecDeque::from(events);
            events.retain(is_new);
            self.read = events;
        }
        Ok(self.read.pop_front())
    }

    /// Begins to read when it is first asked for.
    fn page(&self, base: &Base, from: Offset, until: Offset) -> Page {
        let (log, feed) = (base.env.log.clone(), base.recipe.feed.clone());
        let max_events = if self.max_events > 1 { IN_ONE_GO } else { READ_AHEAD };
        Box::pin(async move {
            let events = log.read(&feed, from, until, max_events, READ_BYTES).await?;
            let next = events.last().map_or(until, |event| event.offset + 1);
            Ok((events, next))
        })
    }

    /// The offsets of all events from `first` on that are begun already, ascending: an incarnation before has begun them.
    fn begun_from(&self, first: Offset) -> Vec<Offset> {
        let reaches = |unit: &&Unit| unit.letter.is_none() && unit.offsets.last().is_some_and(|&last| last >= first);
        let offsets = self.open_units().filter(reaches).flat_map(|unit| unit.offsets.iter());
        let mut begun: Vec<Offset> = offsets.copied().filter(|&offset| offset >= first).collect();
        begun.sort_unstable();
        begun
    }
}
