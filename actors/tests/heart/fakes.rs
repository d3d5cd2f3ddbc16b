//! A world of fakes: a ledger and a log in memory, partners that answer by a script, a disk that can fail.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::event::{Event, Key};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::head::FeedHead;
use hms_actors::id::{Epoch, FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::ports::*;
use hms_actors::receipt::{Cause, Entry, Receipt};
use hms_actors::runtime::Env;
use hms_actors::settled::Settled;
use hms_actors::work::{Place, Work};
use tokio::time::Instant;

pub fn feed() -> FeedName {
    FeedName::parse("grants").unwrap()
}

pub fn key() -> TargetKey {
    TargetKey { recipe: RecipeId::parse("vdot.bridge_grant.sync").unwrap(), target: TargetName::parse("gis").unwrap() }
}

/// A clock that runs with tokio's.
pub struct FakeClock(pub Instant);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).plus(self.0.elapsed())
    }
}

/// The log: events that the test publishes.
pub struct FakeLog {
    pub events: RefCell<Vec<Event>>,
    /// How many of those that were read are still in memory.
    pub held: Arc<AtomicUsize>,
    pub head: FeedHead,
    pub clock: Rc<dyn Clock>,
}

/// The data of an event that was read, for as long as anybody has it.
struct Held(Bytes, Arc<AtomicUsize>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FakeLog {
    fn read_once(&self, event: &Event) -> Event {
        self.held.fetch_add(1, Ordering::Relaxed);
        Event { data: Bytes::from_owner(Held(event.data.clone(), self.held.clone())), ..event.clone() }
    }

    pub fn publish(&self, key: &str) -> Offset {
        let offset = self.events.borrow().len() as Offset;
        self.events.borrow_mut().push(Event {
            offset,
            published: self.clock.now(),
            id: format!("e{offset}"),
            source: "test".into(),
            kind: "test".into(),
            subject: Some(key.into()),
            time: None,
            extensions: Vec::new(),
            data: Bytes::from(format!("{{\"key\":\"{key}\",\"n\":{offset}}}")),
        });
        self.head.raise(offset + 1);
        offset
    }
}

#[async_trait(?Send)]
impl EventLog for FakeLog {
    async fn read(
        &self,
        _: &FeedName,
        from: Offset,
        until: Offset,
        max_events: usize,
        _: usize,
    ) -> Result<Vec<Event>, Failure> {
        let events = self.events.borrow();
        let there = events.iter().filter(|e| e.offset >= from && e.offset < until).take(max_events);
        Ok(there.map(|event| self.read_once(event)).collect())
    }
    fn head(&self, _: &FeedName) -> FeedHead {
        self.head.clone()
    }
}

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

/// What a request partner does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Accept,
    AcceptAfter(Duration),
    PanicAfter(Duration),
    Fail(Failure),
    Panic,
}

/// A partner that keeps what it received and answers by a script; accepts when the script has ended.
#[derive(Default)]
pub struct FakePartner {
    /// What new work begins with, and what each request came with.
    pub seal: Cell<u32>,
    pub seals: RefCell<Vec<u32>>,
    pub received: RefCell<Vec<(Timestamp, Revision, Vec<Offset>)>>,
    pub accepted: RefCell<Vec<Offset>>,
    pub script: RefCell<VecDeque<Answer>>,
    /// Answers for certain events, before the script.
    pub refuses: RefCell<BTreeMap<Offset, Failure>>,
    pub in_flight: RefCell<Vec<Key>>,
}

pub struct FakePartners {
    pub requests: Rc<FakePartner>,
    pub clock: Rc<dyn Clock>,
    pub disk: Rc<RefCell<Disk>>,
}

/// Policies as a test sets them: who is asked, and what they say no to.
#[derive(Default)]
pub struct FakeGovernor {
    /// Offset → the policy that says no; without a name nobody can tell.
    pub denies: RefCell<BTreeMap<Offset, Option<&'static str>>>,
    /// Offsets in the order in which they were asked about, with the revision.
    pub asked: RefCell<Vec<(Revision, Offset)>>,
    /// No judge can be had.
    pub broken: Cell<bool>,
}

struct FakeJudge(Rc<FakeGovernor>, Revision, BTreeMap<Offset, Option<&'static str>>);

/// Shared by the world and its actors.
pub struct Governing(pub Rc<FakeGovernor>);

impl Governor for Governing {
    fn judge(&self, _: &TargetKey, revision: Revision) -> Result<Rc<dyn Judge>, Failure> {
        if self.0.broken.get() {
            return Err(Failure::node("the policies can't be read"));
        }
        // As in the real one, a judge does not change its mind.
        Ok(Rc::new(FakeJudge(self.0.clone(), revision, self.0.denies.borrow().clone())))
    }
}

impl Judge for FakeJudge {
    fn decide(&self, event: &Event) -> Verdict {
        self.0.asked.borrow_mut().push((self.1, event.offset));
        match self.2.get(&event.offset) {
            None => Verdict::Allow,
            Some(None) => Verdict::CannotTell { words: "the policy failed".into() },
            Some(Some(policy)) => {
                let words = format!("policy `{policy}` says no");
                Verdict::Deny(Denial { policies: vec![(*policy).to_owned()], words })
            }
        }
    }
}

impl Partners for FakePartners {
    fn requests(&self, _: &TargetKey, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        Ok(Rc::new(FakeRequests { partner: self.requests.clone(), clock: self.clock.clone(), revision }))
    }
    fn files(&self, _: &TargetKey, _: Revision) -> Result<Rc<dyn FilePartner>, Failure> {
        Ok(Rc::new(FakeFiles(self.disk.clone())))
    }
}

struct FakeRequests {
    partner: Rc<FakePartner>,
    clock: Rc<dyn Clock>,
    revision: Revision,
}

/// Leaves the keys when the request ends, however it ends.
struct InFlight(Rc<FakePartner>, Vec<Key>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.borrow_mut().retain(|key| !self.1.contains(key));
    }
}

