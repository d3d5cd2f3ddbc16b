//! What an operator can do to recipes: apply, pause, resume, delete, run. Each change is one audit record,
//! on disk to stay before the actors hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use hms_actors::delivery::RunReport;
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::node::{Apply, Find, Node as Root, ReloadAll};
use hms_actors::ports::{Clock, EventLog};
use hms_actors::supervisor::{RecipeSupervisor, Retire, RunNow};
use tokio::sync::Mutex;

use super::begun::{Begun, withheld};
use super::governing::BlockedTarget;
use super::notes;
use super::world::World;
use crate::recipe::meeting::Places;
use crate::recipe::model::{Adapter, From, Recipe, Target};
use crate::recipe::{self, Diagnostics, heart, schedule};
use crate::store::{Applied, AppliedTarget, Change, RecipeChange, StoredRecipe as Stored};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("the recipe is not valid:\n{0}")]
    Invalid(Diagnostics),
    /// `counts`: target → events that wait.
    #[error("{why}")]
    Conflict { why: String, counts: BTreeMap<String, u64> },
    /// Policies block every event of a target.
    #[error("{why}")]
    Blocked { why: String, blocked: Vec<BlockedTarget> },
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl Refused {
    pub(super) fn conflict(why: impl Into<String>) -> Self {
        Self::Conflict { why: why.into(), counts: BTreeMap::new() }
    }
}

/// What an apply did, or would do.
#[derive(Debug)]
pub struct Outcome {
    pub revision: Revision,
    pub changed: bool,
    pub paused: bool,
    pub diff: String,
    pub next_run_in: Option<Duration>,
    pub warnings: Vec<String>,
    /// What policies would block of it.
    pub blocked: Vec<BlockedTarget>,
}

/// How a recipe is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    pub dry_run: bool,
    pub abandon: bool,
}

/// The recipes of a node. Changes are made one at a time.
pub struct Operations {
    pub(super) world: Arc<World>,
    root: Addr<Root>,
    /// Held by who changes something; where all targets write.
    pub(super) one_at_a_time: Mutex<Places>,
}

impl Operations {
    pub(super) fn new(world: Arc<World>, root: Addr<Root>) -> Self {
        Self { world, root, one_at_a_time: Mutex::default() }
    }

    pub async fn apply(self: &Arc<Self>, id: &RecipeId, text: &str, how: How, by: &str) -> Result<Outcome, Refused> {
        let (operations, id, text, by) = (self.clone(), id.clone(), text.to_owned(), by.to_owned());
        to_the_end(async move { operations.carry_out_apply(&id, &text, how, &by).await }).await
    }

    async fn carry_out_apply(&self, id: &RecipeId, text: &str, how: How, by: &str) -> Result<Outcome, Refused> {
        let new = recipe::parse(&format!("{id}.yaml"), text).map_err(Refused::Invalid)?;
        if new.id != *id {
            return Err(Refused::BadRequest(format!("the recipe's id is `{}`, the address says `{id}`", new.id)));
        }
        let mut places = self.one_at_a_time.lock().await;
        let stored = self.world.store.recipe(id);
        let current = stored.as_ref().map(parse_stored).transpose()?;
        let diff = current.as_ref().map(|current| recipe::diff(current, &new));
        if let Some(why) = diff.as_ref().and_then(|diff| diff.refused.first()) {
            return Err(Refused::conflict(why));
        }
        if stored.is_none() {
            self.check_feed(&new.source.feed)?;
        }
        self.check_targets(&places, current.as_ref(), &new)?;
        let blocked = self.check_policies(&new)?;
        let zone = self.world.settings().config.timezone;
        let revision = self.world.store.next_revision(id);
        let waits = self.world.feeds.withheld(&new.source.feed).map(|to| withheld(&new.source.feed, to));
        let outcome = |changed: bool| Outcome {
            revision: if changed { revision } else { revision - 1 },
            changed,
            paused: stored.as_ref().is_some_and(|stored| stored.paused),
            diff: diff
                .as_ref()
                .map_or_else(|| format!("a new recipe with {} targets", new.targets.len()), ToString::to_string),
            next_run_in: schedule::next_run(&schedule::to_heart(&new.schedule, zone), self.now()),
            warnings: if stored.is_none() { self.warnings(&new) } else { waits.iter().cloned().collect() },
            blocked: blocked.clone(),
        };
        if current.as_ref() == Some(&new) {
            if !how.dry_run {
                self.let_feed_go_on(&new.source.feed).await;
                // Whatever became of an earlier change: what is stored is what runs.
                self.start(id).await?;
            }
            return Ok(outcome(false));
        }
        let removed: Vec<TargetName> = diff.iter().flat_map(|diff| diff.removed().cloned()).collect();
        let backlog = self.check_backlog(id, &removed, how.abandon);
        if how.dry_run {
            let mut outcome = outcome(true);
            outcome.warnings.extend(backlog.err().map(|refused| refused.to_string()));
            return Ok(outcome);
        }
        backlog?;
        self.let_feed_go_on(&new.source.feed).await;
        let renamed = new.targets.iter().filter_map(|target| target.renamed_from.clone());
        self.retire(id, removed.iter().cloned().chain(renamed).collect()).await?;
        if let Err(refused) = self.check_backlog(id, &removed, how.abandon) {
            self.start(id).await?;
            return Err(refused);
        }
        let kept = |target: &Target| {
            let same = diff.as_ref().is_some_and(|diff| !diff.restarts(&target.name));
            stored.as_ref()?.targets.get(&target.name).filter(|_| same).map(|target| target.revision)
        };
        let applied = self.record_applied(&new, stored.as_ref(), &kept, &removed, by).await;
        self.note_places(&mut places, id);
        // Also after a failure: what was ended for the change goes on.
        if applied.is_ok() || stored.is_some() {
            self.start(id).await?;
        }
        applied.map(|()| outcome(true))
    }

