//! The store: the one commit point, and everything persisted that is not the event log.
//!
//! | folder | what | if it is lost |
//! | --- | --- | --- |
//! | `audit/` | the audit: the truth (`audit.rs`, `segments.rs`, `record.rs`) | restore it; it is the proof |
//! | `audit/*.snapshot` | what followed from records that were moved out (`pruning.rs`, `snapshot.rs`) | restore it |
//! | `audit/tree/`, `audit.key`, `.pub`, `.checkpoint` | the tree over the audit, and what was signed of it (`notary/`) | see there |
//! | `work/` | begun work, dead letters' events, paces of rate limits, room for records (`keyed.rs`, `work.rs`, `room.rs`) | restore it; open writes end in doubt |
//! | `state/` | sled: a cache of what follows from the audit (`cache.rs`) | rebuilt |
//!
//! `tokens.json` beside them has the tokens of the admin endpoint (`tokens.rs`).
//!
//! `writer.rs` is the thread that all commits go through, `draft.rs` what it writes for them (`receipts.rs` where that is deliveries), `state.rs` and
//! `recipes.rs` what follows from that, `ledger.rs` the heart's port, `queries.rs` what the admin endpoint asks.

mod audit;
mod cache;
mod draft;
mod fences;
mod file;
#[cfg(any(test, feature = "fuzzed"))]
pub(crate) mod fuzzed;
mod group;
mod keyed;
mod ledger;
mod notary;
mod pruning;
mod queries;
mod receipts;
mod recipes;
mod record;
mod room;
mod segments;
mod snapshot;
mod standing;
mod state;
#[cfg(test)]
mod tests;
mod tokens;
mod work;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hms_actors::failure::Failure;
use hms_actors::ports::Clock;
use tokio::sync::watch;

use crate::fault;
use crate::proof::tree::Edge;
use cache::Cache;
use fences::Fences;
use file::{Health, at};
use group::{Committer, lock};
use keyed::Keyed;
use pruning::Base;
use room::Room;
use segments::Reader;
use state::State;
use writer::Writer;

pub use notary::{NoProof, Notary, Pace};
pub use pruning::Pruned;
pub use record::{Applied, AppliedTarget, Change, RecipeChange};
pub use standing::Note;
pub use state::{DeadLetter, StoredRecipe, StoredTarget, Ticket, TicketState};
pub use tokens::{Token, Tokens, replace};

/// A clock that threads can share.
pub type SharedClock = Arc<dyn Clock + Send + Sync>;

/// The store of a node. One process at a time opens a data directory.
pub struct Store {
    core: Arc<Core>,
    audit: Reader,
    audit_dir: PathBuf,
    /// The tree of the records that were moved out.
    base: Mutex<Edge>,
    pruning: Mutex<()>,
    ledger: Committer<Writer>,
    work: Committer<Keyed>,
    paces: Committer<Keyed>,
    letters: Arc<Committer<Keyed>>,
    saver: Mutex<Option<Saver>>,
    only_one: File,
}

/// What the store's threads share.
struct Core {
    state: RwLock<State>,
    fences: Fences,
    health: Health,
    room: Room,
    clock: SharedClock,
    cache: Mutex<Option<Cache>>,
    /// The last record that opened or resolved a ticket.
    ticket_changes: watch::Sender<u64>,
}

/// The thread that saves the cache, and what ends it.
struct Saver {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    segment: u64,
    garbage: u64,
    reserve: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { segment: 64 << 20, garbage: 32 << 20, reserve: 8 << 20 }
    }
}

/// Commits that may wait, and values of up to several MiB that may.
const JOBS: usize = 1024;
const LARGE_JOBS: usize = 32;

const SAVE_EVERY: Duration = Duration::from_secs(3);

impl Store {
    /// Opens the store in a data directory: cuts torn ends, loads or rebuilds the state. Blocks on the disk.
    pub fn open(data: &Path, clock: SharedClock) -> Result<Arc<Self>, Failure> {
        Self::open_with(data, clock, Sizes::default())
    }

    fn open_with(data: &Path, clock: SharedClock, sizes: Sizes) -> Result<Arc<Self>, Failure> {
        let work_dir = data.join("work");
        std::fs::create_dir_all(&work_dir).map_err(|e| at(&work_dir, "create", &e))?;
        let only_one = take_lock(data)?;
        let health = Health::default();
        let audit_dir = data.join("audit");
        let first = pruning::settle(&audit_dir)?;
        let journal = audit::Journal::open(&audit_dir, sizes.segment, health.clone())?;
        let audit = journal.reader();
        let (cache, mut state) = Cache::open(&data.join("state"), first..audit.size(), clock.now().0);
        let mut base = Base::of(&audit_dir, first, &mut state)?;
        roll_forward(&mut state, &audit, |record| base.saw(record))?;
        base.check(&audit, &audit_dir)?;
        let edge = if first > 0 { snapshot::read_edge(&audit_dir, first)? } else { Edge::default() };
        let mut work = Keyed::open(&work_dir.join("begun.log"), sizes.garbage, health.clone())?;
        let mut letters = Keyed::open(&work_dir.join("dead-letters.log"), sizes.garbage, health.clone())?;
        let mut paces = Keyed::open(&work_dir.join("paces.log"), sizes.garbage, health.clone())?;
        refuse_work_without_audit(data, &audit, &work)?;
        let targets = state.targets.values().map(|target| target.id).collect();
        work.retain(&targets);
        paces.retain(&targets);
        letters.retain(&state.letters.keys().copied().collect());
        let room = Room::open(&work_dir.join("reserve"), sizes.reserve, begun_events(&work)?)?;
        let letters = Arc::new(Committer::spawn("hms-letters", LARGE_JOBS, letters)?);
        let (state, cache) = (RwLock::new(state), Mutex::new(cache));
        let (fences, ticket_changes) = (Fences::default(), watch::Sender::new(0));
        let core = Arc::new(Core { state, fences, health, room, clock, cache, ticket_changes });
        let writer = Writer::new(core.clone(), journal, letters.clone());
        Ok(Arc::new(Self {
            audit,
            audit_dir,
            base: Mutex::new(edge),
            pruning: Mutex::new(()),
            ledger: Committer::spawn("hms-ledger", JOBS, writer)?,
            work: Committer::spawn("hms-work", LARGE_JOBS, work)?,
            paces: Committer::spawn("hms-paces", JOBS, paces)?,
            letters,
            saver: Mutex::new(Some(Saver::spawn(core.clone())?)),
            core,
            only_one,
        }))
    }

