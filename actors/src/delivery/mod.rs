//! The delivery actor: one target, its mailbox, its checkpoint. The mailbox carries signals, not events;
//! what it can send it pulls from the log. The work itself is one future bound to the actor's context,
//! so that it ends with the actor and can settle nothing after it.

mod base;
mod control;
mod files;
mod keyed;
mod requests;
mod status;

use std::cell::RefCell;
use std::rc::Rc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;

use crate::failure::{Failure, FailureKind};
use crate::guard::DeathNotice;
use crate::id::{FeedName, Offset, TargetKey};
use crate::policy::backoff::Backoff;
use crate::policy::runs::Runs;
use crate::runtime::Env;
use crate::settings::{Lane, TargetSettings};

pub use control::{Answer, RunReport, TicketAction};
pub use status::{Phase, TargetStatus};

use base::Base;
use control::Control;

/// How many signals may wait. Each carries the latest state, so a refused one is not a lost one.
const MAILBOX: usize = 16;

/// Everything that one incarnation starts with.
pub(crate) struct Start {
    pub key: TargetKey,
    pub feed: FeedName,
    pub settings: TargetSettings,
    pub env: Env,
    pub status: Rc<RefCell<TargetStatus>>,
    pub runs: Rc<RefCell<Runs>>,
    /// Tells the supervisor that the account of runs may be closed.
    pub quiet: Rc<tokio::sync::Notify>,
    pub frontier: Offset,
    pub paused: bool,
}

pub(crate) struct Delivery {
    start: Option<Start>,
    control: Rc<Control>,
    /// Tells the supervisor when this actor ends, however it ends.
    _notice: DeathNotice,
}

impl Delivery {
    pub fn new(start: Start, notice: DeathNotice) -> Self {
        let control = Rc::new(Control::default());
        control.release(start.frontier);
        control.pause(start.paused);
        Self { start: Some(start), control, _notice: notice }
    }
}

impl Actor for Delivery {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let Some(start) = self.start.take() else { return };
        let work = deliver(start, self.control.clone());
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

/// The life of the actor: incarnations one after the other, until it is told to stop. An incarnation ends
/// early when the ledger no longer takes its word; the next one asks the ledger what is true.
async fn deliver(start: Start, control: Rc<Control>) {
    let mut backoff = Backoff::default();
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    while !control.stopping() {
        let before = start.status.borrow().delivered;
        let Err(failure) = incarnation(&start, &control).await else { return };
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
        control.pause_for(backoff.failed(failure.retry_after, &mut rng)).await;
    }
}

async fn incarnation(start: &Start, control: &Rc<Control>) -> Ended {
    let (mut base, work) = Base::open(start, control).await?;
    match &start.settings.lane {
        Lane::Requests { concurrency, max_events } => requests::run(&mut base, work, *concurrency, *max_events).await,
        Lane::Files(settings) => files::run(&mut base, work, settings.clone()).await,
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
    Answer(Answer),
    /// Let what is in flight end, then end.
    Stop,
    /// End now: what is in flight is dropped.
    Abort,
}

impl Handler<Signal> for Delivery {
    type Result = ();

    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) {
        match signal {
            Signal::Release(frontier) => self.control.release(frontier),
            Signal::RunNow(frontier, report) => self.control.run_now(frontier, report),
            Signal::Pause(paused) => self.control.pause(paused),
            Signal::Answer(answer) => self.control.answer(answer),
            Signal::Stop => self.control.stop(),
            Signal::Abort => ctx.terminate(),
        }
    }
}

/// Ends an incarnation: what it has in flight can settle nothing any more.
pub(crate) type Ended = Result<(), Failure>;