    async fn record_applied(
        &self,
        new: &Recipe,
        stored: Option<&Stored>,
        kept: &impl Fn(&Target) -> Option<Revision>,
        removed: &[TargetName],
        by: &str,
    ) -> Result<(), Refused> {
        let (id, feed) = (&new.id, &new.source.feed);
        for target in removed {
            self.abandon(&TargetKey { recipe: id.clone(), target: target.clone() }).await?;
        }
        let revision = self.world.store.next_revision(id);
        // A new recipe starts where `from` says, a target that is added later at the head.
        let from = if stored.is_none() { &new.source.from } else { &From::Now };
        let start = self.offset_of(feed, from)?;
        let target = |target: &Target| AppliedTarget {
            target: target.name.clone(),
            revision: kept(target).unwrap_or(revision),
            start,
            renamed_from: target.renamed_from.clone(),
        };
        let targets = new.targets.iter().map(target).collect();
        let applied = Applied { revision, feed: feed.clone(), text: new.text.clone(), targets };
        self.record(id, Change::Applied(applied), by).await?;
        // New names before old ones go: what they need is never nobody's.
        self.register_readers(&self.stored(id)?);
        let gone = |name: &&TargetName| !new.targets.iter().any(|target| target.name == **name);
        for target in stored.iter().flat_map(|stored| stored.targets.keys()).filter(gone) {
            self.world.feeds.remove_reader(feed, &reader(id, target));
        }
        Ok(())
    }

    /// Ends the deliveries of targets that are about to be removed or renamed.
    async fn retire(&self, id: &RecipeId, targets: Vec<TargetName>) -> Result<(), Refused> {
        if !targets.is_empty() && self.world.store.recipe(id).is_some() {
            let supervisor = self.supervisor(id).await?;
            supervisor.send(Retire(targets)).await.map_err(|_| restarting(id))?;
        }
        Ok(())
    }

    pub async fn pause(self: &Arc<Self>, id: &RecipeId, paused: bool, by: &str) -> Result<(), Refused> {
        let (operations, id, by) = (self.clone(), id.clone(), by.to_owned());
        to_the_end(async move {
            let _guard = operations.one_at_a_time.lock().await;
            let stored = operations.stored(&id)?;
            operations.check_feed(&stored.feed)?;
            if stored.paused != paused {
                operations.record(&id, if paused { Change::Paused } else { Change::Resumed }, &by).await?;
            }
            operations.start(&id).await
        })
        .await
    }

    /// Makes all deliveries anew, and starts what is not running: at the start of the node, and after a reload.
    /// A recipe that can't be started, or that waits for a human, does not keep the others from it.
    pub(super) async fn start_all(&self) {
        let mut places = self.one_at_a_time.lock().await;
        let _ = self.root.send(ReloadAll).await;
        let recipes = self.world.store.recipes();
        recipes.iter().for_each(|stored| self.note_places(&mut places, &stored.id));
        for (stored, begun) in self.compare_with_feeds(recipes).await {
            let started = match begun {
                Ok(begun) => self.start_with(&stored, &begun).await,
                Err(refused) => Err(refused),
            };
            if let Err(error) = started {
                tracing::error!(recipe = %stored.id, "the recipe is not started: {error}");
            }
        }
    }

