//! The node as the admin endpoint sees it: questions and orders become messages to actors and calls of the store,
//! what comes back becomes the JSON that is promised.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use hms_actors::delivery::{self, TicketAction};
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, RecipeId, TargetKey, TargetName};
use hms_actors::node::{List, Node as Root};
use hms_actors::ports::{Clock, Ledger};
use hms_actors::receipt::Cause;
use hms_actors::supervisor::{RecipeSnapshot, Snapshot, TakeAnswer};
use tokio::sync::oneshot;

use super::operations::{How, Operations};
use super::shapes::{activity, actor, failed, feed_view, guarantee, letter_view, supervisor_view};
use super::world::World;
use super::{advance_readers, publish};
use crate::admin::backend::PublishRequest;
use crate::admin::views::{self, Activity, ActorView, Guarantee, Moment, RecipeState};
use crate::admin::{AdminError, Backend};
use crate::recipe::{self, model};
use crate::store::{StoredRecipe, Ticket, TicketState};

type Result<T> = std::result::Result<T, AdminError>;

/// Who asks. Until there are tokens, whoever reaches the endpoint is the operator.
const BY: &str = "operator";

/// Dead letters in one answer.
const LETTERS: usize = 10_000;

/// How long an actor may take to say how it is.
const LOOK: Duration = Duration::from_secs(5);

/// How long a delivery may take to carry out an answer; it may have an attempt in flight.
const ANSWER: Duration = Duration::from_secs(60);

pub(super) struct Endpoint {
    world: Arc<World>,
    root: Addr<Root>,
    operations: Arc<Operations>,
}

#[async_trait(?Send)]
impl Backend for Endpoint {
    async fn publish(&self, feed: &FeedName, request: PublishRequest) -> Result<views::Published> {
        let began = Instant::now();
        let accepted = self.world.feeds.publish(feed, publish::events(feed, &request)?).await?;
        self.world.metrics.published(began.elapsed());
        Ok(publish::answer(accepted))
    }

    async fn feeds(&self) -> Result<Vec<views::FeedView>> {
        advance_readers(&self.world);
        Ok(self.world.feeds.feeds().into_iter().map(feed_view).collect())
    }

    async fn feed(&self, feed: &FeedName) -> Result<views::FeedView> {
        advance_readers(&self.world);
        let found = self.world.feeds.feed(feed).map(feed_view);
        found.ok_or_else(|| AdminError::not_found(format!("nothing was ever published to feed `{feed}`")))
    }

    async fn apply(&self, id: &RecipeId, text: String, options: views::ApplyOptions) -> Result<views::Applied> {
        let how = How { dry_run: options.dry_run, abandon: options.abandon };
        let outcome = self.operations.apply(id, &text, how, BY).await?;
        let next = outcome.next_run_in.filter(|_| !outcome.paused);
        Ok(views::Applied {
            id: id.to_string(),
            revision: outcome.revision,
            changed: outcome.changed,
            dry_run: options.dry_run,
            paused: outcome.paused,
            diff: outcome.diff,
            next_run_at: next.map(|wait| Moment(self.world.clock.now().plus(wait))),
            next_run_in_seconds: next.map(|wait| wait.as_secs_f64().ceil() as u64),
            warnings: outcome.warnings,
        })
    }

    async fn recipes(&self) -> Result<Vec<views::RecipeSummary>> {
        let mut snapshots: HashMap<RecipeId, RecipeSnapshot> = HashMap::new();
        for supervised in self.root.send(List).await.map_err(stopping)? {
            if let Some(snapshot) = look(&supervised.addr).await {
                snapshots.insert(supervised.id, snapshot);
            }
        }
        let recipes = self.world.store.recipes();
        Ok(recipes.iter().map(|stored| self.summary(stored, snapshots.get(&stored.id))).collect())
    }

