//! The lane of requests: several in flight, never two that share a key. A key that is stuck holds back
//! only its own events.
//!
//! Events become units (one request each); units are stored as begun before they are sent, so that a retry
//! after anything sends the same events, in the shape of the same revision.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Ended;
use super::base::Base;
use super::keyed::Keys;
use crate::event::{Event, EventRef, Key};
use crate::failure::{Failure, FailureKind};
use crate::id::{Offset, Revision};
use crate::policy::backoff::Backoff;
use crate::ports::{Request, RequestPartner, Sent};
use crate::receipt::Entry;
use crate::work::{Unit, Work};

/// Events read ahead of what can be sent.
const READ_AHEAD: usize = 256;

/// Units that wait for a retry of their own; with so many, or so much data in them, the lane reads no further.
const MAX_STUCK: usize = 1_000;

/// Failures in a row after which it is the partner and not the event: then everything waits.
const IN_A_ROW: u32 = 3;

/// Data in one unit, and in all units that wait to be sent: an outage costs disk, not memory.
const UNIT_BYTES: usize = 4 << 20;
const STAGED_BYTES: usize = 8 << 20;

/// A unit with its events.
struct Staged {
    unit: Unit,
    events: Rc<[Event]>,
    keys: Vec<Key>,
    attempts: u32,
    /// An earlier incarnation may have sent it.
    resumed: bool,
    /// Back-off of its own.
    own: Backoff,
}

/// How something in flight ended.
enum Outcome {
    Answered(Staged, Result<Sent, Failure>),
    Committed(Staged, Ended),
}

struct Requests {
    concurrency: usize,
    max_events: usize,
    partners: HashMap<Revision, Rc<dyn RequestPartner>>,
    keys: Keys,
    /// The next offset to be read.
    scan: Offset,
    read: VecDeque<Event>,
    /// Events that waited behind a key and may go now.
    released: VecDeque<(Key, Vec<Offset>)>,
    ready: VecDeque<Staged>,
    retry: VecDeque<Staged>,
    stuck: Vec<(Instant, Staged)>,
    running: FuturesUnordered<LocalBoxFuture<'static, Outcome>>,
    sending: usize,
    /// Units in flight, by first offset.
    flying: HashMap<Offset, Unit>,
    /// Failures in a row, of whatever event.
    failures: u32,
    /// While the partner is thought to be down one delivery at a time is tried, until one succeeds.
    probing: bool,
}

pub(super) async fn run(base: &mut Base, work: Option<Work>, concurrency: usize, max_events: usize) -> Ended {
    let mut lane = Requests::new(base, concurrency, max_events);
    if let Some(Work::Requests(units)) = work {
        lane.resume(base, units).await?;
    }
    loop {
        if base.refresh() {
            // Somebody asked for a run: what waits for its retry is tried now.
            lane.stuck.iter_mut().for_each(|(at, _)| *at = Instant::now());
        }
        for answer in base.answers() {
            let _ = answer.done.send(Err("this target has no delivery in doubt".to_owned()));
        }
        if base.control.stopping() && lane.running.is_empty() {
            return lane.leave(base).await;
        }
        let mut busy = false;
        if base.may_send() {
            lane.stage(base).await?;
            lane.launch(base);
            busy = base.may_send() && lane.has_more();
        }
        base.show(lane.running.len(), busy);
        let alarm = lane.alarm(base);
        tokio::select! {
            Some(outcome) = lane.running.next(), if !lane.running.is_empty() => lane.take(base, outcome).await?,
            () = base.wait(alarm) => {}
        }
    }
}

impl Requests {
    fn new(base: &Base, concurrency: usize, max_events: usize) -> Self {
        Self {
            concurrency,
            max_events,
            partners: HashMap::new(),
            keys: Keys::default(),
            scan: base.settled.below(),
            read: VecDeque::new(),
            released: VecDeque::new(),
            ready: VecDeque::new(),
            retry: VecDeque::new(),
            stuck: Vec::new(),
            running: FuturesUnordered::new(),
            sending: 0,
            flying: HashMap::new(),
            failures: 0,
            probing: false,
        }
    }

