//! A world with two targets and faults in it: a log that panics or hangs under the reader, a supervisor that panics,
//! keys that can't be computed, a store that answers late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use hms_actors::event::{Event, Key};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::head::FeedHead;
use hms_actors::id::{Epoch, FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::ports::*;
use hms_actors::receipt::Entry;
use hms_actors::runtime::Env;
use hms_actors::work::Work;

use crate::fakes::{World, key};

/// The name of the target that has no faults.
pub fn sibling() -> TargetName {
    TargetName::parse("crews").unwrap()
}

/// Two worlds with one log and one clock, and what goes wrong in them.
pub struct Faults {
    gis: Env,
    crews: Env,
    pub reader_panics: Cell<bool>,
    pub reader_hangs: Cell<bool>,
    pub supervisor_panics: Cell<bool>,
    pub keys_panic: Cell<bool>,
    pub store_is_full: Cell<bool>,
    /// How long the next commit with a delivery takes, whoever waits for it.
    pub slow_commit: Cell<Option<Duration>>,
    pub slow_commit_ended: Rc<RefCell<Option<Result<(), FailureKind>>>>,
}

/// The world of `gis`, that of its sibling, and the faults; actors get their world from the first.
pub fn two_targets() -> (World, World, Rc<Faults>) {
    let (mut gis, mut crews) = (World::new(), World::new());
    (crews.env.log, crews.env.clock) = (gis.env.log.clone(), gis.env.clock.clone());
    let faults = Rc::new(Faults {
        gis: gis.env.clone(),
        crews: crews.env.clone(),
        reader_panics: Cell::default(),
        reader_hangs: Cell::default(),
        supervisor_panics: Cell::default(),
        keys_panic: Cell::default(),
        store_is_full: Cell::default(),
        slow_commit: Cell::default(),
        slow_commit_ended: Rc::default(),
    });
    gis.env.log = faults.clone();
    gis.env.ledger = faults.clone();
    gis.env.partners = faults.clone();
    gis.env.witness = faults.clone();
    (gis, crews, faults)
}

impl Faults {
    fn of(&self, target: &TargetKey) -> &Env {
        if target.target == key().target { &self.gis } else { &self.crews }
    }
}

#[async_trait(?Send)]
impl EventLog for Faults {
    async fn read(
        &self,
        feed: &FeedName,
        from: Offset,
        until: Offset,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Event>, Failure> {
        // Only the reader wants no more than one event's time.
        let by_reader = max_bytes == 1;
        assert!(!(by_reader && self.reader_panics.get()), "the log panics");
        if by_reader && self.reader_hangs.take() {
            std::future::pending::<()>().await;
        }
        self.gis.log.read(feed, from, until, max_events, max_bytes).await
    }
    fn head(&self, feed: &FeedName) -> FeedHead {
        self.gis.log.head(feed)
    }
}

#[async_trait(?Send)]
impl Ledger for Faults {
    async fn open(&self, target: &TargetKey) -> Result<Opened, Failure> {
        self.of(target).ledger.open(target).await
    }
    async fn begin(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        self.of(target).ledger.begin(target, epoch, work).await
    }

    /// As the real store, which writes what it was given, whether somebody still waits for the answer or not.
    async fn commit(&self, target: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<Vec<OpenTicket>, Failure> {
        if self.store_is_full.get() {
            return Err(Failure::node("no space left on device"));
        }
        let (ledger, of) = (self.of(target).ledger.clone(), target.clone());
        let delivers = entries.iter().any(|entry| matches!(entry, Entry::Delivered { .. }));
        let Some(wait) = delivers.then(|| self.slow_commit.take()).flatten() else {
            return ledger.commit(&of, epoch, entries).await;
        };
        let ended = self.slow_commit_ended.clone();
        let commit = tokio::task::spawn_local(async move {
            tokio::time::sleep(wait).await;
            let result = ledger.commit(&of, epoch, entries).await;
            *ended.borrow_mut() = Some(result.as_ref().map(drop).map_err(|failure| failure.kind));
            result
        });
        commit.await.unwrap()
    }
    async fn pace(&self, target: &TargetKey, epoch: Epoch, full_at: Timestamp) -> Result<(), Failure> {
        self.of(target).ledger.pace(target, epoch, full_at).await
    }
    async fn letter(&self, target: &TargetKey, number: u64) -> Result<Option<Event>, Failure> {
        self.of(target).ledger.letter(target, number).await
    }
}

impl Partners for Faults {
    fn requests(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        let partner = self.of(target).partners.requests(target, revision)?;
        let panics = self.keys_panic.get() && target.target == key().target;
        Ok(if panics { Rc::new(NoKeys(partner)) } else { partner })
    }
    fn files(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn FilePartner>, Failure> {
        self.of(target).partners.files(target, revision)
    }
}

struct NoKeys(Rc<dyn RequestPartner>);

#[async_trait(?Send)]
impl RequestPartner for NoKeys {
    fn key(&self, event: &Event) -> Key {
        panic!("no key for {}", event.id)
    }
    async fn send(&self, request: &Request) -> Result<Sent, Failure> {
        self.0.send(request).await
    }
}

impl Witness for Faults {
    fn attempted(&self, target: &TargetKey, failure: Option<FailureKind>, events: u64) {
        self.gis.witness.attempted(target, failure, events);
    }
    fn delivered(&self, target: &TargetKey, after: Duration, events: u64) {
        self.gis.witness.delivered(target, after, events);
    }
    fn blocked(&self, target: &TargetKey, events: u64) {
        self.gis.witness.blocked(target, events);
    }
    fn ran(&self, recipe: &RecipeId, completed: u64, failed: u64) {
        self.gis.witness.ran(recipe, completed, failed);
    }
    /// Called by the supervisor alone.
    fn released(&self, recipe: &RecipeId, frontier: Offset) {
        assert!(!self.supervisor_panics.get(), "the supervisor panics");
        self.gis.witness.released(recipe, frontier);
    }
    fn restarted(&self, recipe: &RecipeId, actor: &str) {
        self.gis.witness.restarted(recipe, actor);
    }
}
