//! Moving old records out, once a checkpoint that covers them is known elsewhere and somebody has them in an export. What
//! remains of them: their hashes (`notary/hashes.rs`), from which proofs are made as before, and what followed from them
//! (`snapshot.rs`), from which a lost cache is rebuilt.
//!
//! | step | a kill after it |
//! | --- | --- |
//! | the records are read once more: their tree has to be that of the anchored checkpoint, and what follows from them is the snapshot | nothing happened |
//! | snapshot and the rest of a file that is cut in two are written beside, `<name>.new` | removed at the next start |
//! | a record says who moved out what, with the snapshot's hash | the same |
//! | the snapshot gets its name: from here on the records are gone | the next start does the rest |
//! | the rest gets its name, older files and snapshots are removed | |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hms_actors::failure::Failure;

use super::audit::{first_seqs, segment_path};
use super::file::{at, sync_dir};
use super::group::lock;
use super::notary::Notary;
use super::record::{Body, Record};
use super::segments::Reader;
use super::state::State;
use super::{Store, snapshot, writer};
use crate::fault;
use crate::mark;
use crate::proof::tree::{self, Edge};
use crate::proof::{self, Checkpoint};

/// The operator's action, in the audit.
const PRUNED: &str = "prune_audit";

/// Records that are looked at at once.
const AT_ONCE: usize = 10_000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The oldest record that is kept.
    pub first: u64,
    /// How many were moved out.
    pub moved: u64,
}

impl Store {
    /// The oldest audit record that is kept.
    pub fn audit_first(&self) -> u64 {
        self.audit.first()
    }

    /// Removes the records below `before`, which `anchored` covers: a checkpoint that is known outside of the node. Refused if
    /// they are not what was anchored. Reads all of them, so it may take minutes, while everything else goes on. Blocks on the disk.
    pub fn prune(&self, before: u64, anchored: &Checkpoint, notary: &Notary, by: &str) -> Result<Pruned, Failure> {
        let _alone = lock(&self.pruning);
        let first = self.audit.first();
        if before <= first {
            return Ok(Pruned { first, moved: 0 });
        }
        if before > anchored.size {
            return Err(Failure::refused(format!("the anchored checkpoint is of {} records only", anchored.size)));
        }
        let (state, edge) = self.follow(first, before, notary)?;
        let shown = notary.consistency(before, anchored.size).map_err(Failure::from)?;
        if !tree::extends((before, &edge.root()), (anchored.size, &anchored.root), &shown) {
            return Err(Failure::node(format!(
                "records {first} to {} are not those that were anchored: nothing was moved out; hms audit verify says where they differ",
                before - 1
            )));
        }
        // From here on the hashes can't be made anew from records.
        notary.sync_hashes()?;
        self.core.save_cache();

        let dir = &self.audit_dir;
        let named = snapshot::path(dir, before);
        let (kept, rest) = (new(&named), new(&segment_path(dir, before)));
        let sha256 = self.prepare(before, (&state, &edge), &kept, &rest).inspect_err(|_| {
            // Whoever moves records out may do it because the disk is full.
            for path in [&kept, &rest] {
                let _ = fs::remove_file(path);
            }
        })?;
        fault::point("prune.written");
        let details = [
            ("first", before.to_string()),
            ("moved", (before - first).to_string()),
            ("snapshot_sha256", sha256),
            ("anchored_size", anchored.size.to_string()),
            ("anchored_root", proof::base64(&anchored.root)),
        ];
        let details = details.map(|(name, value)| (name.to_owned(), value)).into();
        let (action, subject) = (PRUNED.to_owned(), by.to_owned());
        self.ledger.submit_blocking(writer::Job::Operator { action, subject, details })?;
        fault::point("prune.recorded");
        let renamed = fs::rename(&kept, &named).and_then(|()| sync_dir(dir));
        renamed.map_err(|e| at(&named, "put in place", &e))?;
        fault::point("prune.decided");
        name_rest(dir, before)?;
        self.audit.forget_before(before, dir);
        *lock(&self.base) = edge;
        notary.moved_out(before);
        remove_older(dir, before)?;
        tracing::info!("audit records {first} to {} were moved out by {by}", before - 1);
        Ok(Pruned { first: before, moved: before - first })
    }

    /// Writes what stays, beside: the snapshot, whose hash is answered, and the rest of a file that is cut in two.
    fn prepare(
        &self,
        before: u64,
        (state, edge): (&State, &Edge),
        kept: &Path,
        rest: &Path,
    ) -> Result<String, Failure> {
        let sha256 = snapshot::write(kept, edge, state)?;
        if self.audit.active() < before {
            // Only a file that does not grow can be cut.
            self.ledger.submit_blocking(writer::Job::Roll)?;
            if self.audit.active() < before {
                return Err(Failure::node("no new file of the audit could be begun: see the log".to_owned()));
            }
        }
        self.audit.cut(before, rest)?;
        sync_dir(&self.audit_dir).map_err(|e| at(&self.audit_dir, "sync", &e))?;
        Ok(sha256)
    }