    /// Delivers now; the reports come when what waits has been tried, or nothing comes with `wait` false.
    pub async fn run(&self, id: &RecipeId, wait: bool, by: &str) -> Result<Vec<RunReport>, Refused> {
        let stored = self.stored(id)?;
        self.check_feed(&stored.feed)?;
        if stored.paused {
            return Err(Refused::conflict(format!("recipe `{id}` is paused: resume it first")));
        }
        let supervisor = self.supervisor(id).await?;
        let details = BTreeMap::from([("recipe".to_owned(), id.to_string())]);
        self.world.store.operator("run_recipe", by, details).await?;
        if !wait {
            supervisor.do_send(RunNow);
            return Ok(Vec::new());
        }
        supervisor.send(RunNow).await.map_err(|_| Refused::Failed(restarting(id)))
    }

    pub(super) async fn supervisor(&self, id: &RecipeId) -> Result<Addr<RecipeSupervisor>, Refused> {
        let found = self.root.send(Find(id.clone())).await.map_err(|_| Failure::node("the node is stopping"))?;
        found.ok_or_else(|| Refused::NotFound(format!("recipe `{id}`")))
    }

    /// Hands a recipe, as the store has it, to the actors.
    pub(super) async fn start(&self, id: &RecipeId) -> Result<(), Refused> {
        let stored = self.stored(id)?;
        let begun = self.begun(&stored).await?;
        self.register_readers(&stored);
        self.start_with(&stored, &begun).await
    }

    async fn start_with(&self, stored: &Stored, begun: &[Begun]) -> Result<(), Refused> {
        self.check_feed(&stored.feed)?;
        let recipe = parse_stored(stored)?;
        let revisions = stored.targets.iter().map(|(name, target)| (name.clone(), target.revision)).collect();
        let zone = self.world.settings().config.timezone;
        let settings = heart::settings(&recipe, stored.revision, &revisions, stored.paused, zone);
        self.keep_begun(stored, begun);
        self.settle_lost(stored).await?;
        self.tell(Apply { settings, frontier: self.frontier(stored, begun) }).await
    }

    pub(super) fn register_readers(&self, stored: &Stored) {
        for target in stored.targets.keys() {
            let below = self.below(&TargetKey { recipe: stored.id.clone(), target: target.clone() });
            self.world.feeds.register_reader(&stored.feed, &reader(&stored.id, target), below);
        }
    }

    fn below(&self, key: &TargetKey) -> Offset {
        self.world.store.settled(key).map_or(0, |settled| settled.below())
    }

    /// What runs have released. A kill may have lost the latest: where something is begun, a run was under way, and
    /// all that waits goes.
    fn frontier(&self, stored: &Stored, begun: &[Begun]) -> Offset {
        let head = self.head(&stored.feed);
        if !begun.is_empty() {
            return head;
        }
        let below = |target| self.below(&TargetKey { recipe: stored.id.clone(), target });
        let oldest = || stored.targets.keys().cloned().map(below).min().map_or(head, |oldest| oldest.min(head));
        self.world.store.frontier(&stored.id).unwrap_or_else(oldest)
    }

    pub(super) async fn tell<M>(&self, message: M) -> Result<(), Refused>
    where
        M: actix::Message<Result = ()> + Send + 'static,
        Root: actix::Handler<M>,
    {
        Ok(self.root.send(message).await.map_err(|_| Failure::node("the node is stopping"))?)
    }

    pub(super) async fn record(&self, id: &RecipeId, change: Change, by: &str) -> Result<(), Refused> {
        let change = RecipeChange { recipe: id.clone(), by: by.to_owned(), change };
        Ok(self.world.store.recipe_changed(change).await?)
    }

