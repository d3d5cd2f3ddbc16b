//! The world that a node's actors are given: clock, log, ledger, partners and witness, made of real parts.
//! What can be reloaded (configuration, secrets, TLS) is read here when a partner is made.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{self, Rc};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::{Offset, RecipeId, Revision, TargetKey, TargetName, Timestamp};
use hms_actors::ports::{Clock, FilePartner, Partners, RequestPartner, Witness};
use hms_actors::runtime::Env;
use tokio::sync::watch;

use super::governing::{Governed, Rules};
use crate::adapters::file::{Busy, LocalPartner};
use crate::adapters::rest::{RestContext, RestPartner, Tls};
use crate::adapters::rows::PathOf;
use crate::adapters::sftp::{SftpContext, SftpPartner};
use crate::approved;
use crate::clock;
use crate::config::NodeConfig;
use crate::egress::Egress;
use crate::fault;
use crate::feeds::FeedLog;
use crate::formats::Shape;
use crate::metrics::Metrics;
use crate::privacy::{self, Guard, Keys, Treatments};
use crate::proof::Signed;
use crate::recipe::model::{Adapter, FileTarget, Recipe, Target};
use crate::recipe::template::{Owner, Template};
use crate::secrets::Secrets;
use crate::store::{Notary, Store, StoredRecipe};

/// What all arbiters share.
pub(super) struct World {
    pub store: Arc<Store>,
    pub notary: Arc<Notary>,
    pub feeds: Arc<FeedLog>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<SystemClock>,
    /// Of partners, for tokens.
    pub keys: Arc<Keys>,
    /// Local files on which an operation has not come back.
    busy: Busy,
    settings: RwLock<Arc<Reloaded>>,
    /// The longest checkpoint of the audit that an anchor has, as far as this process knows.
    pub anchored: watch::Sender<Option<Arc<Signed>>>,
    /// Where the admin endpoint listens, once it does.
    pub own: Arc<OnceLock<SocketAddr>>,
    /// The recipe that was read last, and its text: the targets of one ask for it one after the other.
    read_last: Mutex<Option<(Arc<str>, Arc<Recipe>)>>,
}

thread_local! {
    /// A world as this thread's actors see it.
    static ENV: RefCell<(Weak<World>, rc::Weak<Env>)> = const { RefCell::new((Weak::new(), rc::Weak::new())) };
}

/// What a reload replaces as a whole.
pub(super) struct Reloaded {
    pub config: NodeConfig,
    pub secrets: Arc<Secrets>,
    pub egress: Egress,
    pub rules: Rules,
    pub rest: Arc<RestContext>,
}

impl Reloaded {
    /// `own` is where the node itself listens, once it does.
    pub fn new(config: NodeConfig, clock: &Arc<SystemClock>, own: Arc<OnceLock<SocketAddr>>) -> Result<Self, Failure> {
        if config.fips {
            approved::check()?;
        }
        let secrets = Arc::new(Secrets::of_process(config.secrets_dir.clone(), config.secret_hosts.clone()));
        let egress = Egress::new(config.egress.clone(), config.insecure_loopback, own);
        let rest = Arc::new(RestContext {
            secrets: secrets.clone(),
            connect_to: config.connect_to.clone(),
            egress: egress.clone(),
            tls: Tls::new(config.tls_ca_file.as_deref(), config.fips)?,
            clock: clock.clone(),
        });
        let rules = Rules::load(&config)?;
        Ok(Self { config, secrets, egress, rules, rest })
    }
}

