//! What a supervisor can be told and asked: new settings, run now, answers of humans, the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::dev::SendError;
use actix::{Handler, Message, ResponseFuture};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Child, RecipeSupervisor};
use crate::delivery::{Ask, RunReport, Signal, TargetStatus, TicketAction};
use crate::id::{FeedName, Offset, RecipeId, Revision, TargetName};
use crate::policy::circuit::CircuitOrder;
use crate::ports::Schedule;
use crate::reader::{self, ReaderStatus};
use crate::receipt::Cause;
use crate::runtime::MakeEnv;
use crate::settings::{RecipeSettings, TargetSettings};

/// New settings: restarts only what changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reconfigure(pub Arc<RecipeSettings>);

impl Handler<Reconfigure> for RecipeSupervisor {
    type Result = ();

    fn handle(&mut self, Reconfigure(settings): Reconfigure, ctx: &mut Self::Context) {
        let new_schedule = format!("{:?}", settings.schedule) != format!("{:?}", self.settings.schedule)
            || matches!(settings.schedule, Schedule::Calendar(_));
        let old = std::mem::replace(&mut self.settings, settings);
        if new_schedule && let Some(reader) = self.reader.addr.take() {
            reader.do_send(reader::Stop);
            self.common.last_run.set(self.env.clock.now());
            self.start_reader(ctx);
        }
        let settings = self.settings.clone();
        let wanted: BTreeMap<&TargetName, &Arc<TargetSettings>> =
            settings.targets.iter().map(|target| (&target.name, target)).collect();
        for name in self.targets.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.stop_target(ctx, &name, None);
        }
        for (name, target) in wanted {
            match self.targets.get_mut(name) {
                None => self.add_target(ctx, target.clone()),
                Some(child) if child.told_to_stop => child.next = Some(target.clone()),
                Some(child) if child.settings != *target => {
                    self.stop_target(ctx, name, Some(target.clone()));
                }
                Some(_) => {}
            }
        }
        if old.paused != self.settings.paused {
            for child in self.targets.values() {
                if let Some(post) = &child.post {
                    post.order(Signal::Pause(self.settings.paused));
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
        let settings = self.settings.clone();
        for target in &settings.targets {
            self.stop_target(ctx, &target.name, Some(target.clone()));
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
        let head = self.env.log.head(&self.settings.feed).get();
        self.common.last_run.set(self.env.clock.now());
        self.release(head);
        let frontier = self.common.frontier.get();
        let asked: Vec<_> = self
            .targets
            .iter()
            .map(|(name, child)| {
                let (tell, told) = oneshot::channel();
                (name.clone(), child.run_now(frontier, tell), told)
            })
            .collect();
        Box::pin(async move {
            let mut reports = Vec::new();
            for (name, sent, told) in asked {
                let report = match sent {
                    Ok(()) => {
                        told.await.map_err(|_| "the delivery died meanwhile and is being started again".to_owned())
                    }
                    Err(why) => Err(why),
                };
                reports.push(report.unwrap_or_else(|why| RunReport {
                    target: name.to_string(),
                    delivered: 0,
                    failed: 0,
                    waiting: 0,
                    error: Some(why),
                }));
            }
            reports
        })
    }
}

impl Child {
    fn run_now(&self, frontier: Offset, report: oneshot::Sender<RunReport>) -> Result<(), String> {
        let why = match &self.post {
            Some(post) => return post.tell(Signal::RunNow(frontier, report)).map_err(|_| BUSY.to_owned()),
            None if self.is_quarantined() => {
                "it is quarantined: its actor died too often; retry its ticket to revive it"
            }
            None => "the delivery is being started again",
        };
        Err(why.to_owned())
    }

    pub(super) fn is_quarantined(&self) -> bool {
        self.post.is_none() && self.watch.revived_at().is_some()
    }
}

/// Starts a quarantined target again, before its pause is over. `false`: it is not quarantined.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Revive(pub TargetName);

impl Handler<Revive> for RecipeSupervisor {
    type Result = bool;
    fn handle(&mut self, Revive(target): Revive, ctx: &mut Self::Context) -> bool {
        self.revive(ctx, &target)
    }
}

/// Something that only a target's delivery can carry out. `false`: there is no such delivery just now. What means
/// "go on" revives a quarantined one first.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct AskTarget(pub TargetName, pub Ask);

impl Handler<AskTarget> for RecipeSupervisor {
    type Result = bool;
    fn handle(&mut self, AskTarget(target, ask): AskTarget, ctx: &mut Self::Context) -> bool {
        if means_go_on(&ask) {
            self.revive(ctx, &target);
        }
        let Some(post) = self.targets.get(&target).and_then(|child| child.post.as_ref()) else { return false };
        if let Err(SendError::Full(Signal::Ask(refused)) | SendError::Closed(Signal::Ask(refused))) =
            post.tell(Signal::Ask(ask))
        {
            refused.refuse(BUSY);
        }
        true
    }
}

fn means_go_on(ask: &Ask) -> bool {
    match ask {
        Ask::Circuit(order) => matches!(order.order, CircuitOrder::Close | CircuitOrder::Probe),
        Ask::Ticket(answer) => answer.cause == Cause::Quarantine && answer.action == TicketAction::Retry,
        Ask::Replay(_) => false,
    }
}

/// To who asks more than the mailbox holds.
const BUSY: &str = "busy: its mailbox is full; ask again in a moment";

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
