//! A world of fakes: a ledger and a log in memory, partners that answer by a script, a disk that can fail.

mod disk;
mod governor;
mod ledger;
mod partner;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::head::FeedHead;
use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::ports::*;
use hms_actors::runtime::Env;
use tokio::time::Instant;

pub use disk::*;
pub use governor::*;
pub use ledger::*;
pub use partner::*;

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

/// Both kinds of them.
pub struct FakePartners {
    pub requests: Rc<FakePartner>,
    pub clock: Rc<dyn Clock>,
    pub disk: Rc<RefCell<Disk>>,
}

impl Partners for FakePartners {
    fn requests(&self, _: &TargetKey, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        Ok(Rc::new(FakeRequests { partner: self.requests.clone(), clock: self.clock.clone(), revision }))
    }
    fn files(&self, _: &TargetKey, _: Revision) -> Result<Rc<dyn FilePartner>, Failure> {
        Ok(Rc::new(FakeFiles(self.disk.clone())))
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
