//! The root of the tree: one supervisor per recipe, each on an arbiter of its own choosing, and a new one
//! when one dies.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};

use crate::delivery::Panic;
use crate::guard::{DeathNotice, Ping};
use crate::id::{Offset, RecipeId, Timestamp};
use crate::policy::restarts::Verdict;
use crate::ports::Clock;
use crate::runtime::MakeEnv;
use crate::settings::RecipeSettings;
use crate::supervisor::watch::{ROUND, Round, Watch};
use crate::supervisor::{ActorSnapshot, Branch, Drain, Kind, RecipeSupervisor, Reconfigure, Reload, State};

/// So many supervisors are asked at once whether they live: what that takes is not to grow with their number.
const AT_ONCE: usize = 256;

/// A round goes on with the next of them after this pause.
const PAUSE: Duration = Duration::from_millis(5);

/// A supervisor that has not described itself after this long is shown as not answering.
const LOOK: Duration = Duration::from_secs(2);

pub struct Node {
    env: MakeEnv,
    clock: Option<Rc<dyn Clock>>,
    /// Without any, supervisors run where the node runs.
    arbiters: Vec<ArbiterHandle>,
    /// Boxed: nodes of the map have room that nobody fills.
    recipes: BTreeMap<RecipeId, Box<Child>>,
    generations: u64,
}

struct Child {
    settings: Arc<RecipeSettings>,
    /// Everything below it is released; its supervisor says so.
    released: Arc<AtomicU64>,
    addr: Addr<RecipeSupervisor>,
    alive: bool,
    watch: Watch,
}

impl Node {
    pub fn new(env: MakeEnv, arbiters: Vec<ArbiterHandle>) -> Self {
        Self { env, clock: None, arbiters, recipes: BTreeMap::new(), generations: 0 }
    }

    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// The factory of supervisors.
    fn start_supervisor(
        &self,
        ctx: &Context<Self>,
        settings: Arc<RecipeSettings>,
        released: Arc<AtomicU64>,
        generation: u64,
    ) -> Addr<RecipeSupervisor> {
        let (node, env, id) = (ctx.address().downgrade(), self.env.clone(), settings.id.clone());
        let make = move || {
            let notice = DeathNotice::new(move |why| {
                if let Some(node) = node.upgrade() {
                    node.do_send(Died { id, generation, why });
                }
            });
            RecipeSupervisor::new(settings, env(), released, notice)
        };
        match self.arbiter(generation) {
            Some(arbiter) => RecipeSupervisor::start_in_arbiter(&arbiter, move |_| make()),
            None => make().start(),
        }
    }

    /// Starts the supervisor again that died and has not been started since.
    fn start_again(&mut self, ctx: &Context<Self>, id: &RecipeId, between: u64) {
        let generation = self.next_generation();
        let Some(child) = self.recipes.get(id).filter(|child| child.watch.generation == between) else { return };
        let addr = self.start_supervisor(ctx, child.settings.clone(), child.released.clone(), generation);
        if let Some(child) = self.recipes.get_mut(id) {
            (child.addr, child.alive) = (addr, true);
            child.watch.started(generation);
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(Timestamp::default(), |clock| clock.now())
    }

    fn arbiter(&self, generation: u64) -> Option<ArbiterHandle> {
        let mut hasher = DefaultHasher::new();
        generation.hash(&mut hasher);
        let count = self.arbiters.len().max(1) as u64;
        self.arbiters.get((hasher.finish() % count) as usize).cloned()
    }
}

impl Actor for Node {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.clock = Some((self.env)().clock.clone());
        ctx.run_later(ROUND, |node, ctx| node.round(ctx, None));
    }
}

/// Starts a recipe, or gives a running one new settings. `frontier` counts only for a start.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Apply {
    pub settings: RecipeSettings,
    pub frontier: Offset,
}

impl Handler<Apply> for Node {
    type Result = ();

    fn handle(&mut self, Apply { settings, frontier }: Apply, ctx: &mut Self::Context) {
        let settings = Arc::new(settings);
        if let Some(child) = self.recipes.get_mut(&settings.id) {
            let (id, between) = (settings.id.clone(), child.watch.generation);
            child.settings = settings.clone();
            if child.alive {
                child.addr.do_send(Reconfigure(settings));
            } else {
                // Perhaps this mends it.
                self.start_again(ctx, &id, between);
            }
            return;
        }
        let (generation, released) = (self.next_generation(), Arc::new(AtomicU64::new(frontier)));
        let addr = self.start_supervisor(ctx, settings.clone(), released.clone(), generation);
        let mut watch = Watch::default();
        watch.started(generation);
        let id = settings.id.clone();
        self.recipes.insert(id, Box::new(Child { settings, released, addr, alive: true, watch }));
    }
}

/// Ends a recipe; answered when what was in flight has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Remove(pub RecipeId);

impl Handler<Remove> for Node {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, Remove(id): Remove, _: &mut Self::Context) -> Self::Result {
        let drained = self.recipes.remove(&id).map(|child| child.addr.send(Drain));
        Box::pin(async move {
            if let Some(drained) = drained {
                let _ = drained.await;
            }
        })
    }
}

/// The supervisor of a recipe.
#[derive(Message)]
#[rtype(result = "Option<Addr<RecipeSupervisor>>")]
pub struct Find(pub RecipeId);

impl Handler<Find> for Node {
    type Result = Option<Addr<RecipeSupervisor>>;
    fn handle(&mut self, Find(id): Find, _: &mut Self::Context) -> Self::Result {
        self.recipes.get(&id).map(|child| child.addr.clone())
    }
}

/// Every recipe with its supervisor and how that is.
#[derive(Message)]
#[rtype(result = "Vec<Supervised>")]
pub struct List;

