//! The wiring: the only place that names concrete parts together. A node is its store, its feeds, its actors
//! and its admin endpoint; it starts in that order and stops in the opposite one.

mod anchors;
mod begun;
#[cfg(test)]
mod canaries;
mod endpoint;
mod governing;
mod keyring;
mod letters;
mod lost;
mod notes;
mod operations;
mod previews;
mod privacy;
mod pruning;
pub(crate) mod publish;
mod removal;
mod shapes;
mod steering;
mod targets;
mod webhook;
mod world;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use hms_actors::node::{List, Node as Root, Shutdown};
use hms_actors::ports::Clock;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin;
use crate::config::{NodeConfig, TlsFiles};
use crate::feeds::{self, FeedLog};
use crate::metrics::Metrics;
use crate::secrets::AUDIT_SIGNING_KEY;
use crate::store::{Notary, Pace, Store};
use endpoint::Endpoint;
use keyring::Keyring;
use operations::{Operations, reader};
use webhook::Webhook;
use world::{Reloaded, SystemClock, World};

pub use governing::{BlockedTarget, blocked};
pub use previews::{TargetPreview, preview};

/// How long deliveries in flight may take to end when the node stops.
const DRAIN: Duration = Duration::from_secs(20);

/// How long requests under way may take to end.
const REQUESTS: Duration = Duration::from_secs(5);

/// How often the feeds are told how far readers have come.
const ADVANCE: Duration = Duration::from_secs(2);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Part(String),
}

impl StartError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self::Part(error.to_string())
    }
}

/// A running node.
pub struct Node {
    world: Arc<World>,
    root: Addr<Root>,
    arbiters: Vec<Arbiter>,
    server: admin::Server,
    tls: Option<Arc<admin::Tls>>,
    operations: Arc<Operations>,
    webhook: Arc<Webhook>,
    housekeeping: JoinHandle<()>,
    following: JoinHandle<()>,
    anchors: Vec<JoinHandle<()>>,
}

impl Node {
    /// Must be called within an actix system.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        hms_actors::guard::remember_panics();
        let clock = Arc::new(SystemClock);
        let (listen, limits) = (config.listen, config.limits);
        let own = Arc::new(OnceLock::new());
        let (insecure, data_dir, tls) = (config.insecure_loopback, config.data_dir.clone(), config.tls.clone());
        let approved_only = config.fips;
        let settings = Reloaded::new(config.clone(), &clock, own.clone()).map_err(StartError::of)?;
        let key = settings.secrets.own(AUDIT_SIGNING_KEY).map_err(StartError::of)?;
        let (store, notary, feeds) = open_stores(config, clock.clone(), key).await?;
        let keyring = Arc::new(Keyring::open(&data_dir).map_err(StartError::of)?);
        let world = World::new((store, notary), feeds, Arc::new(Metrics::new()), clock, settings, own);
        let arbiters: Vec<Arbiter> = (0..threads()).map(|_| Arbiter::with_tokio_rt(runtime)).collect();
        let for_actors = world.clone();
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let root = Root::new(Arc::new(move || for_actors.env()), handles).start();
        let operations = Arc::new(Operations::new(world.clone(), root.clone()));
        let webhook = Webhook::new(operations.clone());
        // Before its feed gets events.
        operations.compare_with_feeds(world.store.recipe(&webhook::recipe_id()).into_iter().collect()).await;
        // What the configuration does not want any more is not started.
        webhook.catch_up().await;
        operations.start_all().await;
        // Every reader is known now: what none of them needs may go.
        world.feeds.start_retention();
        let tls = read_tls(&tls, approved_only).await?.map(admin::Tls::new);
        let access = admin::Access { insecure_loopback: insecure, tls: tls.clone() };
        if !insecure {
            keyring.let_the_owner_in(&world).await.map_err(StartError::of)?;
        }
        let backend = Arc::new(Endpoint::new(world.clone(), root.clone(), operations.clone(), keyring));
        let server = admin::serve(backend, listen, limits, REQUESTS, access)
            .map_err(|error| StartError::Part(format!("the admin endpoint can't listen on {listen}: {error}")))?;
        // Before that there is nothing to be reached there.
        let _ = world.own.set(server.address);
        let housekeeping = actix_rt::spawn(keep_house(world.clone()));
        let following = actix_rt::spawn(webhook.clone().follow());
        let anchors = anchors::start(&world);
        Ok(Self { world, root, arbiters, server, tls, operations, webhook, housekeeping, following, anchors })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Whether all arbiters answer.
    pub async fn alive(&self) -> bool {
        if self.root.send(List).await.is_err() {
            return false;
        }
        let asked = self.arbiters.iter().map(|arbiter| {
            let (tell, told) = tokio::sync::oneshot::channel();
            let asked = arbiter.spawn_fn(move || tell.send(()).unwrap_or_default());
            async move { asked && told.await.is_ok() }
        });
        futures_util::future::join_all(asked).await.into_iter().all(|answered| answered)
    }

