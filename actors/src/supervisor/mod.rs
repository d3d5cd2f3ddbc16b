//! The supervisor of one recipe: it has a factory for each child (a feed reader and one delivery per target),
//! watches them, and builds a new one when one ends that was not told to. It is not `actix::Supervisor`, which
//! does not restart after a panic and re-uses the same value.

mod deaths;
mod orders;
mod tree;
pub(crate) mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::common::{Common, Quiet};
use crate::delivery::{self, Control, Delivery, Live, Mailbox, Post, Signal, TargetStatus};
use crate::few::Few;
use crate::guard::DeathNotice;
use crate::id::{Offset, TargetKey, TargetName};
use crate::ports::Schedule;
use crate::reader::{self, FeedReader, ReaderStatus, RunDue};
use crate::runtime::Env;
use crate::settings::{RecipeSettings, TargetSettings};

use deaths::Died;
use watch::Watch;

pub use orders::{AskTarget, Drain, RecipeSnapshot, Reconfigure, Reload, Retire, Revive, RunNow, Snapshot};
pub(crate) use tree::Branch;
pub use tree::{ActorSnapshot, Kind, State};

/// A child that was told to stop and has not ended after this long is replaced: its epoch is fenced off.
const DRAIN: Duration = Duration::from_secs(30);

/// With runs that never pause, the account of runs is closed at least this often.
const ACCOUNT: Duration = Duration::from_secs(60);

pub struct RecipeSupervisor {
    settings: Arc<RecipeSettings>,
    env: Rc<Env>,
    reader: ReaderChild,
    targets: Few<TargetName, Box<Child>>,
    common: Rc<Common>,
    /// What the next supervisor begins with, should this one die.
    released: Arc<AtomicU64>,
    account_since: Instant,
    generations: u64,
    /// It ends when its last child has.
    stopping: bool,
    notice: DeathNotice,
}

struct Child {
    settings: Arc<TargetSettings>,
    status: Rc<RefCell<Live>>,
    watch: Watch,
    post: Option<Post>,
    /// How much had been delivered when it was started.
    delivered: u64,
    /// Why it was ended, when its attempt did not: for the one that takes its place.
    hung: Option<String>,
    /// A run that its full mailbox has refused is told again.
    behind: bool,
    /// The record of its quarantine, while it is written.
    ticket: Option<SpawnHandle>,
    told_to_stop: bool,
    /// What takes its place when it has ended; `None` in a child that was told to stop: nothing.
    next: Option<Arc<TargetSettings>>,
    /// Who wants to know that it has ended for good.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct ReaderChild {
    addr: Option<Addr<FeedReader>>,
    watch: Watch,
    status: Rc<RefCell<ReaderStatus>>,
}

impl RecipeSupervisor {
    /// Everything below `released` was released by a run before.
    pub(crate) fn new(
        settings: Arc<RecipeSettings>,
        env: Rc<Env>,
        released: Arc<AtomicU64>,
        notice: DeathNotice,
    ) -> Self {
        let common = Common::new(settings.feed.clone(), released.load(Ordering::Relaxed), env.clock.now());
        Self {
            settings,
            env,
            reader: ReaderChild::default(),
            targets: Few::default(),
            common: Rc::new(common),
            released,
            account_since: Instant::now(),
            generations: 0,
            stopping: false,
            notice,
        }
    }

    /// A name for an incarnation, or for the time between two.
    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    fn start_reader(&mut self, ctx: &mut Context<Self>) {
        let generation = self.next_generation();
        self.reader.watch.started(generation);
        let start = reader::Start {
            env: self.env.clone(),
            recipe: self.common.clone(),
            schedule: self.settings.schedule.clone(),
            status: self.reader.status.clone(),
            due: ctx.address().downgrade().recipient(),
        };
        let notice = notice(ctx, None, generation);
        self.reader.addr = Some(FeedReader::new(start, notice).start());
    }

    /// The factory of deliveries. `fresh`: something was mended, it tries at once.
    fn start_target(&mut self, ctx: &mut Context<Self>, name: &TargetName, fresh: bool) {
        let generation = self.next_generation();
        let Some(child) = self.targets.get_mut(name) else { return };
        if let Some(ticket) = child.ticket.take() {
            // It must not open the ledger after the delivery has.
            ctx.cancel_future(ticket);
        }
        child.watch.started(generation);
        child.told_to_stop = false;
        child.delivered = child.status.borrow().delivered;
        let start = delivery::Start {
            key: TargetKey { recipe: self.settings.id.clone(), target: name.clone() },
            settings: child.settings.clone(),
            env: self.env.clone(),
            recipe: self.common.clone(),
            status: child.status.clone(),
            control: Control::new(self.common.frontier.get(), self.settings.paused, fresh),
            hung: Cell::new(child.hung.take()),
            depth: Cell::default(),
        };
        let (start, notice) = (Rc::new(start), notice(ctx, Some(name.clone()), generation));
        child.post = Some(Post { addr: Delivery::new(start.clone(), notice).start(), start });
    }