impl World {
    pub fn new(
        (store, notary): (Arc<Store>, Arc<Notary>),
        feeds: Arc<FeedLog>,
        metrics: Arc<Metrics>,
        clock: Arc<SystemClock>,
        settings: Reloaded,
        own: Arc<OnceLock<SocketAddr>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            keys: Arc::new(Keys::new(&settings.config.data_dir)),
            store,
            notary,
            feeds,
            metrics,
            clock,
            busy: Busy::default(),
            settings: RwLock::new(Arc::new(settings)),
            anchored: watch::Sender::new(None),
            own,
            read_last: Mutex::default(),
        })
    }

    pub fn settings(&self) -> Arc<Reloaded> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn reload(&self, config: NodeConfig) -> Result<(), Failure> {
        let new = Arc::new(Reloaded::new(config, &self.clock, self.own.clone())?);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.keys.forget();
        Ok(())
    }

    /// The world as one arbiter's actors see it.
    /// One for all of them, as long as one of them has it.
    pub fn env(self: &Arc<Self>) -> Rc<Env> {
        ENV.with_borrow_mut(|(of, known)| {
            let same = Weak::ptr_eq(of, &Arc::downgrade(self));
            known.upgrade().filter(|_| same).unwrap_or_else(|| {
                let env = self.new_env();
                (*of, *known) = (Arc::downgrade(self), Rc::downgrade(&env));
                env
            })
        })
    }

    fn new_env(self: &Arc<Self>) -> Rc<Env> {
        Rc::new(Env {
            clock: Rc::new(SystemClock),
            log: Rc::new(self.feeds.clone()),
            ledger: Rc::new(self.store.clone()),
            partners: Rc::new(Made(self.clone())),
            governor: Rc::new(Governed(self.clone())),
            witness: Rc::new(Told(self.clone())),
            step: fault::point,
        })
    }

    /// What is done with each field of a target, as catalog, recipe and policies are now.
    pub(super) fn treatments(&self, recipe: &Recipe, target: &Target) -> Treatments {
        self.settings().rules.treatments(recipe, target)
    }

    /// What events become for a target.
    fn shape(&self, recipe: &Recipe, target: &Target, key: &TargetKey) -> Shape {
        let partner = privacy::partner(key, target);
        let guard = Guard::new(self.treatments(recipe, target), partner, self.keys.clone());
        Shape::new(&recipe.source, &target.map).guarded(guard)
    }

    /// A recipe's revision and the target in it, under the name that it had then.
    pub(super) fn shaped(
        &self,
        key: &TargetKey,
        revision: Revision,
    ) -> Result<(Arc<Recipe>, Target, TargetKey), Failure> {
        let missing = |what: &str| Failure::node(format!("{what} of {key}, revision {revision}, is not in the store"));
        let stored = self.store.recipe(&key.recipe).ok_or_else(|| missing("the recipe"))?;
        let parse = |revision: Revision| {
            let text = stored.texts.get(&revision).ok_or_else(|| missing("the recipe's text"))?;
            self.read(&key.recipe, text)
        };
        let mut name = key.target.clone();
        for later in (revision + 1..=stored.revision).rev() {
            let recipe = parse(later)?;
            let named = recipe.targets.iter().find(|target| target.name == name);
            let before = named.and_then(|target| target.renamed_from.clone());
            let known_before =
                |name: &TargetName| parse(later - 1).is_ok_and(|recipe| recipe.targets.iter().any(|t| t.name == *name));
            if let Some(before) = before
                && !known_before(&name)
            {
                name = before;
            }
        }
        let recipe = parse(revision)?;
        let target = recipe.targets.iter().find(|target| target.name == name).cloned();
        let key = TargetKey { recipe: key.recipe.clone(), target: name };
        Ok((recipe, target.ok_or_else(|| missing("the target"))?, key))
    }

    /// A recipe as it is now.
    pub(super) fn current(&self, stored: &StoredRecipe) -> Result<Arc<Recipe>, Failure> {
        let none = || Failure::node(format!("the text of recipe `{}` is not in the store", stored.id));
        self.read(&stored.id, stored.texts.get(&stored.revision).ok_or_else(none)?)
    }

    /// Not once for each of a thousand targets.
    fn read(&self, id: &RecipeId, text: &Arc<str>) -> Result<Arc<Recipe>, Failure> {
        let mut last = self.read_last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, recipe)) = &*last
            && of == text
        {
            return Ok(recipe.clone());
        }
        let invalid = |errors| Failure::configuration(format!("the stored recipe is not valid any more: {errors}"));
        let recipe = Arc::new(crate::recipe::parse(id.as_str(), text).map_err(invalid)?);
        *last = Some((text.clone(), recipe.clone()));
        Ok(recipe)
    }
}