    pub(super) fn stored(&self, id: &RecipeId) -> Result<Stored, Refused> {
        self.world.store.recipe(id).ok_or_else(|| Refused::NotFound(format!("recipe `{id}`")))
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    pub(super) fn head(&self, feed: &FeedName) -> Offset {
        let withheld = self.world.feeds.withheld(feed).unwrap_or_default();
        self.world.feeds.head(feed).get().max(withheld)
    }

    /// What the operator may not have meant.
    fn warnings(&self, new: &Recipe) -> Vec<String> {
        let head = self.head(&new.source.feed);
        let oldest = self.world.feeds.oldest(&new.source.feed);
        match &new.source.from {
            From::Offset(offset) if *offset > head => {
                vec![format!("`from: {offset}` is past the head of the feed: it starts at {head}")]
            }
            From::Offset(offset) if *offset < oldest => {
                vec![format!("`from: {offset}`: the oldest event that is kept is {oldest}, it starts there")]
            }
            From::Time(time) if time.timestamp_millis() > self.now().0 => {
                vec![format!("`from: {time}` has not come yet: it starts at the head of the feed, {head}")]
            }
            _ => Vec::new(),
        }
    }

    fn offset_of(&self, feed: &FeedName, from: &From) -> Result<Offset, Failure> {
        let head = self.head(feed);
        Ok(match from {
            From::Now => head,
            // What retention has removed can be waited for in vain only.
            From::Beginning => self.world.feeds.oldest(feed),
            From::Offset(offset) => (*offset).clamp(self.world.feeds.oldest(feed), head),
            From::Time(time) => self.world.feeds.offset_at(feed, Timestamp(time.timestamp_millis()))?,
        })
    }

    /// What policies would block of the recipe; refused where that is all that a target would ever get.
    fn check_policies(&self, new: &Recipe) -> Result<Vec<BlockedTarget>, Refused> {
        let blocked = self.world.settings().rules.blocked(new, None)?;
        let all: Vec<String> = blocked.iter().filter(|one| one.every_event).map(ToString::to_string).collect();
        if all.is_empty() { Ok(blocked) } else { Err(Refused::Blocked { why: all.join("\n"), blocked }) }
    }

    /// Where the targets of a recipe write, as the store has it now.
    pub(super) fn note_places(&self, places: &mut Places, id: &RecipeId) {
        match self.world.store.recipe(id).and_then(|stored| parse_stored(&stored).ok()) {
            Some(recipe) => places.put(&recipe),
            None => places.remove(id),
        }
    }

    /// What the recipe alone can't tell: two targets of a node never write to one file, none leads where the node
    /// connects to nothing, and a target that is served in another way is another target.
    fn check_targets(&self, places: &Places, current: Option<&Recipe>, new: &Recipe) -> Result<(), Refused> {
        if let Some(meeting) = places.find(new) {
            return Err(Refused::conflict(meeting.to_string()));
        }
        let settings = self.world.settings();
        for target in &new.targets {
            if let Some(refused) = notes::refused(&settings.egress, &settings.config.connect_to, target) {
                return Err(Refused::conflict(format!("target `{}`: {refused}", target.name)));
            }
        }
        let takes_requests = |target: &Target| matches!(target.adapter, Adapter::Rest(_));
        for target in &new.targets {
            let before = target.renamed_from.as_ref().unwrap_or(&target.name);
            let old = current.iter().flat_map(|recipe| &recipe.targets).find(|old| old.name == *before);
            if old.is_some_and(|old| takes_requests(old) != takes_requests(target)) {
                return Err(Refused::conflict(format!(
                    "target `{}` can't turn from requests to files or back: what was begun could not be finished. \
                     Give it another name",
                    target.name
                )));
            }
        }
        Ok(())
    }
}

/// Carries an operation out to its end, also if whoever asked for it goes away in the middle.
pub(super) async fn to_the_end<T: 'static>(
    operation: impl Future<Output = Result<T, Refused>> + 'static,
) -> Result<T, Refused> {
    let done = actix_rt::spawn(operation).await;
    done.unwrap_or_else(|error| Err(Refused::Failed(Failure::node(format!("the operation broke off: {error}")))))
}

/// It has the very names that the store has: what is made of it is kept for long, and a name once.
fn parse_stored(stored: &Stored) -> Result<Recipe, Failure> {
    let invalid = |errors| Failure::node(format!("the stored text of recipe `{}` is not valid: {errors}", stored.id));
    let mut recipe = recipe::parse(stored.id.as_str(), stored.text()).map_err(invalid)?;
    (recipe.id, recipe.source.feed) = (stored.id.clone(), stored.feed.clone());
    for target in &mut recipe.targets {
        if let Some(name) = stored.targets.keys().find(|name| **name == target.name) {
            target.name = name.clone();
        }
    }
    Ok(recipe)
}

/// The name under which a target's position is known to its feed.
pub(super) fn reader(recipe: &RecipeId, target: &TargetName) -> String {
    format!("{recipe}/{target}")
}

fn restarting(id: &RecipeId) -> Failure {
    Failure::node(format!("the supervisor of recipe `{id}` is being started again: try once more"))
}