    async fn recipe(&self, id: &RecipeId) -> Result<views::RecipeView> {
        let stored = self.stored(id)?;
        let snapshot = self.snapshot(id).await;
        let parsed = recipe::parse(id.as_str(), stored.text()).ok();
        let targets =
            stored.targets.keys().map(|name| self.target_view(&stored, name, parsed.as_ref(), snapshot.as_ref()));
        Ok(views::RecipeView {
            summary: self.summary(&stored, snapshot.as_ref()),
            text: stored.text().to_owned(),
            targets: targets.collect(),
        })
    }

    async fn target(&self, target: &TargetKey) -> Result<views::TargetView> {
        let found = self.recipe(&target.recipe).await?.targets;
        let found = found.into_iter().find(|found| found.target == target.target.as_str());
        found.ok_or_else(|| AdminError::not_found(format!("there is no target {target}")))
    }

    async fn delete(&self, id: &RecipeId, abandon: bool) -> Result<views::Deleted> {
        Ok(views::Deleted { id: id.to_string(), abandoned: self.operations.delete(id, abandon, BY).await? })
    }

    async fn pause(&self, id: &RecipeId) -> Result<views::RecipeView> {
        self.operations.pause(id, true, BY).await?;
        self.recipe(id).await
    }

    async fn resume(&self, id: &RecipeId) -> Result<views::RecipeView> {
        self.operations.pause(id, false, BY).await?;
        self.recipe(id).await
    }

    async fn run(&self, id: &RecipeId, wait: bool) -> Result<Vec<views::TargetRun>> {
        let view = |report: delivery::RunReport| views::TargetRun {
            target: report.target,
            delivered: report.delivered,
            failed: report.failed,
            backlog: report.waiting,
            last_error: report.error,
        };
        Ok(self.operations.run(id, wait).await?.into_iter().map(view).collect())
    }

    async fn tickets(&self, state: Option<views::TicketState>) -> Result<Vec<views::TicketView>> {
        let state = state.map(|state| match state {
            views::TicketState::Open => TicketState::Open,
            views::TicketState::Resolved => TicketState::Resolved,
        });
        Ok(self.world.store.tickets(state).into_iter().map(|ticket| self.ticket_view(ticket)).collect())
    }

    async fn ticket(&self, number: u64) -> Result<views::TicketView> {
        let ticket = self.world.store.ticket(number).map(|ticket| self.ticket_view(ticket));
        ticket.ok_or_else(|| AdminError::not_found(format!("there is no ticket {number}")))
    }

    async fn answer_ticket(&self, number: u64, answer: views::TicketAnswer) -> Result<views::TicketView> {
        let ticket = self.open_ticket(number)?;
        let note = answer.note.filter(|note| !note.trim().is_empty());
        let action = match answer.action {
            views::TicketAction::Retry => TicketAction::Retry,
            views::TicketAction::Skip => TicketAction::Skip,
            views::TicketAction::Resolve => TicketAction::Resolve,
        };
        if ticket.cause == Cause::Doubt {
            if action == TicketAction::Resolve && note.is_none() {
                let why = "`resolve` says that the rows arrived: a `note` with how that is known is required";
                return Err(AdminError::invalid(why));
            }
            self.answer_doubt(&ticket, action, note).await?;
        } else {
            self.world.store.resolve_ticket(number, action.as_str(), BY, note).await.map_err(failed)?;
            if action == TicketAction::Retry {
                self.operations.run(&ticket.key.recipe, false).await?;
            }
        }
        self.ticket(number).await
    }

    async fn dead_letters(&self) -> Result<Vec<views::DeadLetterView>> {
        Ok(self.world.store.dead_letters(0, LETTERS).into_iter().map(letter_view).collect())
    }