/// Makes partners: the list of adapters as the node runs them.
struct Made(Arc<World>);

impl Partners for Made {
    fn requests(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        let (recipe, target, key) = self.0.shaped(target, revision)?;
        match &target.adapter {
            Adapter::Rest(rest) => {
                let context = self.0.settings().rest.clone();
                let shape = self.0.shape(&recipe, &target, &key);
                Ok(Rc::new(RestPartner::new(key, shape, rest, context)?))
            }
            Adapter::Sftp(_) | Adapter::File(_) => Err(Failure::node(format!("{key} takes no requests"))),
        }
    }

    fn files(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn FilePartner>, Failure> {
        let (recipe, target, key) = self.0.shaped(target, revision)?;
        let shape = self.0.shape(&recipe, &target, &key);
        let settings = self.0.settings();
        match &target.adapter {
            Adapter::Sftp(sftp) => {
                let path_of = path_of(&sftp.file, &key, settings.config.timezone)?;
                let context = SftpContext {
                    secrets: settings.secrets.clone(),
                    connect_to: settings.config.connect_to.clone(),
                    egress: settings.egress.clone(),
                    approved_only: settings.config.fips,
                    known_hosts: settings.config.known_hosts.clone().unwrap_or_default(),
                };
                Ok(Rc::new(SftpPartner::new(key, sftp, shape, path_of, context)))
            }
            Adapter::File(file) => {
                let path_of = path_of(file, &key, settings.config.timezone)?;
                Ok(Rc::new(LocalPartner::new(key, file, shape, path_of, self.0.busy.clone())))
            }
            Adapter::Rest(_) => Err(Failure::node(format!("{key} takes no files"))),
        }
    }
}

/// A target's path as a function of the moment, in the node's time zone.
pub(super) fn path_of(file: &FileTarget, key: &TargetKey, zone: chrono_tz::Tz) -> Result<PathOf, Failure> {
    let template = Template::parse(&file.path).map_err(Failure::configuration)?;
    let key = key.clone();
    Ok(Box::new(move |moment: Timestamp, batch: (Offset, Offset)| {
        let moment = DateTime::<Utc>::from_timestamp_millis(moment.0).unwrap_or_default().with_timezone(&zone);
        let owner = Owner { recipe: key.recipe.as_str(), target: key.target.as_str() };
        template.render(&moment, owner, batch)
    }))
}

/// The node's wall clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(clock::step()))
    }
}

/// Metrics, the promised lines, and the memory of what was released.
struct Told(Arc<World>);

impl Witness for Told {
    fn attempted(&self, target: &TargetKey, failure: Option<FailureKind>, events: u64) {
        self.0.metrics.attempted(target, failure, events);
    }

    fn delivered(&self, target: &TargetKey, waited: Duration, events: u64) {
        self.0.metrics.delivered(target, waited, events);
    }

    fn blocked(&self, target: &TargetKey, events: u64) {
        self.0.metrics.blocked(target, events);
    }

    fn ran(&self, recipe: &RecipeId, completed: u64, failed: u64) {
        if completed > 0 {
            tracing::info!(target: "audit", "sync.success.{} {completed}", recipe.short());
        }
        if failed > 0 {
            tracing::info!(target: "audit", "sync.fail.{} {failed}", recipe.short());
        }
    }

    fn released(&self, recipe: &RecipeId, frontier: Offset) {
        self.0.store.set_frontier(recipe, frontier);
    }

    fn restarted(&self, recipe: &RecipeId, actor: &str) {
        self.0.metrics.restarted(recipe, actor);
    }
}