#[async_trait(?Send)]
impl RequestPartner for FakeRequests {
    fn key(&self, event: &Event) -> Key {
        match event.subject.as_deref() {
            Some("") | None => Key::Own(event.offset),
            Some(subject) => Key::Value(subject.as_bytes().into()),
        }
    }

    fn seal(&self) -> Result<u32, Failure> {
        Ok(self.partner.seal.get())
    }

    async fn render(&self, requests: Vec<Arc<[Event]>>, _seal: u32) -> Vec<Option<Body>> {
        tokio::task::yield_now().await;
        requests.iter().map(|events| Some(body(events))).collect()
    }

    async fn send(&self, request: &Request) -> Result<Sent, Failure> {
        self.partner.seals.borrow_mut().push(request.seal);
        if let Some(ahead) = &request.body {
            assert_eq!(*ahead, body(&request.events), "a body that was made of other events");
        }
        let offsets: Vec<Offset> = request.events.iter().map(|event| event.offset).collect();
        let mut keys: Vec<Key> = request.events.iter().map(|event| self.key(event)).collect();
        keys.dedup();
        for key in &keys {
            assert!(!self.partner.in_flight.borrow().contains(key), "two requests of one key in flight: {key:?}");
        }
        self.partner.in_flight.borrow_mut().extend(keys.clone());
        let _in_flight = InFlight(self.partner.clone(), keys);
        self.partner.received.borrow_mut().push((self.clock.now(), self.revision, offsets.clone()));
        let refused = offsets.iter().find_map(|offset| self.partner.refuses.borrow().get(offset).cloned());
        let answer = refused.map(Answer::Fail).or_else(|| self.partner.script.borrow_mut().pop_front());
        match answer.unwrap_or(Answer::Accept) {
            Answer::Accept => tokio::task::yield_now().await,
            Answer::AcceptAfter(wait) => tokio::time::sleep(wait).await,
            Answer::PanicAfter(wait) => {
                tokio::time::sleep(wait).await;
                panic!("the adapter panics")
            }
            Answer::Fail(failure) => {
                tokio::task::yield_now().await;
                return Err(failure);
            }
            Answer::Panic => panic!("the adapter panics"),
        }
        self.partner.accepted.borrow_mut().extend(&offsets);
        let receipt = Receipt::Rest {
            status: 200,
            url: "http://partner".into(),
            idempotency_key: format!("{offsets:?}").into(),
            response_sha256: [0; 32],
            duration_ms: 0,
            transport: None,
        };
        Ok(Sent { receipt, payload_sha256: [0; 32] })
    }
}

fn body(events: &[Event]) -> Body {
    let offsets: Vec<Offset> = events.iter().map(|event| event.offset).collect();
    Body { bytes: format!("{offsets:?}").into(), sha256: [0; 32] }
}

/// A partner's disk, and when it fails: after `fuse` more operations every one fails; the one that burns it
/// may have done a part of its work.
#[derive(Default)]
pub struct Disk {
    pub files: BTreeMap<String, Vec<u8>>,
    pub fuse: Option<u32>,
    /// How many bytes of the write that burns the fuse arrive.
    pub partial: usize,
    pub path: String,
    /// So many connections never come about.
    pub hangs: u32,
    /// The folder is not there: nothing can be made in it.
    pub no_folder: bool,
}

impl Disk {
    fn step(&mut self) -> Result<bool, Failure> {
        match &mut self.fuse {
            None => Ok(true),
            Some(0) => Err(Failure::transient("connection lost")),
            Some(left) => {
                *left -= 1;
                Ok(*left > 0)
            }
        }
    }
}

struct FakeFiles(Rc<RefCell<Disk>>);

#[async_trait(?Send)]
impl FilePartner for FakeFiles {
    fn place(&self, _: Timestamp, _: (Offset, Offset)) -> Result<Place, Failure> {
        let path = self.0.borrow().path.clone();
        Ok(Place { host: "h".into(), port: 22, user: "sync".into(), path })
    }
    fn encode(&self, events: &[Event]) -> Result<Rows, Failure> {
        let rows: Vec<String> = events.iter().map(|event| format!("row-{}\n", event.id)).collect();
        let lengths = rows.iter().map(|row| row.len() as u32).collect();
        Ok(Rows { header: Bytes::new(), bytes: rows.concat().into(), lengths })
    }
    async fn connect(&self, _: &Place) -> Result<Box<dyn FileHost>, Failure> {
        let hangs = self.0.borrow().hangs;
        if hangs > 0 {
            self.0.borrow_mut().hangs -= 1;
            std::future::pending::<()>().await;
        }
        self.0.borrow_mut().step()?;
        Ok(Box::new(FakeHost(self.0.clone())))
    }
}

