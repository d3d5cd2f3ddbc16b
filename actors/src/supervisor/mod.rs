//! The supervisor of one recipe: it has a factory for each child (a feed reader and one delivery per target),
//! watches them, and builds a new one when one ends that was not told to. It is not `actix::Supervisor`, which
//! does not restart after a panic and re-uses the same value.

mod orders;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::delivery::{self, Delivery, Phase, Signal, TargetStatus};
use crate::guard::DeathNotice;
use crate::id::{Offset, TargetKey, TargetName, Timestamp};
use crate::policy::restarts::Restarts;
use crate::policy::runs::Runs;
use crate::ports::Schedule;
use crate::reader::{self, FeedReader, ReaderStatus, RunDue};
use crate::runtime::Env;
use crate::settings::{RecipeSettings, TargetSettings};

pub use orders::{Drain, RecipeSnapshot, Reconfigure, Reload, Retire, RunNow, Snapshot, TakeAnswer};

/// A child that was told to stop and has not ended after this long is replaced: its epoch is fenced off.
const DRAIN: Duration = Duration::from_secs(30);

/// With runs that never pause, the account of runs is closed at least this often.
const ACCOUNT: Duration = Duration::from_secs(60);

pub struct RecipeSupervisor {
    settings: RecipeSettings,
    env: Env,
    reader: ReaderChild,
    targets: BTreeMap<TargetName, Child>,
    frontier: Rc<Cell<Offset>>,
    last_run: Rc<Cell<Timestamp>>,
    runs: Rc<RefCell<Runs>>,
    quiet: Rc<Notify>,
    account_since: Instant,
    generations: u64,
    /// It ends when its last child has.
    stopping: bool,
    _notice: DeathNotice,
}

struct Child {
    settings: TargetSettings,
    status: Rc<RefCell<TargetStatus>>,
    restarts: Restarts,
    generation: u64,
    addr: Option<Addr<Delivery>>,
    told_to_stop: bool,
    /// What takes its place when it has ended; `None` in a child that was told to stop: nothing.
    next: Option<TargetSettings>,
    /// Who wants to know that it has ended for good.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct ReaderChild {
    addr: Option<Addr<FeedReader>>,
    generation: u64,
    restarts: Restarts,
    status: Rc<RefCell<ReaderStatus>>,
}

impl RecipeSupervisor {
    /// `frontier`: everything below it was released by a run before.
    pub(crate) fn new(settings: RecipeSettings, env: Env, frontier: Offset, notice: DeathNotice) -> Self {
        let last_run = Rc::new(Cell::new(env.clock.now()));
        Self {
            settings,
            env,
            reader: ReaderChild::default(),
            targets: BTreeMap::new(),
            frontier: Rc::new(Cell::new(frontier)),
            last_run,
            runs: Rc::default(),
            quiet: Rc::default(),
            account_since: Instant::now(),
            generations: 0,
            stopping: false,
            _notice: notice,
        }
    }

    fn start_reader(&mut self, ctx: &mut Context<Self>) {
        self.generations += 1;
        let generation = self.generations;
        self.reader.generation = generation;
        let start = reader::Start {
            env: self.env.clone(),
            feed: self.settings.feed.clone(),
            schedule: self.settings.schedule.clone(),
            frontier: self.frontier.clone(),
            last_run: self.last_run.clone(),
            status: self.reader.status.clone(),
            due: ctx.address().recipient(),
        };
        let supervisor = ctx.address();
        let notice = DeathNotice::new(move |panicked| supervisor.do_send(Died { child: None, generation, panicked }));
        self.reader.addr = Some(FeedReader::new(start, notice).start());
    }

