//! The notary: a thread that lays the Merkle tree over the synced records and signs it, every 10 s, every 1,000 records,
//! and when somebody asks. It only reads the journal: no commit waits for it, and a record that is not on disk to stay
//! is not there for it. What it signs is on disk before anybody sees it, and it signs nothing that does not extend that.
//!
//! | file in the data directory | what | if it is lost |
//! | --- | --- | --- |
//! | `audit.key` | the signing key, if no secret `AUDIT_SIGNING_KEY` is given; mode 0600 (`kept.rs`) | make a new one: rotation |
//! | `audit.pub` | verifier keys, one a line, that in use last | give it back; what is signed stays valid |
//! | `audit.checkpoint` | the last checkpoint, a signed note | the node does not start without it |
//! | `audit/tree/` | hashes of the tree (`hashes.rs`) | made anew from the records; of those that were moved out, restore it |

mod hashes;
mod kept;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hms_actors::failure::Failure;
use secrecy::SecretString;
use tokio::sync::{oneshot, watch};

use self::hashes::Hashes;
use self::kept::Kept;
use super::Store;
use super::group::lock;
use super::segments::Reader;
use crate::proof::tree::{self, Edge};
use crate::proof::{Checkpoint, Hash, Signed, VerifierKey};

/// How often it signs.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// At the latest so long after a record.
    pub every: Duration,
    /// Or after so many.
    pub records: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), records: 1000 }
    }
}

/// How often it looks whether there are so many.
const LOOK: Duration = Duration::from_millis(100);

/// Records that are hashed at once.
const AT_ONCE: usize = 10_000;

/// Its handle. Calls other than [`Notary::current`] block on the disk.
pub struct Notary {
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    signed: watch::Receiver<Arc<Signed>>,
    hashes: Arc<Hashes>,
    keys: Vec<VerifierKey>,
}

/// Sign what is there now; told when it is signed.
type Ask = oneshot::Sender<Result<Arc<Signed>, Failure>>;

/// Why there is no proof.
#[derive(Debug)]
pub enum NoProof {
    /// There is no such record, or no tree of that size yet.
    Beyond(String),
    Failed(Failure),
}

impl Store {
    /// Starts the notary of an opened store: hashes what is not hashed yet, compares the audit with what was signed last, and
    /// refuses one that is not its continuation. `known` are checkpoints that came back from outside: it has to continue them too.
    pub fn notary(
        &self,
        data: &Path,
        key: Option<SecretString>,
        pace: Pace,
        known: &[(String, String)],
    ) -> Result<Arc<Notary>, Failure> {
        let kept = Kept::open(data, key.as_ref())?;
        let records = self.audit.clone();
        let mut claims: Vec<Claim> = kept.last.iter().map(|last| Claim::new(&kept.path(), &last.checkpoint)).collect();
        for (place, note) in known {
            // A file may be the anchor of several logs.
            if Signed::unchecked(note).is_ok_and(|checkpoint| checkpoint.origin != kept.key.public().name()) {
                continue;
            }
            let found = Signed::open(note, &kept.keys);
            let found = found.map_err(|why| Failure::node(format!("{place}: its last checkpoint: {why}")))?;
            claims.push(Claim { place: place.clone(), size: found.checkpoint.size, root: found.checkpoint.root });
        }
        let base = lock(&self.base).clone();
        let (hashes, edge) = continued(&data.join("audit/tree"), &records, base, claims)?;
        let mut worker = Worker { records, hashes: Arc::new(hashes), edge, kept, last: Instant::now(), pace };
        let first = match (worker.sign(), &worker.kept.last) {
            (Err(failure), Some(last)) => {
                // As later, when the disk is full: there is a new one as soon as there is room.
                tracing::warn!("no new checkpoint of the audit: {failure}");
                last.clone()
            }
            (signed, _) => signed?,
        };
        worker.kept.store_public()?;
        let (tell, signed) = watch::channel(first);
        let (asks, asked) = mpsc::channel();
        let (hashes, keys) = (worker.hashes.clone(), worker.kept.keys.clone());
        let thread = std::thread::Builder::new().name("hms-notary".to_owned()).spawn(move || worker.run(&asked, &tell));
        let thread = thread.map_err(|e| Failure::node(format!("can't start the thread hms-notary: {e}")))?;
        Ok(Arc::new(Notary { asks: Mutex::new(Some(asks)), thread: Mutex::new(Some(thread)), signed, hashes, keys }))
    }
}

impl Notary {
    /// A checkpoint over everything that is synced now.
    pub async fn current(&self) -> Result<Arc<Signed>, Failure> {
        let closed = || Failure::node("the notary has stopped: restart the node");
        let (tell, told) = oneshot::channel();
        lock(&self.asks).as_ref().ok_or_else(closed)?.send(tell).map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }

    /// The last checkpoint, now and whenever there is a new one.
    pub fn follow(&self) -> watch::Receiver<Arc<Signed>> {
        self.signed.clone()
    }

    /// Verifier keys, one a line; that in use is the last.
    pub fn keys(&self) -> String {
        kept::lines(&self.keys)
    }