    async fn dead_letter(&self, number: u64) -> Result<views::DeadLetterView> {
        let found = self.world.store.dead_letters(number, 1).into_iter().find(|letter| letter.number == number);
        found.map(letter_view).ok_or_else(|| AdminError::not_found(format!("there is no dead letter {number}")))
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Bytes> {
        let world = self.world.clone();
        let read = tokio::task::spawn_blocking(move || audit_lines(&world, from, limit));
        read.await.map_err(|error| AdminError::internal(error.to_string()))?.map_err(failed)
    }

    async fn supervision(&self) -> Result<ActorView> {
        let mut recipes = Vec::new();
        for supervised in self.root.send(List).await.map_err(stopping)? {
            let snapshot = look(&supervised.addr).await;
            recipes.push(supervisor_view(&supervised.id, supervised.restarts, snapshot));
        }
        Ok(actor("node", "node", "running", 0, recipes))
    }

    async fn metrics(&self) -> Result<String> {
        for recipe in self.world.store.recipes() {
            for target in recipe.targets.keys() {
                let key = TargetKey { recipe: recipe.id.clone(), target: target.clone() };
                self.world.metrics.set_backlog(&key, self.operations.waiting(&key));
            }
        }
        let store = &self.world.store;
        self.world.metrics.set_open(store.tickets(Some(TicketState::Open)).len(), store.dead_letter_count());
        Ok(self.world.metrics.render())
    }

    async fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(failure) = self.world.store.healthy() {
            reasons.push(format!("the store refuses writes: {}", failure.message));
        }
        if let Err(why) = self.world.feeds.healthy() {
            reasons.push(format!("the event store refuses writes: {why}"));
        }
        for recipe in self.world.store.recipes() {
            let supervisor = self.operations.supervisor(&recipe.id).await;
            if !supervisor.is_ok_and(|supervisor| supervisor.connected()) {
                reasons.push(format!("the supervisor of recipe `{}` is down", recipe.id));
            }
        }
        reasons
    }
}

impl Endpoint {
    pub fn new(world: Arc<World>, root: Addr<Root>, operations: Arc<Operations>) -> Self {
        Self { world, root, operations }
    }

    fn stored(&self, id: &RecipeId) -> Result<StoredRecipe> {
        let stored = self.world.store.recipe(id);
        stored.ok_or_else(|| AdminError::not_found(format!("there is no recipe `{id}`")))
    }

    /// Why a human is waited for, also after a restart.
    fn held_because(&self, key: &TargetKey) -> Option<String> {
        let ticket = self.world.store.ticket(self.world.store.held_by(key)?)?;
        Some(format!("ticket {}: {}", ticket.number, ticket.reason))
    }

    async fn snapshot(&self, id: &RecipeId) -> Option<RecipeSnapshot> {
        look(&self.operations.supervisor(id).await.ok()?).await
    }

    fn open_ticket(&self, number: u64) -> Result<Ticket> {
        let ticket = self.world.store.ticket(number);
        let ticket = ticket.ok_or_else(|| AdminError::not_found(format!("there is no ticket {number}")))?;
        match ticket.state {
            TicketState::Open => Ok(ticket),
            TicketState::Resolved => Err(AdminError::conflict(format!("ticket {number} is resolved already"))),
        }
    }

    /// Only the delivery that is held knows what is in doubt.
    async fn answer_doubt(&self, ticket: &Ticket, action: TicketAction, note: Option<String>) -> Result<()> {
        let supervisor = self.operations.supervisor(&ticket.key.recipe).await?;
        let (done, told) = oneshot::channel();
        let by = BY.to_owned();
        let answer = delivery::Answer { ticket: ticket.number, cause: ticket.cause, action, by, note, done };
        let taken = supervisor.send(TakeAnswer(ticket.key.target.clone(), answer)).await.unwrap_or(false);
        if !taken {
            return Err(AdminError::unavailable(format!("the delivery {} is being started again", ticket.key)));
        }
        match tokio::time::timeout(ANSWER, told).await {
            Ok(Ok(result)) => result.map_err(AdminError::conflict),
            Ok(Err(_)) => Err(AdminError::unavailable("the delivery ended before it had carried out the answer")),
            Err(_) => Err(AdminError::unavailable("the answer is not yet carried out: look at the ticket again")),
        }
    }