    /// The factory of deliveries.
    fn start_target(&mut self, ctx: &mut Context<Self>, name: &TargetName) {
        self.generations += 1;
        let generation = self.generations;
        let Some(child) = self.targets.get_mut(name) else { return };
        child.generation = generation;
        child.told_to_stop = false;
        let start = delivery::Start {
            key: TargetKey { recipe: self.settings.id.clone(), target: name.clone() },
            feed: self.settings.feed.clone(),
            settings: child.settings.clone(),
            env: self.env.clone(),
            status: child.status.clone(),
            runs: self.runs.clone(),
            quiet: self.quiet.clone(),
            frontier: self.frontier.get(),
            paused: self.settings.paused,
        };
        let (supervisor, died) = (ctx.address(), Some(name.clone()));
        let notice = DeathNotice::new(move |panicked| supervisor.do_send(Died { child: died, generation, panicked }));
        child.addr = Some(Delivery::new(start, notice).start());
    }

    fn add_target(&mut self, ctx: &mut Context<Self>, settings: TargetSettings) {
        let name = settings.name.clone();
        let status = Rc::new(RefCell::new(TargetStatus::new(name.clone(), self.env.clock.now())));
        let child = Child {
            settings,
            status,
            restarts: Restarts::default(),
            generation: 0,
            addr: None,
            told_to_stop: false,
            next: None,
            waiting: Vec::new(),
        };
        self.targets.insert(name.clone(), child);
        self.start_target(ctx, &name);
    }

    /// Tells a child to finish what is in flight; `next` takes its place.
    fn stop_target(&mut self, ctx: &mut Context<Self>, name: &TargetName, next: Option<TargetSettings>) {
        let Some(child) = self.targets.get_mut(name) else { return };
        child.told_to_stop = true;
        child.next = next;
        let generation = child.generation;
        match &child.addr {
            Some(addr) => addr.do_send(Signal::Stop),
            None => ctx.notify(Died { child: Some(name.clone()), generation, panicked: false }),
        }
        let late = Died { child: Some(name.clone()), generation, panicked: false };
        ctx.notify_later(late, DRAIN);
    }

    fn release(&mut self, frontier: Offset) {
        self.close_account(ACCOUNT);
        self.frontier.set(self.frontier.get().max(frontier));
        self.env.witness.released(&self.settings.id, self.frontier.get());
        for (name, child) in &self.targets {
            if let Some(addr) = child.addr.as_ref().filter(|addr| addr.connected()) {
                self.runs.borrow_mut().set_busy(name, true);
                // A full mailbox holds signals that will make the child look at the frontier once more.
                let _ = addr.try_send(Signal::Release(self.frontier.get()));
            }
        }
    }

    /// Writes the line of a run, if it has run for `at_least`.
    fn close_account(&mut self, at_least: Duration) {
        let scheduled = !matches!(self.settings.schedule, Schedule::OnChange);
        if scheduled || self.account_since.elapsed() >= at_least {
            let (completed, failed) = self.runs.borrow_mut().close();
            self.env.witness.ran(&self.settings.id, completed, failed);
            self.account_since = Instant::now();
        }
    }

    fn snapshot(&self) -> RecipeSnapshot {
        let mut reader = self.reader.status.borrow().clone();
        reader.restarts = self.reader.restarts.total();
        RecipeSnapshot {
            id: self.settings.id.clone(),
            revision: self.settings.revision,
            feed: self.settings.feed.clone(),
            paused: self.settings.paused,
            frontier: self.frontier.get(),
            reader,
            targets: self.targets.values().map(|child| child.status.borrow().clone()).collect(),
        }
    }

    fn finish_if_empty(&mut self, ctx: &mut Context<Self>) {
        if self.stopping && self.targets.is_empty() {
            self.close_account(Duration::ZERO);
            ctx.stop();
        }
    }

    /// Ends children for good; the future is done when they have ended.
    fn retire(&mut self, ctx: &mut Context<Self>, names: &[TargetName]) -> ResponseFuture<()> {
        let mut ended = Vec::new();
        for name in names {
            self.stop_target(ctx, name, None);
            if let Some(child) = self.targets.get_mut(name) {
                let (done, wait) = oneshot::channel();
                child.waiting.push(done);
                ended.push(wait);
            }
        }
        Box::pin(async move {
            futures_util::future::join_all(ended).await;
        })
    }
}