    pub fn inclusion(&self, leaf: u64, size: u64) -> Result<Vec<Hash>, NoProof> {
        self.signed_up_to(size)?;
        if leaf >= size {
            return Err(NoProof::Beyond(format!("record {leaf} is not among the first {size}")));
        }
        tree::inclusion(&*self.hashes, leaf, size).map_err(NoProof::Failed)
    }

    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, NoProof> {
        self.signed_up_to(to)?;
        if from > to {
            return Err(NoProof::Beyond(format!("{from} records are more than {to}")));
        }
        tree::consistency(&*self.hashes, from, to).map_err(NoProof::Failed)
    }

    /// Whether these are the hashes of the records from `first` on.
    pub(super) fn same_leaves(&self, first: u64, leaves: &[Hash]) -> Result<(), Failure> {
        self.hashes.same_leaves(first, leaves)
    }

    /// On return the hashes of all records that are signed are on disk to stay.
    pub(super) fn sync_hashes(&self) -> Result<(), Failure> {
        self.hashes.sync()
    }

    /// The records below `first` are gone: their hashes can't be made anew.
    pub(super) fn moved_out(&self, first: u64) {
        self.hashes.moved_out(first);
    }

    /// Hashes that are not those of the last checkpoint would make proofs of nothing.
    fn signed_up_to(&self, size: u64) -> Result<(), NoProof> {
        let last = self.signed.borrow().clone();
        let Checkpoint { size: signed, root, .. } = &last.checkpoint;
        if size > *signed {
            return Err(NoProof::Beyond(format!("the last checkpoint is of {signed} records, and not of {size}")));
        }
        if tree::root(&*self.hashes, *signed).map_err(NoProof::Failed)? != *root {
            return Err(NoProof::Failed(self.hashes.damaged("they do not add up to the last checkpoint")));
        }
        Ok(())
    }

    /// Signs what is not signed yet, and ends the thread. Blocks on the disk.
    pub fn close(&self) {
        drop(lock(&self.asks).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread hms-notary has panicked");
        }
    }
}

impl Drop for Notary {
    fn drop(&mut self) {
        self.close();
    }
}

struct Worker {
    records: Reader,
    hashes: Arc<Hashes>,
    edge: Edge,
    kept: Kept,
    /// When it signed last.
    last: Instant,
    pace: Pace,
}

impl Worker {
    fn run(mut self, asked: &mpsc::Receiver<Ask>, tell: &watch::Sender<Arc<Signed>>) {
        let mut complained = String::new();
        loop {
            let (mut asks, open) = match asked.recv_timeout(LOOK) {
                Ok(ask) => (vec![ask], true),
                Err(mpsc::RecvTimeoutError::Timeout) => (Vec::new(), true),
                Err(mpsc::RecvTimeoutError::Disconnected) => (Vec::new(), false),
            };
            asks.extend(asked.try_iter());
            if open && asks.is_empty() && !self.is_due() {
                continue;
            }
            let signed = self.sign();
            match &signed {
                Ok(signed) => {
                    complained.clear();
                    tell.send_if_modified(|known| {
                        let is_new = known.checkpoint != signed.checkpoint;
                        *known = signed.clone();
                        is_new
                    });
                }
                // Deliveries do not wait for it; the records that it lacks are not lost for it.
                Err(failure) if failure.message != complained => {
                    tracing::warn!("no new checkpoint of the audit: {failure}");
                    complained.clone_from(&failure.message);
                }
                Err(_) => {}
            }
            for ask in asks {
                let _ = ask.send(signed.clone());
            }
            if !open {
                return;
            }
        }
    }

    fn is_due(&self) -> bool {
        let signed = self.kept.last.as_ref().map_or(0, |last| last.checkpoint.size);
        let new = self.records.size().saturating_sub(signed);
        new >= self.pace.records || (new > 0 && self.last.elapsed() >= self.pace.every)
    }

    /// The checkpoint of all that is synced; the last one if nothing came since.
    fn sign(&mut self) -> Result<Arc<Signed>, Failure> {
        self.last = Instant::now();
        extend(&mut self.edge, &self.hashes, &self.records)?;
        if let Some(last) = &self.kept.last
            && last.checkpoint.size == self.edge.size()
            && self.kept.is_current(last)
        {
            return Ok(last.clone());
        }
        let (origin, size, root) = (self.kept.key.public().name().to_owned(), self.edge.size(), self.edge.root());
        self.kept.store(Signed::sign(Checkpoint { origin, size, root }, &self.kept.key))
    }
}

/// What a checkpoint says of the audit, and where it is.
struct Claim {
    place: String,
    size: u64,
    root: Hash,
}

impl Claim {
    fn new(path: &Path, checkpoint: &Checkpoint) -> Self {
        Self { place: path.display().to_string(), size: checkpoint.size, root: checkpoint.root }
    }

