//! The node as the admin endpoint sees it: questions and orders become messages to actors and calls of the store,
//! what comes back becomes the JSON that is promised.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use hms_actors::delivery::{self, TargetStatus, TicketAction};
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, RecipeId, TargetKey, TargetName};
use hms_actors::node::{List, Node as Root};
use hms_actors::ports::Clock;
use hms_actors::receipt::Cause;
use hms_actors::supervisor::{RecipeSnapshot, Snapshot, TakeAnswer};
use tokio::sync::oneshot;

use super::operations::{How, Operations, Refused};
use super::rfc3339;
use super::world::World;
use crate::admin::backend::{Apply, Backend, Result};
use crate::admin::problem::Problem;
use crate::admin::views;
use crate::feeds::{NewEvent, PublishError};
use crate::recipe::{self, heart, model};
use crate::store::{DeadLetter, StoredRecipe, Ticket, TicketState};

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
    async fn publish(&self, feed: FeedName, events: Vec<NewEvent>) -> Result<views::Published> {
        let began = Instant::now();
        let accepted = self.world.feeds.publish(&feed, events).await.map_err(publish_problem)?;
        self.world.metrics.published(began.elapsed());
        let duplicates = accepted.iter().filter(|event| event.duplicate).count();
        let event = |event: crate::feeds::Accepted| views::PublishedEvent { id: event.id, offset: event.offset };
        Ok(views::Published {
            accepted: accepted.len() - duplicates,
            duplicates,
            events: accepted.into_iter().map(event).collect(),
        })
    }

    async fn feeds(&self) -> Result<Vec<views::Feed>> {
        let feed = |feed: crate::feeds::FeedInfo| views::Feed {
            name: feed.name.to_string(),
            head: feed.head,
            oldest: feed.oldest,
            bytes: feed.bytes,
            readers: feed
                .readers
                .into_iter()
                .map(|reader| views::Reader { name: reader.name, position: reader.position, lag: reader.lag })
                .collect(),
        };
        Ok(self.world.feeds.feeds().into_iter().map(feed).collect())
    }

    async fn apply(&self, id: RecipeId, text: String, how: Apply, by: &str) -> Result<views::Applied> {
        let how = How { dry_run: how.dry_run, abandon: how.abandon };
        let outcome = self.operations.apply(&id, &text, how, by).await?;
        let now = self.world.clock.now();
        Ok(views::Applied {
            id: id.to_string(),
            revision: outcome.revision,
            changed: outcome.changed,
            created: outcome.created,
            diff: outcome.diff,
            paused: outcome.paused,
            next_run_at: outcome.next_run_in.map(|wait| rfc3339(now.plus(wait))),
            next_run_in_seconds: outcome.next_run_in.map(|wait| wait.as_secs_f64().round() as u64),
        })
    }

    async fn recipes(&self) -> Result<Vec<views::Recipe>> {
        let mut snapshots: HashMap<RecipeId, RecipeSnapshot> = HashMap::new();
        for supervised in self.root.send(List).await.map_err(stopping)? {
            if let Some(snapshot) = look(&supervised.addr).await {
                snapshots.insert(supervised.id, snapshot);
            }
        }
        let recipes = self.world.store.recipes();
        Ok(recipes.iter().map(|stored| self.view(stored, snapshots.get(&stored.id))).collect())
    }

    async fn recipe(&self, id: RecipeId) -> Result<views::Recipe> {
        let stored = self.world.store.recipe(&id).ok_or_else(|| no_recipe(&id))?;
        let snapshot = match self.operations.supervisor(&id).await {
            Ok(supervisor) => look(&supervisor).await,
            Err(_) => None,
        };
        let mut view = self.view(&stored, snapshot.as_ref());
        view.text = Some(stored.text().to_owned());
        Ok(view)
    }

    async fn target(&self, id: RecipeId, target: TargetName) -> Result<views::Target> {
        let recipe = self.recipe(id.clone()).await?;
        let found = recipe.targets.into_iter().find(|found| found.target == target.as_str());
        found.ok_or_else(|| Problem::not_found(format!("recipe `{id}` has no target `{target}`")))
    }

    async fn delete(&self, id: RecipeId, abandon: bool, by: &str) -> Result<()> {
        Ok(self.operations.delete(&id, abandon, by).await?)
    }

    async fn set_paused(&self, id: RecipeId, paused: bool, by: &str) -> Result<()> {
        Ok(self.operations.pause(&id, paused, by).await?)
    }

    async fn run(&self, id: RecipeId, wait: bool) -> Result<Vec<views::RunReport>> {
        let report = |report: delivery::RunReport| views::RunReport {
            target: report.target,
            delivered: report.delivered,
            failed: report.failed,
            backlog: report.waiting,
            last_error: report.error,
        };
        Ok(self.operations.run(&id, wait).await?.into_iter().map(report).collect())
    }

    async fn tickets(&self, state: Option<String>) -> Result<Vec<views::Ticket>> {
        let state = state.map(|state| if state == "open" { TicketState::Open } else { TicketState::Resolved });
        Ok(self.world.store.tickets(state).iter().map(ticket_view).collect())
    }

    async fn answer_ticket(&self, number: u64, answer: views::TicketAnswer, by: &str) -> Result<views::Ticket> {
        let ticket = self.open_ticket(number)?;
        let note = answer.note.filter(|note| !note.trim().is_empty());
        let action = match answer.action {
            views::TicketAction::Retry => TicketAction::Retry,
            views::TicketAction::Skip => TicketAction::Skip,
            views::TicketAction::Resolve => TicketAction::Resolve,
        };
        if ticket.cause == Cause::Doubt {
            if action == TicketAction::Resolve && note.is_none() {
                let why = "`resolve` says that the rows arrived: a note with how that is known is required";
                return Err(Problem::bad_request(why));
            }
            self.answer_doubt(&ticket, action, note, by).await?;
        } else {
            self.world.store.resolve_ticket(number, action.as_str(), by, note).await.map_err(failed)?;
            if action == TicketAction::Retry {
                self.operations.run(&ticket.key.recipe, false).await?;
            }
        }
        let ticket = self.world.store.ticket(number);
        ticket.as_ref().map(ticket_view).ok_or_else(|| Problem::not_found(format!("there is no ticket {number}")))
    }

    async fn dead_letters(&self, from: u64, limit: usize) -> Result<Vec<views::DeadLetter>> {
        Ok(self.world.store.dead_letters(from, limit).into_iter().map(letter_view).collect())
    }

    async fn dead_letter(&self, number: u64) -> Result<views::DeadLetter> {
        let found = self.world.store.dead_letter(number).await.map_err(failed)?;
        let (letter, event) = found.ok_or_else(|| Problem::not_found(format!("there is no dead letter {number}")))?;
        let data = String::from_utf8_lossy(&event.data).into_owned();
        Ok(views::DeadLetter { data: serde_json::value::RawValue::from_string(data).ok(), ..letter_view(letter) })
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Bytes> {
        let world = self.world.clone();
        let read = tokio::task::spawn_blocking(move || audit_lines(&world, from, limit));
        read.await.map_err(|error| Problem::unavailable(error.to_string()))?.map_err(failed)
    }

    async fn supervision(&self) -> Result<views::Actor> {
        let mut recipes = Vec::new();
        for supervised in self.root.send(List).await.map_err(stopping)? {
            let snapshot = look(&supervised.addr).await;
            recipes.push(supervisor_view(&supervised.id, supervised.restarts, snapshot));
        }
        Ok(actor("node".into(), "node", "running", 0, recipes))
    }

    async fn metrics(&self) -> String {
        for recipe in self.world.store.recipes() {
            for target in recipe.targets.keys() {
                let key = TargetKey { recipe: recipe.id.clone(), target: target.clone() };
                self.world.metrics.set_backlog(&key, self.operations.waiting(&key));
            }
        }
        let store = &self.world.store;
        self.world.metrics.set_open(store.tickets(Some(TicketState::Open)).len(), store.dead_letter_count());
        self.world.metrics.render()
    }

    async fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(failure) = self.world.store.healthy() {
            reasons.push(format!("the store refuses writes: {}", failure.message));
        }
        if let Err(why) = self.world.feeds.healthy() {
            reasons.push(format!("the event store refuses writes: {why}"));
        }
        for recipe in self.world.store.recipes() {
            let answers = match self.operations.supervisor(&recipe.id).await {
                Ok(supervisor) => supervisor.connected(),
                Err(_) => false,
            };
            if !answers {
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

    fn open_ticket(&self, number: u64) -> Result<Ticket> {
        let ticket = self.world.store.ticket(number);
        let ticket = ticket.ok_or_else(|| Problem::not_found(format!("there is no ticket {number}")))?;
        match ticket.state {
            TicketState::Open => Ok(ticket),
            TicketState::Resolved => Err(Problem::conflict(format!("ticket {number} is resolved already"))),
        }
    }

    /// Only the delivery that is held knows what is in doubt.
    async fn answer_doubt(&self, ticket: &Ticket, action: TicketAction, note: Option<String>, by: &str) -> Result<()> {
        let supervisor = self.operations.supervisor(&ticket.key.recipe).await?;
        let (done, told) = oneshot::channel();
        let by = by.to_owned();
        let answer = delivery::Answer { ticket: ticket.number, cause: ticket.cause, action, by, note, done };
        let target = ticket.key.target.clone();
        let taken = supervisor.send(TakeAnswer(target, answer)).await.unwrap_or(false);
        if !taken {
            return Err(Problem::unavailable(format!("the delivery {} is being started again", ticket.key)));
        }
        match tokio::time::timeout(ANSWER, told).await {
            Ok(Ok(result)) => result.map_err(Problem::conflict),
            Ok(Err(_)) => Err(Problem::unavailable("the delivery ended before it had carried out the answer")),
            Err(_) => Err(Problem::unavailable("the delivery has not yet carried out the answer: look at the ticket")),
        }
    }

    fn view(&self, stored: &StoredRecipe, snapshot: Option<&RecipeSnapshot>) -> views::Recipe {
        let parsed = recipe::parse(stored.id.as_str(), stored.text()).ok();
        let now = self.world.clock.now();
        let next = snapshot.and_then(|snapshot| snapshot.reader.next_run_at).filter(|_| !stored.paused);
        let state = match (snapshot, stored.paused) {
            (None, _) => "down",
            (Some(_), true) => "paused",
            (Some(_), false) => "running",
        };
        let targets = stored.targets.keys().map(|name| {
            let spec = parsed.as_ref().and_then(|recipe| recipe.targets.iter().find(|target| target.name == *name));
            let status = snapshot.and_then(|snapshot| snapshot.targets.iter().find(|status| status.target == *name));
            self.target_view(TargetKey { recipe: stored.id.clone(), target: name.clone() }, spec, status)
        });
        views::Recipe {
            id: stored.id.to_string(),
            revision: stored.revision,
            state: state.to_owned(),
            feed: stored.feed.to_string(),
            schedule: parsed.as_ref().map(|recipe| recipe.schedule.to_string()).unwrap_or_default(),
            next_run_at: next.map(rfc3339),
            next_run_in_seconds: next.map(|next| next.since(now).as_secs()),
            last_run_at: snapshot.and_then(|snapshot| snapshot.reader.last_run_at).map(rfc3339),
            targets: targets.collect(),
            text: None,
        }
    }

    fn target_view(
        &self,
        key: TargetKey,
        spec: Option<&model::Target>,
        status: Option<&TargetStatus>,
    ) -> views::Target {
        let adapter = spec.map_or("", |target| match target.adapter {
            model::Adapter::Rest(_) => "rest",
            model::Adapter::Sftp(_) => "sftp",
            model::Adapter::File(_) => "file",
        });
        let backlog = self.operations.waiting(&key);
        let down = TargetStatus::new(key.target.clone(), self.world.clock.now());
        let status = status.unwrap_or(&down);
        views::Target {
            recipe: key.recipe.to_string(),
            target: key.target.to_string(),
            adapter: adapter.to_owned(),
            guarantee: spec.map(heart::guarantee).unwrap_or_default().to_owned(),
            state: word(&status.phase),
            since: rfc3339(status.since),
            checkpoint: self.world.store.settled(&key).map_or(status.checkpoint, |settled| settled.below()),
            backlog,
            in_flight: status.in_flight,
            consecutive_failures: status.consecutive_failures,
            delivered: status.delivered,
            last_error: status.last_error.clone(),
            last_error_kind: status.last_error_kind.map(|kind| kind.as_str().to_owned()),
            last_error_at: status.last_error_at.map(rfc3339),
            next_attempt_at: status.next_attempt_at.map(rfc3339),
            held_by_ticket: status.held_by,
            restarts: status.restarts,
        }
    }
}

async fn look(supervisor: &Addr<hms_actors::supervisor::RecipeSupervisor>) -> Option<RecipeSnapshot> {
    tokio::time::timeout(LOOK, supervisor.send(Snapshot)).await.ok()?.ok()?
}

fn supervisor_view(id: &RecipeId, restarts: u64, snapshot: Option<RecipeSnapshot>) -> views::Actor {
    let Some(snapshot) = snapshot else {
        return actor(id.to_string(), "recipe_supervisor", "down", restarts, Vec::new());
    };
    let reader = actor(snapshot.feed.to_string(), "feed_reader", "running", snapshot.reader.restarts, Vec::new());
    let deliveries = snapshot
        .targets
        .iter()
        .map(|status| actor(status.target.to_string(), "delivery", &word(&status.phase), status.restarts, Vec::new()));
    let watches = std::iter::once(reader).chain(deliveries).collect();
    actor(id.to_string(), "recipe_supervisor", "running", restarts, watches)
}

fn actor(name: String, kind: &str, state: &str, restarts: u64, watches: Vec<views::Actor>) -> views::Actor {
    views::Actor { name, kind: kind.to_owned(), state: state.to_owned(), restarts, watches }
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

fn ticket_view(ticket: &Ticket) -> views::Ticket {
    views::Ticket {
        number: ticket.number,
        state: word(&ticket.state),
        recipe: ticket.key.recipe.to_string(),
        target: ticket.key.target.to_string(),
        cause: ticket.cause.as_str().to_owned(),
        reason: ticket.reason.clone(),
        opened_at: rfc3339(ticket.opened_at),
        resolved_at: ticket.resolved_at.map(rfc3339),
        attempts: ticket.attempts,
        backlog: ticket.backlog,
        last_error: ticket.last_error.clone(),
        note: ticket.note.clone(),
    }
}

fn letter_view(letter: DeadLetter) -> views::DeadLetter {
    views::DeadLetter {
        number: letter.number,
        recipe: letter.key.recipe.to_string(),
        target: letter.key.target.to_string(),
        feed: letter.feed.to_string(),
        event_id: letter.event_id,
        offset: letter.offset,
        reason: letter.reason,
        attempts: letter.attempts,
        at: rfc3339(letter.at),
        may_have_arrived: letter.may_have_arrived,
        data: None,
    }
}

/// The one word that a plain enumeration is written as.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn publish_problem(error: PublishError) -> Problem {
    let detail = error.to_string();
    match error {
        PublishError::Conflict { id, offset, .. } => Problem::conflict(detail).with("id", id).with("offset", offset),
        PublishError::FeedFull { .. } | PublishError::NodeFull { .. } | PublishError::DiskFull { .. } => {
            Problem::new(507, "insufficient storage").detail(detail)
        }
        PublishError::Unwritable { .. } | PublishError::Overloaded => Problem::unavailable(detail),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::NotFound(_) => Problem::not_found(detail),
            Refused::BadRequest(_) => Problem::bad_request(detail),
            Refused::Invalid(errors) => Problem::new(422, "invalid recipe").detail(detail).with("errors", errors),
            Refused::Conflict { counts, .. } if counts.is_empty() => Problem::conflict(detail),
            Refused::Conflict { counts, .. } => Problem::conflict(detail).with("backlog", counts),
            Refused::Failed(failure) => failed(failure),
        }
    }
}

fn failed(failure: Failure) -> Problem {
    Problem::unavailable(failure.message)
}

fn stopping(_: actix::MailboxError) -> Problem {
    Problem::unavailable("the node is stopping")
}

fn no_recipe(id: &RecipeId) -> Problem {
    Problem::not_found(format!("there is no recipe `{id}`"))
}