    /// Takes a new configuration. Addresses and directories stay what they were at the start.
    pub async fn reload(&self, config: NodeConfig) -> Result<(), StartError> {
        let tls = read_tls(&config.tls, config.fips).await?;
        if tls.is_some() != self.tls.is_some() {
            return Err(StartError::Part("`tls` comes and goes only with a restart".to_owned()));
        }
        let both = self.tls.as_ref().zip(tls);
        both.iter().try_for_each(|(now, new)| now.can_become(new)).map_err(StartError::of)?;
        self.world.reload(config).map_err(StartError::of)?;
        if let Some((now, new)) = both {
            now.replace(new);
        }
        self.webhook.catch_up().await;
        self.operations.start_all().await;
        Ok(())
    }

    /// Takes no more requests, lets what is in flight end, closes the stores.
    pub async fn stop(self) {
        self.server.stop().await;
        self.housekeeping.abort();
        self.following.abort();
        self.anchors.iter().for_each(JoinHandle::abort);
        if timeout(DRAIN, self.root.send(Shutdown)).await.is_err() {
            tracing::warn!("deliveries were still in flight after {DRAIN:?}; they are finished after the next start");
        }
        advance_readers(&self.world);
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        let world = self.world;
        let closing = tokio::task::spawn_blocking(move || {
            world.store.close();
            world.notary.close();
            world.feeds.close();
        });
        let _ = closing.await;
    }
}

/// As actix makes it, and it tells when a thread has nothing to do.
fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().on_thread_park(hms_actors::turns::idle).build().expect("a runtime can be made")
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(4)
}

async fn read_tls(files: &Option<TlsFiles>, approved_only: bool) -> Result<Option<admin::Material>, StartError> {
    let Some(files) = files.clone() else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || admin::Material::read(&files, approved_only));
    read.await.map_err(StartError::of)?.map(Some).map_err(StartError::of)
}

/// Opening blocks on the disk, for as long as a recovery takes.
async fn open_stores(
    config: NodeConfig,
    clock: Arc<SystemClock>,
    key: Option<SecretString>,
) -> Result<(Arc<Store>, Arc<Notary>, Arc<FeedLog>), StartError> {
    let open = move || {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| StartError::Part(format!("{}: {error}", config.data_dir.display())))?;
        let (events, for_feeds) = (config.data_dir.join("events"), clock.clone());
        let options = feeds::Options {
            retention: config.retention,
            dedupe_window: config.dedupe_window,
            disk: config.limits.disk,
            feed_disk: config.limits.feed_disk,
            ..feeds::Options::new(Arc::new(move || for_feeds.now()))
        };
        // Side by side: each reads files of its own.
        std::thread::scope(|both| {
            let feeds = both.spawn(|| FeedLog::open(&events, options));
            let known = anchors::known(&config.anchors);
            let store = Store::open(&config.data_dir, clock).map_err(StartError::of)?;
            let notary = store.notary(&config.data_dir, key, Pace::default(), &known).map_err(StartError::of)?;
            let feeds = feeds.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((store, notary, feeds.map_err(StartError::of)?))
        })
    };
    tokio::task::spawn_blocking(open).await.map_err(StartError::of)?
}

async fn keep_house(world: Arc<World>) {
    let mut tick = tokio::time::interval(ADVANCE);
    loop {
        tick.tick().await;
        advance_readers(&world);
        world.metrics.tidy();
    }
}

/// Tells the feeds which events every reader has passed.
fn advance_readers(world: &World) {
    for (feed, key, below) in world.store.checkpoints() {
        world.feeds.advance(&feed, &reader(&key.recipe, &key.target), below);
    }
}
