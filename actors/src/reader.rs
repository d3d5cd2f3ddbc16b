//! The feed reader: watches one feed's head and decides when a run is due. It reads no more of an event
//! than its time; the events themselves are pulled by the deliveries.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WeakRecipient, WrapFuture};
use serde::Serialize;
use tokio::time::Instant;

use crate::common::Common;
use crate::guard::{DeathNotice, Life, Ping};
use crate::id::{Offset, Timestamp};
use crate::policy::schedule::next_run;
use crate::ports::Schedule;
use crate::runtime::Env;

/// The clock may be set while we sleep: look at it again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Reading one event takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run is due: everything below the offset may go.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RunDue(pub Offset);

/// Since when it has waited for the log.
type Reading = Rc<Cell<Option<Instant>>>;

/// What can be seen of the reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReaderStatus {
    pub next_run_at: Option<Timestamp>,
    pub last_run_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub restarts: u64,
}

pub(crate) struct Start {
    pub env: Rc<Env>,
    /// Its frontier is shared with the supervisor, who may release more.
    pub recipe: Rc<Common>,
    pub schedule: Schedule,
    pub status: Rc<RefCell<ReaderStatus>>,
    pub due: WeakRecipient<RunDue>,
}

pub(crate) struct FeedReader {
    start: Option<Box<Start>>,
    reading: Reading,
    _notice: DeathNotice,
}

impl FeedReader {
    pub fn new(start: Start, notice: DeathNotice) -> Self {
        Self { start: Some(Box::new(start)), reading: Reading::default(), _notice: notice }
    }
}

impl Actor for FeedReader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(start) = self.start.take() else { return };
        ctx.spawn(watch(start, self.reading.clone()).into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for FeedReader {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Ping> for FeedReader {
    type Result = Life;
    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Life {
        match self.reading.get().map(|since| since.elapsed()).filter(|&waited| waited > PATIENCE) {
            Some(waited) => Err(format!("it has waited for the event log for {} s", waited.as_secs())),
            None => Ok(()),
        }
    }
}

async fn watch(start: Box<Start>, reading: Reading) {
    let Start { env, recipe, schedule, status, due } = &*start;
    let Common { feed, frontier, last_run, .. } = &**recipe;
    let head = env.log.head(feed);
    // Publication time of the oldest event that no run has released, and the frontier for which it was read.
    let mut oldest: Option<(Offset, Timestamp)> = None;
    loop {
        let now = env.clock.now();
        last_run.set(last_run.get().min(now));
        let head_now = head.get();
        let from = frontier.get();
        oldest = oldest.filter(|(at, _)| *at == from);
        if oldest.is_none() && head_now > from {
            reading.set(Some(Instant::now()));
            let read = env.log.read(feed, from, head_now, 1, 1).await;
            reading.set(None);
            match read {
                Ok(events) => {
                    // Events that retention has removed are waited for by nobody.
                    oldest = events.first().map(|event| (from, event.published));
                    status.borrow_mut().last_error = None;
                }
                Err(failure) => {
                    status.borrow_mut().last_error = Some(failure.message);
                    Box::pin(tokio::time::sleep(LOOK_AGAIN)).await;
                    continue;
                }
            }
        }
        let next = next_run(schedule, oldest.map(|(_, published)| published.min(now)), last_run.get());
        status.borrow_mut().next_run_at = next;
        if next.is_some_and(|next| next <= now) {
            last_run.set(now);
            status.borrow_mut().last_run_at = Some(now);
            if head_now > from {
                frontier.set(head_now);
                // At most one a run: the mailbox's bound is for those who send more.
                if let Some(due) = due.upgrade() {
                    due.do_send(RunDue(head_now));
                }
            }
            continue;
        }
        let wait = next.map_or(LOOK_AGAIN, |next| next.since(now).min(LOOK_AGAIN));
        match (oldest, next) {
            // No moment changes anything, only an event.
            (None, None) => head.beyond(head_now).await,
            // Boxed: most readers wait for no moment, and they are many.
            (None, Some(_)) => Box::pin(tokio::time::timeout(wait, head.beyond(head_now))).await.unwrap_or_default(),
            (Some(_), _) => Box::pin(tokio::time::sleep(wait)).await,
        }
    }
}