    /// What follows from the records below `before`, and their tree.
    fn follow(&self, first: u64, before: u64, notary: &Notary) -> Result<(State, Edge), Failure> {
        let mut edge = lock(&self.base).clone();
        let mut state = if first > 0 { snapshot::read(&self.audit_dir, first)?.state } else { State::default() };
        while edge.size() < before {
            let from = edge.size();
            let lines = self.audit.read(from, AT_ONCE.min((before - from) as usize))?;
            if lines.is_empty() {
                return Err(Failure::node(format!("the audit has no record {from}")));
            }
            let leaves: Vec<_> = lines.iter().map(|(_, line)| tree::leaf(line)).collect();
            notary.same_leaves(from, &leaves)?;
            for ((seq, line), leaf) in lines.iter().zip(leaves) {
                state.apply(&Record::parse(line, *seq).map_err(|why| self.audit.damaged(*seq, &why))?);
                edge.push(leaf);
            }
        }
        Ok((state, edge))
    }
}

/// At a start: ends what was interrupted. The oldest record that is kept.
pub(super) fn settle(dir: &Path) -> Result<u64, Failure> {
    fs::create_dir_all(dir).map_err(|e| at(dir, "create", &e))?;
    let first = snapshot::all(dir)?.pop().unwrap_or(0);
    if first > 0 {
        name_rest(dir, first)?;
        if !first_seqs(dir)?.contains(&first) {
            let missing = segment_path(dir, first);
            return Err(Failure::node(format!(
                "{} is missing: it has the oldest records that were kept when those below {first} were moved out; restore it from a backup",
                missing.display()
            )));
        }
        remove_older(dir, first)?;
    }
    for entry in fs::read_dir(dir).map_err(|e| at(dir, "list", &e))? {
        let path = entry.map_err(|e| at(dir, "list", &e))?.path();
        if path.extension().is_some_and(|ending| ending == "new") {
            fs::remove_file(&path).map_err(|e| at(&path, "remove", &e))?;
        }
    }
    Ok(first)
}

/// What is left of a file that was cut in two.
fn name_rest(dir: &Path, first: u64) -> Result<(), Failure> {
    let path = segment_path(dir, first);
    if path.exists() {
        return Ok(());
    }
    match fs::rename(new(&path), &path).and_then(|()| sync_dir(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path, "put in place", &error)),
        _ => Ok(()),
    }
}

fn remove_older(dir: &Path, first: u64) -> Result<(), Failure> {
    let segments = first_seqs(dir)?.into_iter().filter(|seq| *seq < first).map(|seq| segment_path(dir, seq));
    let snapshots = snapshot::all(dir)?.into_iter().filter(|seq| *seq < first).map(|seq| snapshot::path(dir, seq));
    for path in segments.chain(snapshots) {
        mark::remove(&path);
        fs::remove_file(&path).map_err(|e| at(&path, "remove", &e))?;
    }
    sync_dir(dir).map_err(|e| at(dir, "sync", &e))
}

fn new(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// The state that the records are applied to which are there: that of the snapshot, if the cache does not reach so far.
pub(super) struct Base {
    first: u64,
    sha256: Option<String>,
}

impl Base {
    /// `state` is what the cache has.
    pub fn of(dir: &Path, first: u64, state: &mut State) -> Result<Self, Failure> {
        if state.counters.seq >= first {
            return Ok(Self { first, sha256: None });
        }
        let snapshot = snapshot::read(dir, first)?;
        *state = snapshot.state;
        Ok(Self { first, sha256: Some(snapshot.sha256) })
    }

    /// Is told of each record that is applied.
    pub fn saw(&mut self, record: &Record) {
        let Body::Operator { action, details, .. } = &record.body else { return };
        let of = |details: &BTreeMap<String, String>, name: &str| details.get(name).cloned();
        if action == PRUNED
            && of(details, "first") == Some(self.first.to_string())
            && of(details, "snapshot_sha256") == self.sha256
        {
            self.sha256 = None;
        }
    }

    /// All records were applied: a snapshot that none of them speaks of is not believed.
    pub fn check(self, records: &Reader, dir: &Path) -> Result<(), Failure> {
        match self.sha256 {
            None => Ok(()),
            Some(sha256) => Err(snapshot::unusable(
                &snapshot::path(dir, self.first),
                &format!("no record below {} has its hash, {sha256}", records.size()),
            )),
        }
    }
}
