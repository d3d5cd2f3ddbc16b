//! What becomes of children that die or hang: they are started again, quarantined, or (the reader) taken as a
//! reason to give up.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt;

use super::watch::{ROUND, Round};
use super::{RecipeSupervisor, reader};
use crate::delivery::{Phase, Signal};
use crate::failure::Failure;
use crate::guard::{Life, Ping};
use crate::id::{Epoch, FeedName, TargetKey, TargetName};
use crate::policy::restarts::Verdict;
use crate::receipt::{Cause, Entry};
use crate::runtime::Env;

/// A child has ended, or is given up. `None` is the reader.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Died {
    pub child: Option<TargetName>,
    pub generation: u64,
    /// What it died of, if it did not just end.
    pub why: Option<String>,
}

impl Handler<Died> for RecipeSupervisor {
    type Result = ();

    fn handle(&mut self, died: Died, ctx: &mut Self::Context) {
        match died.child {
            None => self.reader_died(ctx, died.generation, died.why),
            Some(name) => self.target_died(ctx, name, died.generation, died.why),
        }
    }
}

impl RecipeSupervisor {
    fn reader_died(&mut self, ctx: &mut Context<Self>, generation: u64, why: Option<String>) {
        if self.reader.watch.generation != generation || self.stopping {
            return;
        }
        if let Some(late) = self.reader.addr.take() {
            late.do_send(reader::Stop);
        }
        let generation = self.next_generation();
        let watch = &mut self.reader.watch;
        let verdict = watch.died(generation, why, self.env.clock.now());
        tracing::error!(recipe = %self.settings.id, why = watch.last_words(), ?verdict, "the feed reader died");
        let Verdict::Restart(wait) = verdict else {
            // Without a reader nothing is released: that is no recipe. A new supervisor may do better.
            self.notice.because(format!("escalated: the feed reader died too often, last of: {}", watch.last_words()));
            return ctx.stop();
        };
        ctx.run_later(wait, move |supervisor, ctx| {
            if supervisor.reader.watch.generation == generation && !supervisor.stopping {
                supervisor.env.witness.restarted(&supervisor.settings.id, "feed_reader");
                supervisor.start_reader(ctx);
            }
        });
    }

    fn target_died(&mut self, ctx: &mut Context<Self>, name: TargetName, generation: u64, why: Option<String>) {
        let between = self.next_generation();
        let Some(child) = self.targets.get_mut(&name).filter(|child| child.watch.generation == generation) else {
            return;
        };
        if let Some(late) = child.post.take() {
            // Of no effect on one that has ended.
            late.order(Signal::Abort);
        }
        self.common.runs.borrow_mut().set_busy(&name, false);
        if child.told_to_stop {
            return self.target_ended(ctx, &name);
        }
        if child.status.borrow().delivered > child.delivered {
            child.watch.works();
        }
        let now = self.env.clock.now();
        let verdict = child.watch.died(between, why, now);
        {
            let mut status = child.status.borrow_mut();
            status.in_flight = 0;
            let quarantined = matches!(verdict, Verdict::Quarantine(_));
            status.enter(if quarantined { Phase::Quarantined } else { Phase::Down }, now);
        }
        let (recipe, why) = (&self.settings.id, child.watch.last_words());
        tracing::error!(%recipe, delivery = %name, why, ?verdict, "a delivery died");
        let (Verdict::Restart(wait) | Verdict::Quarantine(wait)) = verdict;
        if let Verdict::Quarantine(pause) = verdict {
            self.record_quarantine(ctx, &name, pause);
        }
        ctx.run_later(wait, move |supervisor, ctx| {
            supervisor.start_again(ctx, &name, between, false);
        });
    }

    /// A child that was told to stop has ended.
    fn target_ended(&mut self, ctx: &mut Context<Self>, name: &TargetName) {
        let Some(child) = self.targets.get_mut(name) else { return };
        if let Some(ticket) = child.ticket.take() {
            ctx.cancel_future(ticket);
        }
        for done in std::mem::take(&mut child.waiting) {
            let _ = done.send(());
        }
        match child.next.take() {
            Some(settings) => {
                child.settings = settings;
                self.start_target(ctx, name, true);
            }
            None => {
                self.targets.remove(name);
                self.common.runs.borrow_mut().leave(name);
                self.finish_if_empty(ctx);
            }
        }
    }

    fn start_again(&mut self, ctx: &mut Context<Self>, name: &TargetName, between: u64, fresh: bool) {
        if self.targets.get(name).is_some_and(|child| child.watch.generation == between && !child.told_to_stop) {
            self.env.witness.restarted(&self.settings.id, name.as_str());
            self.start_target(ctx, name, fresh);
        }
    }

    /// An operator wants it back before its pause is over; whether there was something to revive.
    pub(super) fn revive(&mut self, ctx: &mut Context<Self>, name: &TargetName) -> bool {
        let Some(child) = self.targets.get(name).filter(|child| child.is_quarantined()) else { return false };
        tracing::info!(recipe = %self.settings.id, delivery = %name, "revived by an operator");
        let between = child.watch.generation;
        self.start_again(ctx, name, between, true);
        true
    }

