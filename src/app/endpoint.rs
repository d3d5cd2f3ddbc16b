//! The node as the admin endpoint sees it: questions and orders become messages to actors and calls of the store,
//! what comes back becomes the JSON that is promised.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use hms_actors::delivery;
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, RecipeId, TargetKey};
use hms_actors::node::{List, Node as Root, Tree};
use hms_actors::ports::Clock;
use hms_actors::supervisor::{RecipeSnapshot, Snapshot, State};

use super::begun::withheld;
use super::keyring::Keyring;
use super::operations::{How, Operations};
use super::pruning::moved_out;
use super::shapes::{actor_view, blocked_view, cloud_event, failed, feed_view, letter_view, ticket_view};
use super::world::World;
use super::{advance_readers, publish};
use crate::access::{Presented, Refusal};
use crate::admin::backend::{LettersWanted, PublishRequest};
use crate::admin::views::{self, ActorView, Moment, RecipeState};
use crate::admin::{AdminError, Backend};
use crate::proof::{self, Hash};
use crate::recipe;
use crate::store::{DeadLetter, NoProof, Notary, Note, StoredRecipe, Ticket, TicketState};

pub(super) type Result<T> = std::result::Result<T, AdminError>;

/// How long an actor may take to say how it is.
const LOOK: Duration = Duration::from_secs(5);

pub(super) struct Endpoint {
    pub(super) world: Arc<World>,
    root: Addr<Root>,
    pub(super) operations: Arc<Operations>,
    keyring: Arc<Keyring>,
}

#[async_trait(?Send)]
impl Backend for Endpoint {
    fn present(&self, token: &str) -> Presented {
        self.keyring.present(token, self.world.clock.now())
    }

    fn refused(&self, why: Refusal) {
        self.world.metrics.refused(why);
    }

    async fn tokens(&self) -> Result<Vec<views::TokenView>> {
        Ok(self.keyring.list(self.world.clock.now()))
    }

    async fn create_token(&self, wanted: views::NewToken, by: &str) -> Result<views::TokenCreated> {
        self.keyring.clone().create(self.world.clone(), wanted, by).await
    }

    async fn revoke_token(&self, name: &str, by: &str) -> Result<views::TokenView> {
        self.keyring.clone().revoke(self.world.clone(), name, by).await
    }