struct FakeHost(Rc<RefCell<Disk>>);

#[async_trait(?Send)]
impl FileHost for FakeHost {
    async fn length(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        let mut disk = self.0.borrow_mut();
        disk.step()?;
        Ok(disk.files.get(path).map(|file| file.len() as u64))
    }

    async fn read(&mut self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let mut disk = self.0.borrow_mut();
        disk.step()?;
        let file = disk.files.get(path).ok_or_else(|| Failure::configuration("gone"))?;
        Ok(file.iter().skip(offset as usize).take(length).copied().collect())
    }

    async fn write(&mut self, path: &str, offset: u64, bytes: &[u8], to: WriteTo) -> Result<Synced, Failure> {
        let mut disk = self.0.borrow_mut();
        let whole = disk.step()?;
        let count = if whole { bytes.len() } else { disk.partial.min(bytes.len()) };
        let file = match to {
            WriteTo::Fresh if disk.no_folder => return Err(Failure::configuration("no such directory")),
            WriteTo::Fresh => {
                disk.files.insert(path.into(), Vec::new());
                disk.files.get_mut(path)
            }
            WriteTo::Existing => disk.files.get_mut(path),
        };
        let file = file.ok_or_else(|| Failure::configuration("gone"))?;
        let offset = offset as usize;
        let end = offset + count;
        file.resize(file.len().max(end), 0);
        file[offset..end].copy_from_slice(&bytes[..count]);
        if whole { Ok(Synced(true)) } else { Err(Failure::transient("connection lost in a write")) }
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let mut disk = self.0.borrow_mut();
        let answered = disk.step()?;
        if disk.files.contains_key(to) {
            return Err(Failure::transient_definite("exists"));
        }
        // The last operation before the line is cut has its effect in half of the runs: `partial` says in which.
        if answered || disk.partial.is_multiple_of(2) {
            let file = disk.files.remove(from).ok_or_else(|| Failure::configuration("gone"))?;
            disk.files.insert(to.into(), file);
        }
        if answered { Ok(()) } else { Err(Failure::transient("connection lost in a rename")) }
    }
}

/// Counts and keeps what it is told.
#[derive(Default)]
pub struct FakeWitness {
    pub runs: RefCell<Vec<(u64, u64)>>,
    pub restarted: RefCell<Vec<String>>,
    pub blocked: Cell<u64>,
}

impl Witness for FakeWitness {
    fn attempted(&self, _: &TargetKey, _: Option<FailureKind>, _: u64) {}
    fn delivered(&self, _: &TargetKey, _: Duration, _: u64) {}
    fn blocked(&self, _: &TargetKey, events: u64) {
        self.blocked.set(self.blocked.get() + events);
    }
    fn ran(&self, _: &RecipeId, completed: u64, failed: u64) {
        if completed + failed > 0 {
            self.runs.borrow_mut().push((completed, failed));
        }
    }
    fn released(&self, _: &RecipeId, _: Offset) {}
    fn restarted(&self, _: &RecipeId, actor: &str) {
        self.restarted.borrow_mut().push(actor.to_owned());
    }
}

/// All of it together.
#[derive(Clone)]
pub struct World {
    pub log: Rc<FakeLog>,
    pub ledger: Rc<FakeLedger>,
    pub partner: Rc<FakePartner>,
    pub disk: Rc<RefCell<Disk>>,
    pub witness: Rc<FakeWitness>,
    pub governor: Rc<FakeGovernor>,
    pub env: Env,
}

impl World {
    pub fn new() -> Self {
        let clock: Rc<dyn Clock> = Rc::new(FakeClock(Instant::now()));
        let (events, held, head) = (RefCell::default(), Arc::default(), FeedHead::default());
        let log = Rc::new(FakeLog { events, held, head, clock: clock.clone() });
        let ledger = Rc::new(FakeLedger::default());
        *ledger.clock.borrow_mut() = Some(clock.clone());
        let partner = Rc::new(FakePartner::default());
        let disk = Rc::new(RefCell::new(Disk { path: "/inbox/a.csv".into(), ..Disk::default() }));
        let witness = Rc::new(FakeWitness::default());
        let partners = Rc::new(FakePartners { requests: partner.clone(), clock: clock.clone(), disk: disk.clone() });
        let governor = Rc::new(FakeGovernor::default());
        let env = Env {
            clock,
            log: log.clone(),
            ledger: ledger.clone(),
            partners,
            governor: Rc::new(Governing(governor.clone())),
            witness: witness.clone(),
            step: |_| {},
        };
        Self { log, ledger, partner, disk, witness, governor, env }
    }
}