    /// Opens the ticket. A quarantine that can't be recorded is one all the same; the next one tries again.
    fn record_quarantine(&mut self, ctx: &mut Context<Self>, name: &TargetName, pause: Duration) {
        let Some(child) = self.targets.get(name) else { return };
        let (deaths, last_error) = (child.watch.restarts(), child.watch.last_words().to_owned());
        let reason = format!(
            "its actor died {deaths} times, too often within a minute; it is started again after {} min, or when it is revived: {last_error}",
            pause.as_secs() / 60
        );
        let attempts = u32::try_from(deaths).unwrap_or(u32::MAX);
        let ticket = Entry::TicketOpened { cause: Cause::Quarantine, reason, attempts, backlog: 0, last_error };
        let key = TargetKey { recipe: self.settings.id.clone(), target: name.clone() };
        let (of, name, recipe) = (name.clone(), name.clone(), self.settings.id.clone());
        let record = AssertUnwindSafe(open_ticket(self.env.clone(), self.settings.feed.clone(), key, ticket));
        let recorded = record.catch_unwind().into_actor(self).map(move |recorded, supervisor, _| {
            let child = supervisor.targets.get_mut(&name);
            match recorded {
                Ok(Ok(epoch)) => child.into_iter().for_each(|child| child.status.borrow_mut().epoch = epoch),
                Ok(Err(failure)) => {
                    tracing::error!(%recipe, delivery = %name, "its quarantine can't be recorded: {}", failure.message);
                }
                Err(_) => {
                    tracing::error!(%recipe, delivery = %name, "the store panicked when the quarantine was recorded")
                }
            }
        });
        let handle = ctx.spawn(recorded);
        if let Some(child) = self.targets.get_mut(&of) {
            child.ticket = Some(handle);
        }
    }
}

/// Opening the ledger fences off whatever the dead incarnation still has in flight.
async fn open_ticket(env: Rc<Env>, feed: FeedName, key: TargetKey, mut ticket: Entry) -> Result<Epoch, Failure> {
    let opened = env.ledger.open(&key).await?;
    if let Entry::TicketOpened { backlog, .. } = &mut ticket {
        *backlog = opened.settled.waiting(env.log.head(&feed).get());
    }
    env.ledger.commit(&key, opened.epoch, vec![ticket]).await?;
    Ok(opened.epoch)
}

/// Hangs are found by asking.
impl RecipeSupervisor {
    pub(super) fn round(&mut self, ctx: &mut Context<Self>) {
        // Not an interval: after the thread was held up, that would come as often as it was missed.
        ctx.run_later(ROUND, Self::round);
        if let Some(addr) = self.reader.addr.clone() {
            let generation = self.reader.watch.generation;
            let round = self.reader.watch.round();
            self.visit(ctx, &addr, round, None, generation);
        }
        let mut visits = Vec::new();
        let frontier = self.common.frontier.get();
        for (name, child) in self.targets.iter_mut() {
            if let Some(post) = child.post.as_ref().filter(|_| child.behind) {
                child.behind = post.tell(Signal::Release(frontier)).is_err();
            }
            if let Some(post) = child.post.as_ref().filter(|_| !child.told_to_stop) {
                visits.push((post.addr.clone(), child.watch.round(), name.clone(), child.watch.generation));
            }
        }
        for (addr, round, name, generation) in visits {
            self.visit(ctx, &addr, round, Some(name), generation);
        }
    }

    fn visit<A>(
        &mut self,
        ctx: &mut Context<Self>,
        addr: &Addr<A>,
        round: Round,
        child: Option<TargetName>,
        generation: u64,
    ) where
        A: Actor + Handler<Ping>,
        A::Context: ToEnvelope<A, Ping>,
    {
        match round {
            Round::Wait => {}
            Round::Silent => ctx.notify(Died { child, generation, why: Some("hung: it does not answer".to_owned()) }),
            Round::Ask => {
                let heard = move |life: Result<Life, _>, supervisor: &mut Self, ctx: &mut Context<Self>| {
                    // One that is gone has given notice.
                    if let Ok(life) = life {
                        supervisor.heard(ctx, child, generation, life);
                    }
                };
                ctx.spawn(addr.send(Ping).into_actor(self).map(heard));
            }
        }
    }

    fn heard(&mut self, ctx: &mut Context<Self>, child: Option<TargetName>, generation: u64, life: Life) {
        let watch = match &child {
            None => Some(&mut self.reader.watch),
            Some(name) => self.targets.get_mut(name).map(|child| {
                if child.watch.generation == generation {
                    child.hung = life.as_ref().err().map(|what| format!("hung: {what}"));
                }
                &mut child.watch
            }),
        };
        let Some(watch) = watch.filter(|watch| watch.generation == generation) else { return };
        watch.answered();
        if let Err(what) = life {
            ctx.notify(Died { child, generation, why: Some(format!("hung: {what}")) });
        }
    }
}

/// A node asks its supervisors.
impl Handler<Ping> for RecipeSupervisor {
    type Result = Life;
    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Life {
        Ok(())
    }
}