    fn ticket_view(&self, ticket: Ticket) -> views::TicketView {
        let open = ticket.state == TicketState::Open;
        views::TicketView {
            number: ticket.number,
            state: match ticket.state {
                TicketState::Open => views::TicketState::Open,
                TicketState::Resolved => views::TicketState::Resolved,
            },
            recipe: ticket.key.recipe.to_string(),
            target: ticket.key.target.to_string(),
            cause: ticket.cause,
            reason: ticket.reason,
            opened_at: Moment(ticket.opened_at),
            resolved_at: ticket.resolved_at.map(Moment),
            attempts: ticket.attempts,
            // What an open one holds up changes with every event.
            backlog: if open { self.operations.waiting(&ticket.key) } else { ticket.backlog },
            last_error: Some(ticket.last_error),
            note: ticket.note,
        }
    }

    fn summary(&self, stored: &StoredRecipe, snapshot: Option<&RecipeSnapshot>) -> views::RecipeSummary {
        let parsed = recipe::parse(stored.id.as_str(), stored.text()).ok();
        let next = snapshot.and_then(|snapshot| snapshot.reader.next_run_at).filter(|_| !stored.paused);
        views::RecipeSummary {
            id: stored.id.to_string(),
            revision: stored.revision,
            feed: stored.feed.to_string(),
            state: if stored.paused { RecipeState::Paused } else { RecipeState::Enabled },
            schedule: parsed.map(|recipe| recipe.schedule.to_string()).unwrap_or_default(),
            next_run_at: next.map(Moment),
            next_run_in_seconds: next.map(|next| next.since(self.world.clock.now()).as_secs()),
        }
    }

    fn target_view(
        &self,
        stored: &StoredRecipe,
        name: &TargetName,
        recipe: Option<&model::Recipe>,
        snapshot: Option<&RecipeSnapshot>,
    ) -> views::TargetView {
        let key = TargetKey { recipe: stored.id.clone(), target: name.clone() };
        let spec = recipe.and_then(|recipe| recipe.targets.iter().find(|target| target.name == *name));
        let status = snapshot.and_then(|snapshot| snapshot.targets.iter().find(|status| status.target == *name));
        views::TargetView {
            recipe: key.recipe.to_string(),
            target: key.target.to_string(),
            adapter: spec.map_or("", |target| target.adapter.word()).to_owned(),
            guarantee: spec.map_or(Guarantee::AtLeastOnce, guarantee),
            activity: status.map_or(Activity::Restarting, |status| activity(status.phase)),
            checkpoint: self.world.store.settled(&key).map_or(0, |settled| settled.below()),
            backlog: self.operations.waiting(&key),
            in_flight: status.map_or(0, |status| status.in_flight as u64),
            last_error: self.held_because(&key).or_else(|| status.and_then(|status| status.last_error.clone())),
            next_attempt_at: status.and_then(|status| status.next_attempt_at).map(Moment),
            restarts: status.map_or(0, |status| status.restarts),
            held_by_ticket: self.world.store.held_by(&key),
        }
    }
}

async fn look(supervisor: &Addr<hms_actors::supervisor::RecipeSupervisor>) -> Option<RecipeSnapshot> {
    tokio::time::timeout(LOOK, supervisor.send(Snapshot)).await.ok()?.ok()?
}

fn audit_lines(world: &World, from: u64, limit: usize) -> std::result::Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    let (mut next, mut left) = (from, limit);
    while left > 0 {
        let lines = world.store.read_lines(next, left)?;
        let Some((last, _)) = lines.last() else { break };
        next = last + 1;
        left -= lines.len().min(left);
        for (_, line) in lines {
            bytes.put(line);
            bytes.put_u8(b'\n');
        }
    }
    Ok(bytes.freeze())
}

fn stopping(_: actix::MailboxError) -> AdminError {
    AdminError::unavailable("the node is stopping")
}