    fn add_target(&mut self, ctx: &mut Context<Self>, settings: Arc<TargetSettings>) {
        let name = settings.name.clone();
        let status = Rc::new(RefCell::new(Live::new(self.env.clock.now())));
        let child = Child {
            settings,
            status,
            watch: Watch::default(),
            post: None,
            delivered: 0,
            hung: None,
            behind: false,
            ticket: None,
            told_to_stop: false,
            next: None,
            waiting: Vec::new(),
        };
        self.targets.insert(name.clone(), Box::new(child));
        self.start_target(ctx, &name, false);
    }

    /// Tells a child to finish what is in flight; `next` takes its place.
    fn stop_target(&mut self, ctx: &mut Context<Self>, name: &TargetName, next: Option<Arc<TargetSettings>>) {
        let Some(child) = self.targets.get_mut(name) else { return };
        child.told_to_stop = true;
        child.next = next;
        let ended = || Died { child: Some(name.clone()), generation: child.watch.generation, why: None };
        match &child.post {
            Some(post) => post.order(Signal::Stop),
            None => ctx.notify(ended()),
        }
        ctx.notify_later(ended(), DRAIN);
    }

    fn release(&mut self, frontier: Offset) {
        self.close_account(ACCOUNT);
        let frontier = self.common.frontier.get().max(frontier);
        self.common.frontier.set(frontier);
        self.released.store(frontier, Ordering::Relaxed);
        self.env.witness.released(&self.settings.id, frontier);
        for (name, child) in self.targets.iter_mut() {
            if let Some(post) = child.post.as_ref().filter(|post| post.addr.connected()) {
                self.common.runs.borrow_mut().set_busy(name, true);
                // Full of other signals: it is told with the next round.
                child.behind = post.tell(Signal::Release(frontier)).is_err();
            }
        }
    }

    /// Writes the line of a run, if it has run for `at_least`.
    fn close_account(&mut self, at_least: Duration) {
        let scheduled = !matches!(self.settings.schedule, Schedule::OnChange);
        if scheduled || self.account_since.elapsed() >= at_least {
            let (completed, failed) = self.common.runs.borrow_mut().close();
            self.env.witness.ran(&self.settings.id, completed, failed);
            self.account_since = Instant::now();
        }
    }

    fn snapshot(&self) -> RecipeSnapshot {
        let mut reader = self.reader.status.borrow().clone();
        reader.restarts = self.reader.watch.restarts();
        RecipeSnapshot {
            id: self.settings.id.clone(),
            revision: self.settings.revision,
            feed: self.settings.feed.clone(),
            paused: self.settings.paused,
            frontier: self.common.frontier.get(),
            reader,
            targets: self.targets.values().map(|child| self.target_status(child)).collect(),
        }
    }

    fn target_status(&self, child: &Child) -> TargetStatus {
        let mut status = TargetStatus {
            restarts: child.watch.restarts(),
            last_panic: child.watch.last_panic().cloned(),
            revived_at: child.watch.revived_at(),
            ..child.status.borrow().snapshot(child.settings.name.clone(), child.mailbox())
        };
        if child.post.is_none() {
            // Nobody counts for it.
            let head = self.env.log.head(&self.settings.feed).get();
            status.backlog = self.common.runs.borrow().waiting(&status.target, head).unwrap_or(status.backlog);
        }
        status
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
        self.common.supervised_by(ctx.address().downgrade().recipient());
        self.start_reader(ctx);
        let settings = self.settings.clone();
        for target in &settings.targets {
            self.add_target(ctx, target.clone());
        }
        ctx.run_later(watch::ROUND, Self::round);
    }
}

/// Its children end with it, also when it panics: another supervisor will start others.
impl Drop for RecipeSupervisor {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader.addr {
            reader.do_send(reader::Stop);
        }
        for delivery in self.targets.values().filter_map(|child| child.post.as_ref()) {
            // At once: what these settle from now on would be fenced anyway.
            delivery.order(Signal::Abort);
        }
    }
}

impl Child {
    fn mailbox(&self) -> Mailbox {
        self.post.as_ref().map(Post::mailbox).unwrap_or_default()
    }
}

/// Tells of a child's end. Nothing of the supervisor is held for it: of one that is gone nobody wants to know.
fn notice(ctx: &Context<RecipeSupervisor>, child: Option<TargetName>, generation: u64) -> DeathNotice {
    let supervisor = ctx.address().downgrade();
    DeathNotice::new(move |why| {
        if let Some(supervisor) = supervisor.upgrade() {
            supervisor.do_send(Died { child, generation, why });
        }
    })
}

/// A run ends when nothing is in flight in any target.
impl Handler<Quiet> for RecipeSupervisor {
    type Result = ();
    fn handle(&mut self, _: Quiet, _: &mut Self::Context) {
        self.common.heard();
        let quiet = self.common.runs.borrow().is_quiet();
        if quiet {
            self.close_account(Duration::ZERO);
        }
    }
}

impl Handler<RunDue> for RecipeSupervisor {
    type Result = ();
    fn handle(&mut self, RunDue(frontier): RunDue, _: &mut Self::Context) {
        self.release(frontier);
    }
}
