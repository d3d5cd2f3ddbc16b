//! What a supervisor can be told and asked: new settings, run now, answers of humans, the end.

use std::collections::BTreeMap;

use actix::{Handler, Message, ResponseFuture};
use serde::Serialize;
use tokio::sync::oneshot;

use super::RecipeSupervisor;
use crate::delivery::{Answer, RunReport, Signal, TargetStatus};
use crate::id::{FeedName, Offset, RecipeId, Revision, TargetName};
use crate::ports::Schedule;
use crate::reader::{self, ReaderStatus};
use crate::runtime::MakeEnv;
use crate::settings::{RecipeSettings, TargetSettings};

/// New settings: restarts only what changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reconfigure(pub RecipeSettings);

impl Handler<Reconfigure> for RecipeSupervisor {
    type Result = ();

    fn handle(&mut self, Reconfigure(settings): Reconfigure, ctx: &mut Self::Context) {
        let new_schedule = format!("{:?}", settings.schedule) != format!("{:?}", self.settings.schedule)
            || matches!(settings.schedule, Schedule::Calendar(_));
        let old = std::mem::replace(&mut self.settings, settings);
        if new_schedule && let Some(reader) = self.reader.addr.take() {
            reader.do_send(reader::Stop);
            self.last_run.set(self.env.clock.now());
            self.start_reader(ctx);
        }
        let wanted: BTreeMap<TargetName, TargetSettings> =
            self.settings.targets.iter().map(|target| (target.name.clone(), target.clone())).collect();
        for name in self.targets.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.stop_target(ctx, &name, None);
        }
        for (name, target) in wanted {
            match self.targets.get_mut(&name) {
                None => self.add_target(ctx, target),
                Some(child) if child.told_to_stop => child.next = Some(target),
                Some(child) if child.settings != target => self.stop_target(ctx, &name, Some(target)),
                Some(_) => {}
            }
        }
        if old.paused != self.settings.paused {
            for child in self.targets.values() {
                if let Some(addr) = &child.addr {
                    addr.do_send(Signal::Pause(self.settings.paused));
                }
            }
        }
    }
}

/// Restarts every delivery: configuration that is read at their start has changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reload(pub MakeEnv);

impl Handler<Reload> for RecipeSupervisor {
    type Result = ();
    fn handle(&mut self, Reload(make): Reload, ctx: &mut Self::Context) {
        self.env = make();
        for target in self.settings.targets.clone() {
            self.stop_target(ctx, &target.name.clone(), Some(target));
        }
    }
}

/// Delivers now; answers when what waits has been tried.
#[derive(Message)]
#[rtype(result = "Vec<RunReport>")]
pub struct RunNow;

impl Handler<RunNow> for RecipeSupervisor {
    type Result = ResponseFuture<Vec<RunReport>>;

    fn handle(&mut self, _: RunNow, _: &mut Self::Context) -> Self::Result {
        let head = *self.env.log.head(&self.settings.feed).borrow();
        self.last_run.set(self.env.clock.now());
        self.release(head);
        let frontier = self.frontier.get();
        let asked: Vec<_> = self
            .targets
            .iter()
            .map(|(name, child)| {
                let (tell, told) = oneshot::channel();
                if let Some(addr) = &child.addr {
                    addr.do_send(Signal::RunNow(frontier, tell));
                }
                (name.clone(), told)
            })
            .collect();
        Box::pin(async move {
            let mut reports = Vec::new();
            for (name, told) in asked {
                reports.push(told.await.unwrap_or_else(|_| RunReport {
                    target: name.to_string(),
                    delivered: 0,
                    failed: 0,
                    waiting: 0,
                    error: Some("the delivery is being started again".to_owned()),
                }));
            }
            reports
        })
    }
}

/// A human's answer to the ticket that holds a target. `false`: there is no such delivery.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct TakeAnswer(pub TargetName, pub Answer);

impl Handler<TakeAnswer> for RecipeSupervisor {
    type Result = bool;
    fn handle(&mut self, TakeAnswer(target, answer): TakeAnswer, _: &mut Self::Context) -> bool {
        let Some(addr) = self.targets.get(&target).and_then(|child| child.addr.as_ref()) else { return false };
        addr.do_send(Signal::Answer(answer));
        true
    }
}

/// Ends these targets, after what is in flight has ended: they are about to be removed or renamed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire(pub Vec<TargetName>);

impl Handler<Retire> for RecipeSupervisor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, Retire(names): Retire, ctx: &mut Self::Context) -> Self::Result {
        self.retire(ctx, &names)
    }
}

/// Lets what is in flight end, then ends; answered when all children have.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Handler<Drain> for RecipeSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        if let Some(reader) = self.reader.addr.take() {
            reader.do_send(reader::Stop);
        }
        let all: Vec<TargetName> = self.targets.keys().cloned().collect();
        let ended = self.retire(ctx, &all);
        self.finish_if_empty(ctx);
        ended
    }
}

/// One recipe, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipeSnapshot {
    pub id: RecipeId,
    pub revision: Revision,
    pub feed: FeedName,
    pub paused: bool,
    pub frontier: Offset,
    pub reader: ReaderStatus,
    pub targets: Vec<TargetStatus>,
}

#[derive(Message)]
#[rtype(result = "Option<RecipeSnapshot>")]
pub struct Snapshot;

impl Handler<Snapshot> for RecipeSupervisor {
    type Result = Option<RecipeSnapshot>;
    fn handle(&mut self, _: Snapshot, _: &mut Self::Context) -> Self::Result {
        Some(self.snapshot())
    }
}
