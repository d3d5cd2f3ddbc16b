//! The delivery actor: one target, its mailbox, its checkpoint. The mailbox carries signals, not events;
//! what it can send it pulls from the log. The work itself is one future bound to the actor's context,
//! so that it ends with the actor and can settle nothing after it.

mod base;
mod control;
mod files;
mod keyed;
mod pacer;
mod post;
mod requests;
mod status;
mod unit;

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::failure::{Failure, FailureKind};
use crate::guard::{self, DeathNotice, Life, Ping};
use crate::id::{FeedName, Offset, TargetKey};
use crate::policy::backoff::Backoff;
use crate::policy::runs::Runs;
use crate::runtime::Env;
use crate::settings::{Lane, TargetSettings};

pub(crate) use post::{Depth, Post};

pub use base::REFUSES_ALL;
pub use control::{Answer, Ask, NotReplayed, Order, Replay, RunReport, TicketAction};
pub use status::{Mailbox, Panic, Phase, RateStatus, TargetStatus};

use base::Base;
use control::Control;

/// How many signals may wait. Each carries the latest state, so a refused one is not a lost one.
const MAILBOX: usize = 16;

/// Everything that one incarnation starts with.
pub(crate) struct Start {
    pub key: TargetKey,
    pub feed: FeedName,
    pub settings: Rc<TargetSettings>,
    pub env: Rc<Env>,
    pub status: Rc<RefCell<TargetStatus>>,
    pub runs: Rc<RefCell<Runs>>,
    /// Tells the supervisor that the account of runs may be closed.
    pub quiet: Rc<tokio::sync::Notify>,
    pub frontier: Offset,
    pub paused: bool,
    /// Something was mended: it tries at once, whatever the circuit says.
    pub fresh: bool,
    /// The one before was ended because its attempt did not: in words.
    pub hung: Cell<Option<String>>,
    pub depth: Depth,
}

pub(crate) struct Delivery {
    start: Option<Box<Start>>,
    control: Rc<Control>,
    patience: Duration,
    depth: Depth,
    /// Tells the supervisor when this actor ends, however it ends.
    _notice: DeathNotice,
}

impl Delivery {
    pub fn new(start: Start, notice: DeathNotice) -> Self {
        let control = Rc::new(Control::default());
        control.release(start.frontier);
        control.pause(start.paused);
        if start.fresh {
            control.hurry();
        }
        let (patience, depth) = (start.settings.patience, start.depth.clone());
        Self { start: Some(Box::new(start)), control, patience, depth, _notice: notice }
    }
}

impl Actor for Delivery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let Some(start) = self.start.take() else { return };
        let work = AssertUnwindSafe(deliver(start, self.control.clone())).catch_unwind();
        ctx.spawn(work.into_actor(self).map(|ended, _, ctx| match ended {
            Ok(()) => ctx.stop(),
            // A lane has let it wait for the record of the attempt: others may have panicked since.
            Err(panic) => guard::resume(panic),
        }));
    }
}

/// The life of the actor: incarnations one after the other, until it is told to stop. An incarnation ends
/// early when the ledger no longer takes its word; the next one asks the ledger what is true.
async fn deliver(start: Box<Start>, control: Rc<Control>) {
    let mut backoff = Backoff::default();
    while !control.stopping() {
        let before = start.status.borrow().delivered;
        let ended = incarnation(&start, &control).await;
        control.under_way_since(None);
        let Err(failure) = ended else { return };
        if failure.kind == FailureKind::Fenced {
            return;
        }
        if start.status.borrow().delivered > before {
            backoff.succeeded();
        }
        tracing::error!(delivery = %start.key, "delivery begins again: {}", failure.message);
        start.status.borrow_mut().failed(&failure, start.env.clock.now());
        start.runs.borrow_mut().set_busy(&start.key.target, false);
        control.give_up(&start.key.target, &failure);
        let wait = backoff.failed(failure.retry_after, &mut rand::rng());
        drop(failure);
        Box::pin(control.pause_for(wait)).await;
    }
}

async fn incarnation(start: &Start, control: &Rc<Control>) -> Ended {
    control.under_way_since(Some(Instant::now()));
    // What waits for work is small: all that is needed for work is boxed, here and in the lanes.
    let (mut base, left) = Box::pin(Base::open(start, control)).await?;
    control.under_way_since(None);
    match &start.settings.lane {
        Lane::Requests { concurrency, max_events } => requests::run(&mut base, left, *concurrency, *max_events).await,
        Lane::Files(settings) => files::run(&mut base, left, settings).await,
    }
}

/// What can be said to a delivery.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Signal {
    /// Everything below this offset may go.
    Release(Offset),
    /// Now, whatever schedule and back-off say; the report comes when what waits has been tried.
    RunNow(Offset, oneshot::Sender<RunReport>),
    Pause(bool),
    Ask(Ask),
    /// Let what is in flight end, then end.
    Stop,
    /// End now: what is in flight is dropped.
    Abort,
}

impl Handler<Signal> for Delivery {
    type Result = ();

    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) {
        self.depth.set(self.depth.get().saturating_sub(1));
        match signal {
            Signal::Release(frontier) => self.control.release(frontier),
            Signal::RunNow(frontier, report) => self.control.run_now(frontier, report),
            Signal::Pause(paused) => self.control.pause(paused),
            Signal::Ask(ask) => self.control.ask(ask),
            Signal::Stop => self.control.stop(),
            Signal::Abort => ctx.terminate(),
        }
    }
}

impl Handler<Ping> for Delivery {
    type Result = Life;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Life {
        let under_way = self.control.under_way();
        if under_way <= self.patience {
            return Ok(());
        }
        Err(format!("an attempt has been under way for {} s", under_way.as_secs()))
    }
}

/// Ends an incarnation: what it has in flight can settle nothing any more.
pub(crate) type Ended = Result<(), Failure>;