    async fn publish(&self, feed: &FeedName, request: PublishRequest) -> Result<views::Published> {
        let began = Instant::now();
        refuse_own("feed", feed.as_str())?;
        let taken = self.world.feeds.take(publish::events(feed, &request)?).await?;
        self.world.metrics.published(began.elapsed());
        Ok(publish::answer(taken.duplicates(), taken.events()))
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

    async fn apply(
        &self,
        id: &RecipeId,
        text: String,
        options: views::ApplyOptions,
        by: &str,
    ) -> Result<views::Applied> {
        refuse_own("recipe", id.as_str())?;
        let how = How { dry_run: options.dry_run, abandon: options.abandon };
        let outcome = self.operations.apply(id, &text, how, by).await?;
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
            blocked: outcome.blocked.into_iter().map(blocked_view).collect(),
        })
    }

    async fn recipes(&self) -> Result<Vec<views::RecipeSummary>> {
        let snapshots = self.snapshots().await?;
        let recipes = self.world.store.recipes();
        Ok(recipes.iter().map(|stored| self.summary(stored, snapshots.get(&stored.id))).collect())
    }

    async fn recipe(&self, id: &RecipeId) -> Result<views::RecipeView> {
        let stored = self.stored(id)?;
        let snapshot = self.snapshot(id).await;
        Ok(views::RecipeView {
            summary: self.summary(&stored, snapshot.as_ref()),
            text: stored.text().to_owned(),
            targets: self.targets_now(&stored, snapshot.as_ref()),
        })
    }

    async fn circuits(&self) -> Result<Vec<views::TargetView>> {
        let snapshots = self.snapshots().await?;
        let recipes = self.world.store.recipes();
        Ok(recipes.iter().flat_map(|stored| self.targets_now(stored, snapshots.get(&stored.id))).collect())
    }

    async fn order_circuit(
        &self,
        target: &TargetKey,
        order: views::CircuitOrder,
        by: &str,
    ) -> Result<views::TargetView> {
        self.order(target, order, by).await
    }

    async fn target(&self, target: &TargetKey) -> Result<views::TargetView> {
        self.target_now(target).await
    }

    async fn delete(&self, id: &RecipeId, abandon: bool, by: &str) -> Result<views::Deleted> {
        refuse_own("recipe", id.as_str())?;
        Ok(views::Deleted { id: id.to_string(), abandoned: self.operations.delete(id, abandon, by).await? })
    }

    async fn pause(&self, id: &RecipeId, by: &str) -> Result<views::RecipeView> {
        self.operations.pause(id, true, by).await?;
        self.recipe(id).await
    }

    async fn resume(&self, id: &RecipeId, by: &str) -> Result<views::RecipeView> {
        self.operations.pause(id, false, by).await?;
        self.recipe(id).await
    }

    async fn run(&self, id: &RecipeId, wait: bool, by: &str) -> Result<Vec<views::TargetRun>> {
        let view = |report: delivery::RunReport| views::TargetRun {
            target: report.target,
            delivered: report.delivered,
            failed: report.failed,
            backlog: report.waiting,
            last_error: report.error,
        };
        Ok(self.operations.run(id, wait, by).await?.into_iter().map(view).collect())
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

    async fn answer_ticket(&self, number: u64, answer: views::TicketAnswer, by: &str) -> Result<views::TicketView> {
        self.answer(number, answer, by).await?;
        self.ticket(number).await
    }

    async fn dead_letters(&self, wanted: &LettersWanted) -> Result<views::DeadLetterList> {
        let fits = |letter: &DeadLetter| {
            wanted.recipe.as_ref().is_none_or(|recipe| letter.key.recipe == *recipe)
                && wanted.target.as_ref().is_none_or(|target| letter.key.target == *target)
        };
        let (page, next) = self.world.store.dead_letters(wanted.from, wanted.limit, fits);
        let mut replaying = HashSet::new();
        for key in page.iter().map(|letter| &letter.key).collect::<HashSet<_>>() {
            replaying.extend(self.replaying(key).await.unwrap_or_default());
        }
        let view = |letter: DeadLetter| {
            let replaying = replaying.contains(&letter.number);
            letter_view(letter, replaying)
        };
        Ok(views::DeadLetterList { dead_letters: page.into_iter().map(view).collect(), next })
    }

    async fn dead_letter(&self, number: u64) -> Result<views::DeadLetterDetail> {
        let (letter, event) = self.letter(number).await?;
        let event = cloud_event(&event).map_err(|error| AdminError::internal(error.to_string()))?;
        let attempt = |note: &Note| views::AttemptView {
            at: Moment(note.at),
            kind: note.kind.clone(),
            error: note.error.clone(),
        };
        let history = letter.history.iter().map(attempt).collect();
        let replaying = self.replaying(&letter.key).await.is_some_and(|numbers| numbers.contains(&number));
        Ok(views::DeadLetterDetail { letter: letter_view(letter, replaying), event, history })
    }

    async fn replay(&self, number: u64, options: views::ReplayOptions, by: &str) -> Result<views::LetterOutcome> {
        self.replay_letter(number, options, by).await
    }

    async fn drop_letter(&self, number: u64, reason: String, by: &str) -> Result<views::LetterOutcome> {
        self.drop_dead_letter(number, &reason, by).await
    }

    async fn audit(&self, from: Option<u64>, limit: usize) -> Result<Bytes> {
        let first = self.world.store.audit_first();
        if from.is_some_and(|from| from < first) {
            return Err(moved_out(first));
        }
        let world = self.world.clone();
        let read = tokio::task::spawn_blocking(move || audit_lines(&world, from.unwrap_or(first), limit));
        read.await.map_err(|error| AdminError::internal(error.to_string()))?.map_err(failed)
    }

    async fn prune_audit(&self, order: views::PruneOrder, by: &str) -> Result<views::PrunedView> {
        self.prune(order.before, by).await
    }

    async fn checkpoint(&self) -> Result<String> {
        Ok(self.world.notary.current().await.map_err(failed)?.note.clone())
    }

    async fn inclusion(&self, leaf: u64, size: Option<u64>) -> Result<views::InclusionView> {
        let size = self.tree_size(size).await?;
        let proof = self.proof(move |notary| notary.inclusion(leaf, size)).await?;
        Ok(views::InclusionView { leaf, size, proof })
    }

    async fn consistency(&self, from: u64, to: Option<u64>) -> Result<views::ConsistencyView> {
        let to = self.tree_size(to).await?;
        let consistency = self.proof(move |notary| notary.consistency(from, to)).await?;
        Ok(views::ConsistencyView { from, to, consistency })
    }

    async fn audit_keys(&self) -> Result<String> {
        Ok(self.world.notary.keys())
    }

    async fn privacy_keys(&self) -> Result<Vec<views::PrivacyKeyView>> {
        self.keys_of_partners().await
    }

    async fn make_privacy_key(&self, order: views::PrivacyKeyOrder, by: &str) -> Result<views::PrivacyKeyView> {
        self.make_key(order, by).await
    }

    async fn privacy_token(&self, query: views::PrivacyTokenQuery, by: &str) -> Result<views::PrivacyTokenView> {
        self.token_of(query, by).await
    }

    async fn supervision(&self) -> Result<ActorView> {
        Ok(actor_view(self.root.send(Tree).await.map_err(stopping)?))
    }

    async fn metrics(&self) -> Result<String> {
        let mut targets = HashSet::new();
        for recipe in self.world.store.recipes() {
            self.world.metrics.watched(&recipe.id, "feed_reader");
            for target in recipe.targets.keys() {
                self.world.metrics.watched(&recipe.id, target.as_str());
                let key = TargetKey { recipe: recipe.id.clone(), target: target.clone() };
                self.world.metrics.set_backlog(&key, self.operations.waiting(&key));
                let circuit = self.world.store.circuit(&key);
                self.world.metrics.set_circuit(&key, circuit.state, circuit.opened_total);
                targets.insert(key);
            }
        }
        self.world.metrics.keep_only(&targets);
        let store = &self.world.store;
        self.world.metrics.set_open(store.tickets(Some(TicketState::Open)).len(), store.dead_letter_count());
        self.world.metrics.set_signed(self.world.notary.follow().borrow().checkpoint.size);
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
        reasons.extend(self.world.feeds.all_withheld().iter().map(|(feed, taken)| withheld(feed, *taken)));
        reasons.extend(self.world.settings().rules.governance.broken());
        for supervised in self.root.send(List).await.unwrap_or_default() {
            match supervised.state {
                State::Running | State::Stopping => {}
                State::NotAnswering => {
                    reasons.push(format!("the supervisor of recipe `{}` does not answer", supervised.id))
                }
                State::Restarting | State::Quarantined | State::Down => {
                    let why = supervised.last_panic.map(|panic| format!(": {}", panic.what)).unwrap_or_default();
                    reasons.push(format!("the supervisor of recipe `{}` is down{why}", supervised.id));
                }
            }
        }
        reasons
    }
}