    /// Takes up the units that an earlier incarnation had begun. A unit of which a part is settled is sent
    /// whole again: its key and its bytes are those of the whole.
    async fn resume(&mut self, base: &mut Base, mut units: Vec<Unit>) -> Ended {
        units.retain(|unit| unit.offsets.iter().any(|&offset| !base.settled.contains(offset)));
        units.sort_by_key(|unit| unit.offsets.first().copied());
        for unit in units {
            let events = base.read_each(&unit.offsets).await?;
            if events.len() != unit.offsets.len() {
                return Err(Failure::node("events of a request that was begun are not in the event store"));
            }
            let partner = self.partner(base, unit.revision)?;
            let staged = Staged { resumed: true, ..Staged::new(unit, events, partner.as_ref()) };
            staged.keys.iter().for_each(|key| self.keys.take(key.clone()));
            self.retry.push_back(staged);
        }
        Ok(())
    }

    /// Forms units ahead of what is in flight and stores them as begun.
    async fn stage(&mut self, base: &mut Base) -> Ended {
        if self.ready.len() >= self.concurrency || self.probing {
            return Ok(());
        }
        if self.is_full_of_failures() {
            base.complain(format!(
                "{} requests wait for their retry: no more are begun before one of them is settled",
                self.stuck.len()
            ));
            return Ok(());
        }
        let partner = match self.partner(base, base.settings.revision) {
            Ok(partner) => partner,
            Err(failure) => {
                base.failed(&failure, &[], 0).await?;
                base.back_off(&failure);
                return Ok(());
            }
        };
        let before = self.ready.len();
        while self.ready.len() < 4 * self.concurrency && self.staged_bytes() < STAGED_BYTES {
            let events = self.form(base, partner.as_ref()).await?;
            if events.is_empty() {
                break;
            }
            let offsets = events.iter().map(|event| event.offset).collect();
            let unit = Unit { revision: base.settings.revision, offsets };
            self.ready.push_back(Staged::new(unit, events, partner.as_ref()));
        }
        if self.ready.len() > before { base.begin(Work::Requests(self.open())).await } else { Ok(()) }
    }

