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
use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::common::Common;
use crate::failure::{Failure, FailureKind};
use crate::guard::{self, DeathNotice, Life, Ping};
use crate::id::{Offset, TargetKey};
use crate::policy::backoff::Backoff;
use crate::runtime::Env;
use crate::settings::{Lane, TargetSettings};

pub(crate) use control::Control;
pub(crate) use post::Post;
pub(crate) use status::Live;

pub use base::REFUSES_ALL;
pub use control::{Answer, Ask, NotReplayed, Order, Replay, RunReport, TicketAction};
pub use status::{Mailbox, Panic, Phase, RateStatus, TargetStatus};

use base::Base;

/// How many signals may wait. Each carries the latest state, so a refused one is not a lost one.
const MAILBOX: usize = 16;

/// What one actor is given, and keeps for its incarnations.
pub(crate) struct Start {
    pub key: TargetKey,
    pub settings: Arc<TargetSettings>,
    pub env: Rc<Env>,
    pub recipe: Rc<Common>,
    pub status: Rc<RefCell<Live>>,
    pub control: Control,
    /// The attempt of the one before did not end: in words, until it is recorded.
    pub hung: Cell<Option<String>>,
    /// How many signals wait; counted up by who sends and down by who handles.
    pub depth: Cell<usize>,
}

pub(crate) struct Delivery {
    start: Rc<Start>,
    /// Tells the supervisor when this actor ends, however it ends.
    _notice: DeathNotice,
}

impl Delivery {
    pub fn new(start: Rc<Start>, notice: DeathNotice) -> Self {
        Self { start, _notice: notice }
    }
}

impl Actor for Delivery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let work = AssertUnwindSafe(deliver(self.start.clone())).catch_unwind();
        ctx.spawn(work.into_actor(self).map(|ended, _, ctx| match ended {
            Ok(()) => ctx.stop(),
            // A lane has let it wait for the record of the attempt: others may have panicked since.
            Err(panic) => guard::resume(panic),
        }));
    }
}

/// The life of the actor: incarnations one after the other, until it is told to stop. An incarnation ends
/// early when the ledger no longer takes its word; the next one asks the ledger what is true.
async fn deliver(start: Rc<Start>) {
    let mut backoff = Backoff::default();
    while !start.control.stopping() {
        let before = start.status.borrow().delivered;
        let ended = incarnation(&start).await;
        start.control.under_way_since(None);
        let Err(failure) = ended else { return };
        if failure.kind == FailureKind::Fenced {
            return;
        }
        if start.status.borrow().delivered > before {
            backoff.succeeded();
        }
        let wait = backoff.failed(failure.retry_after, &mut rand::rng());
        start.gives_up(&failure);
        drop(failure);
        Box::pin(start.control.pause_for(wait)).await;
    }
}

async fn incarnation(start: &Rc<Start>) -> Ended {
    start.control.under_way_since(Some(Instant::now()));
    // What waits for work is small: all that is needed for work is boxed, here and in the lanes.
    let (mut base, left) = Box::pin(Base::open(start)).await?;
    start.control.under_way_since(None);
    match &start.settings.lane {
        Lane::Requests { concurrency, max_events } => requests::run(&mut base, left, *concurrency, *max_events).await,
        Lane::Files(settings) => files::run(&mut base, left, settings).await,
    }
}

impl Start {
    /// Tells all who look or wait that an incarnation has ended early.
    fn gives_up(&self, failure: &Failure) {
        tracing::error!(delivery = %self.key, "delivery begins again: {}", failure.message);
        self.status.borrow_mut().failed(failure, self.env.clock.now());
        self.recipe.runs.borrow_mut().set_busy(&self.key.target, false);
        self.control.give_up(&self.key.target, failure);
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
        let Start { control, depth, .. } = &*self.start;
        depth.set(depth.get().saturating_sub(1));
        match signal {
            Signal::Release(frontier) => control.release(frontier),
            Signal::RunNow(frontier, report) => control.run_now(frontier, report),
            Signal::Pause(paused) => control.pause(paused),
            Signal::Ask(ask) => control.ask(ask),
            Signal::Stop => control.stop(),
            Signal::Abort => ctx.terminate(),
        }
    }
}

impl Handler<Ping> for Delivery {
    type Result = Life;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Life {
        let under_way = self.start.control.under_way();
        if under_way <= self.start.settings.patience {
            return Ok(());
        }
        Err(format!("an attempt has been under way for {} s", under_way.as_secs()))
    }
}

/// Ends an incarnation: what it has in flight can settle nothing any more.
pub(crate) type Ended = Result<(), Failure>;