impl Endpoint {
    pub fn new(world: Arc<World>, root: Addr<Root>, operations: Arc<Operations>, keyring: Arc<Keyring>) -> Self {
        Self { world, root, operations, keyring }
    }

    pub(super) fn stored(&self, id: &RecipeId) -> Result<StoredRecipe> {
        let stored = self.world.store.recipe(id);
        stored.ok_or_else(|| AdminError::not_found(format!("there is no recipe `{id}`")))
    }

    /// That of the last checkpoint, of which there is a new one if it does not reach so far.
    async fn tree_size(&self, wanted: Option<u64>) -> Result<u64> {
        let signed = self.world.notary.follow().borrow().checkpoint.size;
        match wanted {
            Some(size) if size <= signed => Ok(size),
            wanted => {
                let current = self.world.notary.current().await.map_err(failed)?.checkpoint.size;
                Ok(wanted.unwrap_or(current))
            }
        }
    }

    /// Proofs are read from the disk.
    async fn proof<F>(&self, prove: F) -> Result<Vec<String>>
    where
        F: FnOnce(&Notary) -> std::result::Result<Vec<Hash>, NoProof> + Send + 'static,
    {
        let notary = self.world.notary.clone();
        let made = tokio::task::spawn_blocking(move || prove(&notary)).await;
        match made.map_err(|error| AdminError::internal(error.to_string()))? {
            Ok(hashes) => Ok(hashes.iter().map(|hash| proof::base64(hash)).collect()),
            Err(NoProof::Beyond(why)) => Err(AdminError::not_found(why)),
            Err(NoProof::Failed(failure)) => Err(failed(failure)),
        }
    }

    async fn snapshots(&self) -> Result<HashMap<RecipeId, RecipeSnapshot>> {
        // Together: one that does not answer must not make the others wait.
        let all = self.root.send(List).await.map_err(stopping)?;
        let looks =
            all.into_iter().map(|supervised| async move { Some((supervised.id, look(&supervised.addr).await?)) });
        Ok(futures_util::future::join_all(looks).await.into_iter().flatten().collect())
    }

    pub(super) async fn snapshot(&self, id: &RecipeId) -> Option<RecipeSnapshot> {
        look(&self.operations.supervisor(id).await.ok()?).await
    }

    fn ticket_view(&self, mut ticket: Ticket) -> views::TicketView {
        if ticket.state == TicketState::Open {
            // What an open one holds up changes with every event.
            ticket.backlog = self.operations.waiting(&ticket.key);
        }
        ticket_view(ticket)
    }

    fn summary(&self, stored: &StoredRecipe, snapshot: Option<&RecipeSnapshot>) -> views::RecipeSummary {
        let parsed = self.world.current(stored).ok();
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

/// What the node keeps for itself is read like everything else, but not written by others.
fn refuse_own(what: &str, name: &str) -> Result<()> {
    if !recipe::own::is_own(name) {
        return Ok(());
    }
    Err(AdminError::conflict(format!(
        "{what} `{name}` is the node's own, as all names that begin with `hms.`: choose another name, or change what \
         the node does with it in hms.yaml (`ticket_webhook`)"
    )))
}

fn stopping(_: actix::MailboxError) -> AdminError {
    AdminError::unavailable("the node is stopping")
}