    /// The events of the next unit, ascending; none if nothing may go.
    async fn form(&mut self, base: &Base, partner: &dyn RequestPartner) -> Result<Vec<Event>, Failure> {
        let mut events: Vec<Event> = Vec::new();
        let mut mine: Vec<Key> = Vec::new();
        while let Some((key, offsets)) =
            self.released.pop_front_if(|(_, offsets)| events.len() + offsets.len() <= self.max_events)
        {
            events.extend(base.read_each(&offsets).await?);
            mine.push(key);
        }
        let mut bytes: usize = events.iter().map(|event| event.data.len()).sum();
        while events.len() < self.max_events && bytes < UNIT_BYTES {
            let Some(event) = self.next_event(base).await? else { break };
            let key = partner.key(&event);
            let ours = mine.contains(&key);
            // Also one of ours, if others of it wait: they are older.
            if self.keys.has_waiting(&key) || (self.keys.is_taken(&key) && !ours) {
                self.keys.park(key, event.offset);
                continue;
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
        if self.read.is_empty() && self.scan < until {
            let (events, next) = base.read(self.scan, until, READ_AHEAD).await?;
            self.scan = next;
            let begun: Vec<Unit> = self.open();
            let is_begun = |offset: Offset| begun.iter().any(|unit| unit.offsets.binary_search(&offset).is_ok());
            self.read = events.into_iter().filter(|event| !is_begun(event.offset)).collect();
        }
        Ok(self.read.pop_front())
    }

    /// Sends what there is room for: retries first, in order.
    fn launch(&mut self, base: &Base) {
        while self.sending < self.room() {
            let Some(mut staged) = self.next_to_send() else { break };
            self.flying.insert(staged.first(), staged.unit.clone());
            let partner = match self.partner(base, staged.unit.revision) {
                Ok(partner) => partner,
                Err(failure) => {
                    self.running.push(Box::pin(async move { Outcome::Answered(staged, Err(failure)) }));
                    self.sending += 1;
                    break;
                }
            };
            staged.attempts += 1;
            self.sending += 1;
            let request = Request { target: base.key.clone(), feed: base.feed.clone(), events: staged.events.clone() };
            self.running.push(Box::pin(async move {
                let result = partner.send(&request).await;
                Outcome::Answered(staged, result)
            }));
        }
    }

    /// How many requests may be in flight.
    fn room(&self) -> usize {
        if self.probing { 1 } else { self.concurrency }
    }

    fn next_to_send(&mut self) -> Option<Staged> {
        if let Some(staged) = self.retry.pop_front() {
            return Some(staged);
        }
        let now = Instant::now();
        if let Some(due) = self.stuck.iter().position(|(at, _)| *at <= now) {
            return Some(self.stuck.swap_remove(due).1);
        }
        self.ready.pop_front()
    }

    async fn take(&mut self, base: &mut Base, outcome: Outcome) -> Ended {
        match outcome {
            Outcome::Answered(staged, Ok(sent)) => {
                self.sending -= 1;
                let commit = base.commit(staged.delivered(&sent));
                self.running.push(Box::pin(async move { Outcome::Committed(staged, commit.await) }));
                Ok(())
            }
            Outcome::Answered(staged, Err(failure)) => {
                self.sending -= 1;
                self.failed(base, staged, failure).await
            }
            Outcome::Committed(staged, result) => {
                result?;
                self.probing = false;
                self.flying.remove(&staged.first());
                self.failures = 0;
                let clean = self.retry.is_empty() && self.stuck.is_empty();
                base.delivered(staged.events.iter().map(|event| (event.offset, event.published)), clean);
                for key in &staged.keys {
                    let waiting = self.keys.next(key, self.max_events);
                    if !waiting.is_empty() {
                        self.released.push_back((key.clone(), waiting));
                    }
                }
                Ok(())
            }
        }
    }

    async fn failed(&mut self, base: &mut Base, mut staged: Staged, failure: Failure) -> Ended {
        let events: Vec<EventRef> = staged.events.iter().map(EventRef::from).collect();
        base.failed(&failure, &events, staged.attempts).await?;
        self.flying.remove(&staged.first());
        self.failures += u32::from(failure.kind != FailureKind::Refused);
        let of_its_own = failure.kind == FailureKind::Refused
            || (failure.kind == FailureKind::Transient && self.failures < IN_A_ROW && !self.probing);
        if of_its_own {
            if failure.kind == FailureKind::Refused {
                // It answered: it is this event that it does not want.
                self.probing = false;
            }
            let wait = base.own_wait(&mut staged.own, &failure);
            self.stuck.push((Instant::now() + wait, staged));
        } else {
            base.back_off(&failure);
            self.probing = true;
            let at = self.retry.partition_point(|other| other.first() < staged.first());
            self.retry.insert(at, staged);
        }
        Ok(())
    }

    /// Told to stop: only what was really tried stays begun; the rest belongs to the next revision.
    async fn leave(&mut self, base: &Base) -> Ended {
        self.ready.clear();
        self.retry.retain(|staged| staged.resumed || staged.attempts > 0);
        base.begin(Work::Requests(self.open())).await
    }

    /// All units that are begun and not settled.
    fn open(&self) -> Vec<Unit> {
        let staged = self.retry.iter().chain(self.stuck.iter().map(|(_, staged)| staged)).chain(&self.ready);
        staged.map(|staged| &staged.unit).chain(self.flying.values()).cloned().collect()
    }

    fn staged_bytes(&self) -> usize {
        self.ready.iter().map(Staged::bytes).sum()
    }

    fn is_full_of_failures(&self) -> bool {
        self.stuck.len() >= MAX_STUCK
            || self.stuck.iter().map(|(_, staged)| staged.bytes()).sum::<usize>() >= STAGED_BYTES
    }

    fn has_more(&self) -> bool {
        let now = Instant::now();
        !self.retry.is_empty() || !self.ready.is_empty() || self.stuck.iter().any(|(at, _)| *at <= now)
    }

    /// When a refused unit is due and could be sent.
    fn alarm(&self, base: &Base) -> Option<Instant> {
        let could = base.may_send() && self.sending < self.room();
        self.stuck.iter().map(|(at, _)| *at).min().filter(|_| could)
    }

    fn partner(&mut self, base: &Base, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        if let Some(partner) = self.partners.get(&revision) {
            return Ok(partner.clone());
        }
        let partner = base.env.partners.requests(&base.key, revision)?;
        self.partners.insert(revision, partner.clone());
        Ok(partner)
    }
}

impl Staged {
    fn new(unit: Unit, events: Vec<Event>, partner: &dyn RequestPartner) -> Self {
        let mut keys: Vec<Key> = events.iter().map(|event| partner.key(event)).collect();
        keys.sort();
        keys.dedup();
        Self { unit, events: events.into(), keys, attempts: 0, resumed: false, own: Backoff::default() }
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.data.len()).sum()
    }

    fn first(&self) -> Offset {
        self.unit.offsets.first().copied().unwrap_or_default()
    }

    fn delivered(&self, sent: &Sent) -> Vec<Entry> {
        let entry = |event: &Event| Entry::Delivered {
            event: event.into(),
            attempt: self.attempts,
            payload_sha256: sent.payload_sha256,
            receipt: sent.receipt.clone(),
        };
        self.events.iter().map(entry).collect()
    }
}