    /// Why the store can't be written, if it can't. It stays so until the node is started again.
    pub fn healthy(&self) -> Result<(), Failure> {
        self.core.health.check()?;
        if self.ledger.runs() && self.work.runs() && self.letters.runs() && self.paces.runs() {
            return Ok(());
        }
        Err(Failure::node("the store is closed, or one of its threads has panicked: restart the node"))
    }

    /// Saves the cache now. Blocks on the disk.
    pub fn flush_cache(&self) {
        self.core.save_cache();
    }

    /// Lets what waits be written, ends the threads and saves the cache. Blocks on the disk.
    pub fn close(&self) {
        let Some(saver) = lock(&self.saver).take() else { return };
        saver.end();
        self.ledger.close();
        self.work.close();
        self.letters.close();
        self.paces.close();
        self.core.save_cache();
        // Lets go of the cache's files, so that the folder can be opened again.
        drop(lock(&self.core.cache).take());
        // By word: a child of this process between fork and exec has the file open for another moment.
        let _ = self.only_one.unlock();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Core {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cache that can't be saved is given up for this run: the audit has all of it.
    fn save_cache(&self) {
        let mut cache = lock(&self.cache);
        let Some(open) = cache.as_mut() else { return };
        let changes = self.state_mut().take_changes();
        if changes.is_empty() {
            return;
        }
        fault::point("ledger.before_cache");
        if let Err(error) = open.save(changes) {
            tracing::warn!("the cache can't be saved ({error}): the next start reads more of the audit");
            *cache = None;
        }
    }
}

impl Saver {
    fn spawn(core: Arc<Core>) -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            while stopped.recv_timeout(SAVE_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                core.save_cache();
            }
        };
        let thread = std::thread::Builder::new().name("hms-cache".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Failure::node(format!("can't start the thread hms-cache: {e}")))?;
        Ok(Self { stop, thread })
    }

    fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread hms-cache has panicked");
        }
    }
}

/// Two processes on one directory would write over each other.
fn take_lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("work/lock");
    let file = File::create(&path).map_err(|e| at(&path, "create", &e))?;
    file.try_lock().map_err(|e| {
        Failure::node(format!("{} is in use by another process ({}: {e})", data.display(), path.display()))
    })?;
    Ok(file)
}

/// Begun work is told of by no audit: the folder that holds the truth is missing, and what is begun must not be
/// taken for that of nobody.
fn refuse_work_without_audit(data: &Path, audit: &Reader, work: &Keyed) -> Result<(), Failure> {
    if audit.size() > 0 || work.keys().next().is_none() {
        return Ok(());
    }
    let (data, folder) = (data.display(), data.join("audit"));
    Err(Failure::node(format!(
        "{data}: work is begun, but {} is empty: put the audit back that belongs to it",
        folder.display()
    )))
}

/// Applies the records that the state does not include.
fn roll_forward(state: &mut State, audit: &Reader, mut saw: impl FnMut(&record::Record)) -> Result<(), Failure> {
    const AT_ONCE: usize = 10_000;
    let from = state.counters.seq;
    while state.counters.seq < audit.size() {
        let lines = audit.read(state.counters.seq, AT_ONCE)?;
        if lines.is_empty() {
            let first = state.counters.seq;
            return Err(Failure::node(format!(
                "the audit has no record {first}, which the state has to be rebuilt from"
            )));
        }
        for (seq, line) in lines {
            let record = record::Record::parse(&line, seq).map_err(|why| audit.damaged(seq, &why))?;
            state.apply(&record);
            saw(&record);
        }
    }
    if state.counters.seq > from {
        tracing::info!("{} audit records from {from} on were read again", state.counters.seq - from);
    }
    Ok(())
}

/// How many events each target has begun.
fn begun_events(work: &Keyed) -> Result<Vec<(u64, u64)>, Failure> {
    let mut events = Vec::new();
    for id in work.keys() {
        if let Some(value) = work.get(id)? {
            events.push((id, work::events(&work::decode_work(value)?)));
        }
    }
    Ok(events)
}