pub struct Supervised {
    pub id: RecipeId,
    pub addr: Addr<RecipeSupervisor>,
    pub state: State,
    pub restarts: u64,
    pub last_panic: Option<Panic>,
}

impl Handler<List> for Node {
    type Result = Vec<Supervised>;
    fn handle(&mut self, _: List, _: &mut Self::Context) -> Self::Result {
        let supervised = self.recipes.iter().map(|(id, child)| Supervised {
            id: id.clone(),
            addr: child.addr.clone(),
            state: child.state(),
            restarts: child.watch.restarts(),
            last_panic: child.watch.last_panic().cloned(),
        });
        supervised.collect()
    }
}

/// Ends everything, after what is in flight has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl Handler<Shutdown> for Node {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        let children = std::mem::take(&mut self.recipes);
        let drained = children.into_values().map(|child| child.addr.send(Drain));
        Box::pin(async move {
            futures_util::future::join_all(drained).await;
        })
    }
}

/// Configuration that is read at the start of deliveries has changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReloadAll;

impl Handler<ReloadAll> for Node {
    type Result = ();
    fn handle(&mut self, _: ReloadAll, ctx: &mut Self::Context) {
        let mut dead = Vec::new();
        for (id, child) in &self.recipes {
            if child.alive {
                child.addr.do_send(Reload(self.env.clone()));
            } else {
                dead.push((id.clone(), child.watch.generation));
            }
        }
        for (id, between) in dead {
            self.start_again(ctx, &id, between);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Died {
    id: RecipeId,
    generation: u64,
    why: Option<String>,
}

impl Handler<Died> for Node {
    type Result = ();

    fn handle(&mut self, Died { id, generation, why }: Died, ctx: &mut Self::Context) {
        let (now, between) = (self.now(), self.next_generation());
        let Some(child) = self.recipes.get_mut(&id).filter(|child| child.watch.generation == generation) else {
            return;
        };
        child.alive = false;
        let verdict = child.watch.died(between, why, now);
        tracing::error!(recipe = %id, why = child.watch.last_words(), ?verdict, "a recipe's supervisor died");
        // There is nobody above who could do better: it is tried for ever, in the end once an hour.
        let (Verdict::Restart(wait) | Verdict::Quarantine(wait)) = verdict;
        ctx.run_later(wait, move |node, ctx| node.start_again(ctx, &id, between));
    }
}

/// Whoever does not answer is said to be so; the arbiter that holds it up can't be ended from here.
impl Node {
    /// One round, from the one behind `last` on.
    fn round(&mut self, ctx: &mut Context<Self>, last: Option<RecipeId>) {
        let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut asked, mut last) = (Vec::new(), None);
        for (n, (id, child)) in
            self.recipes.range_mut::<RecipeId, _>((from, Bound::Unbounded)).enumerate().take(AT_ONCE)
        {
            if n + 1 == AT_ONCE {
                last = Some(id.clone());
            }
            if !child.alive {
                continue;
            }
            let was_silent = child.watch.is_silent();
            match child.watch.round() {
                Round::Ask => asked.push((id.clone(), child.watch.generation, child.addr.send(Ping))),
                Round::Silent if !was_silent => tracing::error!(recipe = %id, "its supervisor does not answer"),
                Round::Silent | Round::Wait => {}
            }
        }
        let next = if last.is_some() { PAUSE } else { ROUND };
        ctx.run_later(next, |node, ctx| node.round(ctx, last));
        for (id, generation, answer) in asked {
            ctx.spawn(answer.into_actor(self).map(move |answer, node, _| {
                let child = node.recipes.get_mut(&id).filter(|child| child.watch.generation == generation);
                if let (Some(child), Ok(_)) = (child, answer) {
                    child.watch.answered();
                }
            }));
        }
    }
}

/// Who watches whom, all of it. A supervisor that does not answer in time is shown without its children.
#[derive(Message)]
#[rtype(result = "ActorSnapshot")]
pub struct Tree;

impl Handler<Tree> for Node {
    type Result = ResponseFuture<ActorSnapshot>;

    fn handle(&mut self, _: Tree, _: &mut Self::Context) -> Self::Result {
        let recipes = self.recipes.iter().map(|(id, child)| look(child.as_actor(id), child.addr.clone()));
        let recipes: Vec<_> = recipes.collect();
        Box::pin(async move {
            let children = futures_util::future::join_all(recipes).await;
            ActorSnapshot { children, ..ActorSnapshot::new("node", Kind::Node, State::Running) }
        })
    }
}

async fn look(mut snapshot: ActorSnapshot, addr: Addr<RecipeSupervisor>) -> ActorSnapshot {
    if matches!(snapshot.state, State::Running | State::NotAnswering) {
        match tokio::time::timeout(LOOK, addr.send(Branch)).await {
            Ok(Ok(children)) => (snapshot.children, snapshot.state) = (children, State::Running),
            Ok(Err(_)) => snapshot.state = State::Restarting,
            Err(_) => snapshot.state = State::NotAnswering,
        }
    }
    snapshot
}

impl Child {
    fn state(&self) -> State {
        match () {
            () if self.alive && self.watch.is_silent() => State::NotAnswering,
            () if self.alive => State::Running,
            () if self.watch.revived_at().is_some() => State::Down,
            () => State::Restarting,
        }
    }

    fn as_actor(&self, id: &RecipeId) -> ActorSnapshot {
        ActorSnapshot {
            restarts: self.watch.restarts(),
            last_panic: self.watch.last_panic().cloned(),
            revived_at: self.watch.revived_at(),
            ..ActorSnapshot::new(id.as_str(), Kind::RecipeSupervisor, self.state())
        }
    }
}
