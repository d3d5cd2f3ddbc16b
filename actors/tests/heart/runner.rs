//! Runs the heart in simulated time: a node in a world of fakes, and what is asked of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use hms_actors::node::{Apply, Find, Node};
use hms_actors::policy::circuit::CircuitSettings;
use hms_actors::ports::Schedule;
use hms_actors::runtime::Env;
use hms_actors::settings::{FileSettings, Lane, LineEnd, OnDeny, OnDoubt, RecipeSettings, TargetSettings, WriteMode};
use hms_actors::supervisor::{RecipeSnapshot, RecipeSupervisor, Snapshot};
use tokio::task::LocalSet;

use crate::fakes::{World, feed, key};

/// Runs a test where actors run, with a clock that jumps to the next timer.
pub fn simulated<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).on_thread_park(hms_actors::turns::idle).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// A world may be given to a factory that must be `Send`: everything runs on one thread here.
struct OneThread(Env);
#[allow(unsafe_code)]
// SAFETY: simulated tests have a single thread, the value never leaves it.
unsafe impl Send for OneThread {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for OneThread {}

impl OneThread {
    fn env(&self) -> Rc<Env> {
        Rc::new(self.0.clone())
    }
}

pub fn start(world: &World) -> Addr<Node> {
    let env = OneThread(world.env.clone());
    Node::new(Arc::new(move || env.env()), Vec::new()).start()
}

pub fn recipe(schedule: Schedule, lane: Lane) -> RecipeSettings {
    let target = TargetSettings {
        name: key().target,
        revision: 1,
        retries: 3,
        circuit: CircuitSettings::default(),
        rate: None,
        patience: Duration::from_secs(120),
        on_deny: OnDeny::Hold,
        lane,
    };
    RecipeSettings {
        id: key().recipe,
        revision: 1,
        feed: feed(),
        schedule,
        targets: vec![target.into()],
        paused: false,
    }
}

/// To be changed before it is applied.
pub fn target(settings: &mut RecipeSettings, at: usize) -> &mut TargetSettings {
    Arc::make_mut(&mut settings.targets[at])
}

pub const REQUESTS: Lane = Lane::Requests { concurrency: 4, max_events: 1 };

pub fn files() -> Lane {
    Lane::Files(FileSettings { write: WriteMode::Append, on_doubt: OnDoubt::Hold, line_end: LineEnd::Lf })
}

pub async fn apply(node: &Addr<Node>, settings: RecipeSettings) -> Addr<RecipeSupervisor> {
    let id = settings.id.clone();
    node.send(Apply { settings, frontier: 0 }).await.unwrap();
    node.send(Find(id)).await.unwrap().unwrap()
}

pub async fn look(supervisor: &Addr<RecipeSupervisor>) -> RecipeSnapshot {
    supervisor.send(Snapshot).await.unwrap().unwrap()
}

pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