    fn refuse(&self, why: &str) -> Failure {
        Failure::node(format!(
            "the audit is not the one that was signed: {} is a checkpoint of {} records, and {why}. Either older or other files were \
             put in its place, or records were changed. Restore the folder audit/ that belongs to it; nothing is signed that does not \
             continue it. Without one the proof ends there: move audit.checkpoint, audit.pub and audit.key away (and give another key \
             if AUDIT_SIGNING_KEY is given) to begin a new log",
            self.place, self.size
        ))
    }
}

/// The tree of all synced records, if every claim holds in it. `base` is that of the records that were moved out.
fn continued(dir: &Path, records: &Reader, base: Edge, claims: Vec<Claim>) -> Result<(Hashes, Edge), Failure> {
    let synced = records.size();
    if let Some(claim) = claims.iter().find(|claim| claim.size > synced) {
        return Err(claim.refuse(&format!("there are only {synced}")));
    }
    let (hashes, mut edge) = Hashes::open(dir, synced, &base)?;
    let known = edge.size();
    if let Err(failure) = extend(&mut edge, &hashes, records) {
        // On a full disk the node starts all the same, and the hashes are written when there is room.
        tracing::warn!("the hashes of the audit are not written yet: {failure}");
        let (written, later) = claims.into_iter().partition::<Vec<_>, _>(|claim| claim.size < edge.size());
        let broken =
            first_broken(&hashes, &written).map(Ok).or_else(|| broken_later(edge.clone(), records, &later).transpose());
        return match broken.transpose()? {
            None => Ok((hashes, edge)),
            Some(claim) => Err(claim.refuse("its root is another")),
        };
    }
    let Some(claim) = first_broken(&hashes, &claims) else { return Ok((hashes, edge)) };
    // Perhaps it is only the hashes.
    tracing::warn!(
        "{}: the hashes below record {known} are not those of {}: they are made anew",
        dir.display(),
        claim.place
    );
    hashes.forget(&base);
    let mut edge = base.clone();
    extend(&mut edge, &hashes, records)?;
    let Some(claim) = first_broken(&hashes, &claims) else { return Ok((hashes, edge)) };
    if base.size() == 0 {
        return Err(claim.refuse("its root is another"));
    }
    // The hashes of records that were moved out may be the ones: the records themselves tell what came after.
    let (gone, later) = claims.into_iter().partition::<Vec<_>, _>(|claim| claim.size < base.size());
    if let Some(claim) = broken_later(base, records, &later)? {
        return Err(claim.refuse("its root is another"));
    }
    if let Some(claim) = first_broken(&hashes, &gone) {
        return Err(claim.refuse(
            "the records that it is of were moved out, and their hashes in audit/tree are damaged: restore that folder from a backup",
        ));
    }
    tracing::error!(
        "{}",
        hashes.damaged("those of records that were moved out are gone, so that nothing can be proved")
    );
    Ok((hashes, edge))
}

fn first_broken<'a>(hashes: &Hashes, claims: &'a [Claim]) -> Option<&'a Claim> {
    claims.iter().find(|claim| tree::root(hashes, claim.size).ok() != Some(claim.root))
}

/// The same without writing a hash, for claims that the tree does not reach yet.
fn broken_later<'a>(mut edge: Edge, records: &Reader, claims: &'a [Claim]) -> Result<Option<&'a Claim>, Failure> {
    let mut lines = Vec::<(u64, bytes::Bytes)>::new().into_iter();
    loop {
        let root = claims.iter().any(|claim| claim.size == edge.size()).then(|| edge.root());
        if let Some(claim) = claims.iter().find(|claim| claim.size == edge.size() && Some(claim.root) != root) {
            return Ok(Some(claim));
        }
        if claims.iter().all(|claim| claim.size <= edge.size()) {
            return Ok(None);
        }
        let line = match lines.next() {
            Some(line) => line,
            None => {
                lines = records.read(edge.size(), AT_ONCE)?.into_iter();
                let Some(line) = lines.next() else { return Err(no_record(edge.size())) };
                line
            }
        };
        edge.push(tree::leaf(&line.1));
    }
}

fn no_record(seq: u64) -> Failure {
    Failure::node(format!("the audit has no record {seq}, which has to be hashed"))
}

/// Hashes every synced record that is not in the tree yet.
fn extend(edge: &mut Edge, hashes: &Hashes, records: &Reader) -> Result<(), Failure> {
    let size = records.size();
    while edge.size() < size {
        let mut leaves = Vec::new();
        if records.visit(edge.size(), AT_ONCE, |_, line| leaves.push(tree::leaf(line)))? == 0 {
            return Err(no_record(edge.size()));
        }
        // Not changed before its hashes are written: what failed is done again.
        let mut grown = edge.clone();
        hashes.append(&mut grown, &leaves)?;
        *edge = grown;
    }
    Ok(())
}

impl From<NoProof> for Failure {
    fn from(why: NoProof) -> Self {
        match why {
            NoProof::Beyond(why) => Self::node(why),
            NoProof::Failed(failure) => failure,
        }
    }
}

/// Where the data directory's files of the notary are.
fn in_data(data: &Path, name: &str) -> PathBuf {
    data.join(name)
}