impl Actor for RecipeSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.start_reader(ctx);
        for target in self.settings.targets.clone() {
            self.add_target(ctx, target);
        }
        ctx.spawn(close_when_quiet(self.quiet.clone(), ctx.address()).into_actor(self).map(|(), _, _| ()));
    }
}

/// Its children end with it, also when it panics: another supervisor will start others.
impl Drop for RecipeSupervisor {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader.addr {
            reader.do_send(reader::Stop);
        }
        for delivery in self.targets.values().filter_map(|child| child.addr.as_ref()) {
            delivery.do_send(Signal::Stop);
        }
    }
}

/// A run ends when nothing is in flight in any target.
async fn close_when_quiet(quiet: Rc<Notify>, supervisor: Addr<RecipeSupervisor>) {
    loop {
        quiet.notified().await;
        if supervisor.send(Quiet).await.is_err() {
            return;
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Quiet;

impl Handler<Quiet> for RecipeSupervisor {
    type Result = ();
    fn handle(&mut self, _: Quiet, _: &mut Self::Context) {
        let quiet = self.runs.borrow().is_quiet();
        if quiet {
            self.close_account(Duration::ZERO);
        }
    }
}

/// A child has ended. `None` is the reader.
#[derive(Message)]
#[rtype(result = "()")]
struct Died {
    child: Option<TargetName>,
    generation: u64,
    panicked: bool,
}

impl Handler<Died> for RecipeSupervisor {
    type Result = ();

    fn handle(&mut self, died: Died, ctx: &mut Self::Context) {
        match died.child {
            None => self.reader_died(ctx, died.generation),
            Some(name) => self.target_died(ctx, name, died.generation, died.panicked),
        }
    }
}

impl RecipeSupervisor {
    fn reader_died(&mut self, ctx: &mut Context<Self>, generation: u64) {
        if self.reader.generation != generation || self.stopping {
            return;
        }
        tracing::error!(recipe = %self.settings.id, "the feed reader died; it is started again");
        self.env.witness.restarted(&self.settings.id, "feed_reader");
        let wait = self.reader.restarts.died(Instant::now());
        ctx.run_later(wait, move |supervisor, ctx| {
            if supervisor.reader.generation == generation && !supervisor.stopping {
                supervisor.start_reader(ctx);
            }
        });
    }

    fn target_died(&mut self, ctx: &mut Context<Self>, name: TargetName, generation: u64, panicked: bool) {
        let Some(child) = self.targets.get_mut(&name).filter(|child| child.generation == generation) else { return };
        if let Some(late) = child.addr.take() {
            // Of no effect on one that has ended.
            late.do_send(Signal::Abort);
        }
        self.runs.borrow_mut().set_busy(&name, false);
        if child.told_to_stop {
            for done in std::mem::take(&mut child.waiting) {
                let _ = done.send(());
            }
            match child.next.take() {
                Some(settings) => {
                    child.settings = settings;
                    self.start_target(ctx, &name);
                }
                None => {
                    self.targets.remove(&name);
                    self.runs.borrow_mut().leave(&name);
                    self.finish_if_empty(ctx);
                }
            }
            return;
        }
        let wait = child.restarts.died(Instant::now());
        {
            let mut status = child.status.borrow_mut();
            status.restarts = child.restarts.total();
            status.in_flight = 0;
            status.enter(Phase::Down, self.env.clock.now());
        }
        tracing::error!(recipe = %self.settings.id, delivery = %name, panicked, ?wait, "a delivery died; it is started again");
        self.env.witness.restarted(&self.settings.id, name.as_str());
        ctx.run_later(wait, move |supervisor, ctx| {
            if supervisor.targets.get(&name).is_some_and(|child| child.generation == generation) {
                supervisor.start_target(ctx, &name);
            }
        });
    }
}

impl Handler<RunDue> for RecipeSupervisor {
    type Result = ();
    fn handle(&mut self, RunDue(frontier): RunDue, _: &mut Self::Context) {
        self.release(frontier);
    }
}
