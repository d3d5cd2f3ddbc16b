//! How units come about: from events that are next in the feed, and from those that waited behind a key.

use super::governed::{ASKED, new};
use super::{Requests, STAGED_BYTES};
use crate::delivery::Ended;
use crate::delivery::base::{Base, Blocked, Failed, MAX_HELD};
use crate::delivery::unit::Staged;
use crate::event::{Event, Key};
use crate::failure::Failure;
use crate::id::Offset;
use crate::policy::circuit::Room;
use crate::ports::RequestPartner;
use crate::work::Unit;

/// Events read ahead of what can be sent.
const READ_AHEAD: usize = 256;

/// Data in one unit.
const UNIT_BYTES: usize = 4 << 20;

impl Requests {
    /// Forms units ahead of what is in flight and stores them as begun. For a probe one is enough.
    pub(super) async fn stage(&mut self, base: &mut Base) -> Ended {
        let (enough, most) = match base.room() {
            Room::Free => (self.concurrency, 4 * self.concurrency),
            Room::Probe if self.retry.is_empty() => (1, 1),
            _ => return Ok(()),
        };
        if self.ready.len() >= enough {
            return Ok(());
        }
        if self.is_full_of_failures() {
            base.complain(format!(
                "{} requests wait for their retry: no more are begun before one of them is settled",
                self.stuck.len()
            ));
            return Ok(());
        }
        if self.released.is_empty() && self.held.len() >= MAX_HELD {
            base.complain(format!(
                "{MAX_HELD} events are held by policies: no more are begun before one of them may go or is given up"
            ));
            return Ok(());
        }
        if self.released.is_empty() && self.read.is_empty() && self.scan >= base.until() {
            base.complain_if_far_ahead();
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
        let before = self.ready.len();
        while self.ready.len() < most && self.staged_bytes() < STAGED_BYTES {
            let mut blocked = Vec::new();
            let events = self.form(base, partner.as_ref(), &mut blocked).await?;
            let (none, blocks) = (events.is_empty(), !blocked.is_empty());
            if blocks {
                base.blocked(blocked).await?;
            }
            if !none {
                self.ready.push_back(Self::unit_of(base, events, partner.as_ref(), seal));
            }
            if (none && !blocks) || self.held.len() >= MAX_HELD {
                break;
            }
        }
        if self.ready.len() > before { self.store_open(base).await } else { Ok(()) }
    }

    fn unit_of(base: &Base, events: Vec<Event>, partner: &dyn RequestPartner, seal: u32) -> Staged {
        let offsets = events.iter().map(|event| event.offset).collect();
        let unit = Unit { revision: base.settings.revision, offsets, letter: None, seal };
        Staged::new(unit, events, partner)
    }

    /// The events of the next unit, ascending; none if nothing may go. `blocked` are those that were found on the way
    /// and that policies say no to.
    async fn form(
        &mut self,
        base: &mut Base,
        partner: &dyn RequestPartner,
        blocked: &mut Vec<Blocked>,
    ) -> Result<Vec<Event>, Failure> {
        let mut events: Vec<Event> = Vec::new();
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
            let ours = mine.contains(&key);
            // Also one of ours, if others of it wait: they are older.
            if self.keys.has_waiting(&key) || (self.keys.is_taken(&key) && !ours) {
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
            if !ours {
                self.keys.take(key.clone());
                mine.push(key);
            }
            bytes += event.data.len();
            events.push(event);
        }
        events.sort_by_key(|event| event.offset);
        Ok(events)
    }

    /// The next event of the feed that is nobody's yet.
    async fn next_event(&mut self, base: &Base) -> Result<Option<Event>, Failure> {
        let until = base.until();
        // What was read may be settled or begun to the last event, also page after page: nobody would wake us for
        // what comes after it.
        while self.read.is_empty() && self.scan < until {
            let (events, next) = base.read(self.scan, until, READ_AHEAD).await?;
            self.scan = next;
            let begins =
                |unit: &Unit, offset: Offset| unit.letter.is_none() && unit.offsets.binary_search(&offset).is_ok();
            let is_begun = |event: &Event| self.open_units().any(|unit| begins(unit, event.offset));
            self.read = events.into_iter().filter(|event| !is_begun(event)).collect();
        }
        Ok(self.read.pop_front())
    }

    fn staged_bytes(&self) -> usize {
        self.ready.iter().map(Staged::bytes).sum()
    }
}
