//! The root of the tree: one supervisor per recipe, each on an arbiter of its own choosing, and a new one
//! when one dies.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::time::Instant;

use crate::guard::DeathNotice;
use crate::id::{Offset, RecipeId};
use crate::policy::restarts::Restarts;
use crate::runtime::MakeEnv;
use crate::settings::RecipeSettings;
use crate::supervisor::{Drain, RecipeSupervisor, Reconfigure, Reload};

pub struct Node {
    env: MakeEnv,
    /// Without any, supervisors run where the node runs.
    arbiters: Vec<ArbiterHandle>,
    recipes: BTreeMap<RecipeId, Child>,
    generations: u64,
}

struct Child {
    settings: RecipeSettings,
    frontier: Offset,
    addr: Addr<RecipeSupervisor>,
    generation: u64,
    restarts: Restarts,
}

impl Node {
    pub fn new(env: MakeEnv, arbiters: Vec<ArbiterHandle>) -> Self {
        Self { env, arbiters, recipes: BTreeMap::new(), generations: 0 }
    }

    /// The factory of supervisors.
    fn start_supervisor(
        &mut self,
        ctx: &Context<Self>,
        settings: RecipeSettings,
        frontier: Offset,
    ) -> (Addr<RecipeSupervisor>, u64) {
        self.generations += 1;
        let (generation, node, env, id) = (self.generations, ctx.address(), self.env.clone(), settings.id.clone());
        let make = move || {
            let notice = DeathNotice::new(move |_| node.do_send(Died { id, generation }));
            RecipeSupervisor::new(settings, env(), frontier, notice)
        };
        let addr = match self.arbiter(generation) {
            Some(arbiter) => RecipeSupervisor::start_in_arbiter(&arbiter, move |_| make()),
            None => make().start(),
        };
        (addr, generation)
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
        if let Some(child) = self.recipes.get_mut(&settings.id) {
            child.settings = settings.clone();
            child.addr.do_send(Reconfigure(settings));
            return;
        }
        let (addr, generation) = self.start_supervisor(ctx, settings.clone(), frontier);
        let child = Child { settings: settings.clone(), frontier, addr, generation, restarts: Restarts::default() };
        self.recipes.insert(settings.id, child);
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

/// Every recipe with its supervisor and how often that was started again.
#[derive(Message)]
#[rtype(result = "Vec<Supervised>")]
pub struct List;

pub struct Supervised {
    pub id: RecipeId,
    pub addr: Addr<RecipeSupervisor>,
    pub restarts: u64,
}

impl Handler<List> for Node {
    type Result = Vec<Supervised>;
    fn handle(&mut self, _: List, _: &mut Self::Context) -> Self::Result {
        let supervised = |(id, child): (&RecipeId, &Child)| Supervised {
            id: id.clone(),
            addr: child.addr.clone(),
            restarts: child.restarts.total(),
        };
        self.recipes.iter().map(supervised).collect()
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
    fn handle(&mut self, _: ReloadAll, _: &mut Self::Context) {
        for child in self.recipes.values() {
            child.addr.do_send(Reload(self.env.clone()));
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Died {
    id: RecipeId,
    generation: u64,
}

impl Handler<Died> for Node {
    type Result = ();

    fn handle(&mut self, Died { id, generation }: Died, ctx: &mut Self::Context) {
        let Some(child) = self.recipes.get_mut(&id).filter(|child| child.generation == generation) else { return };
        let wait = child.restarts.died(Instant::now());
        tracing::error!(recipe = %id, ?wait, "a recipe's supervisor died; it is started again");
        ctx.run_later(wait, move |node, ctx| {
            let Some(child) = node.recipes.get(&id).filter(|child| child.generation == generation) else { return };
            let (settings, frontier) = (child.settings.clone(), child.frontier);
            let (addr, generation) = node.start_supervisor(ctx, settings, frontier);
            if let Some(child) = node.recipes.get_mut(&id) {
                child.addr = addr;
                child.generation = generation;
            }
        });
    }
}
