//! Room on disk for the records of what was begun. A delivery is sent only when the audit can surely take
//! its records, also if publishers fill the disk meanwhile: a file of allocated blocks holds that room, grows
//! with what is begun and is given back to the audit when the disk is full.
//!
//! It is no quota for others, and no promise on file systems that allocate anew on each write (btrfs, ZFS).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hms_actors::failure::Failure;
use rustix::fs::FallocateFlags;

use super::file::at;
use super::group::lock;

/// What an event's records may take: a failed attempt or two and the receipt.
const PER_EVENT: u64 = 1024;

/// The reserve grows in steps of this size.
const STEP: u64 = 1 << 20;

pub(super) struct Room {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    file: File,
    /// Bytes that are allocated.
    size: u64,
    /// For tickets and for recipes, beside what was begun.
    base: u64,
    /// Target → bytes for what it has begun last.
    promised: HashMap<u64, u64>,
    total: u64,
}

impl Room {
    /// Takes over the reserve of the last run, for the `(target, events)` that were begun then. Without room the
    /// node still starts: what is begun may end, and nothing new begins.
    pub fn open(path: &Path, base: u64, begun: Vec<(u64, u64)>) -> Result<Self, Failure> {
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            let size = file.metadata()?.len();
            Ok(Held { file, size, base, promised: HashMap::new(), total: 0 })
        };
        let mut held = open().map_err(|e| at(path, "open", &e))?;
        for (target, events) in begun {
            held.set(target, events * PER_EVENT);
        }
        if let Err(error) = held.shrink().and_then(|()| held.grow()) {
            tracing::warn!("{}", at(path, "hold room for records in", &error));
        }
        Ok(Self { path: path.to_owned(), held: Mutex::new(held) })
    }

    /// Makes sure of room for the records of `events` that the target begins, in place of what it had begun.
    pub fn promise(&self, target: u64, events: u64) -> Result<(), Failure> {
        let mut held = lock(&self.held);
        let before = held.set(target, events * PER_EVENT);
        if let Err(error) = held.grow() {
            // What can't be begun must not be in the way of smaller deliveries.
            held.set(target, before);
            return Err(at(&self.path, "make room for the records of a delivery in", &error));
        }
        Ok(())
    }

    /// The target is gone.
    pub fn forget(&self, target: u64) {
        let mut held = lock(&self.held);
        held.set(target, 0);
        held.promised.remove(&target);
    }

    /// Gives room to a write that found none. False if there is nothing to give.
    pub fn give(&self, bytes: u64) -> bool {
        let mut held = lock(&self.held);
        let rest = held.size.saturating_sub(bytes.next_multiple_of(STEP));
        if held.size == 0 || held.file.set_len(rest).is_err() {
            return false;
        }
        held.size = rest;
        true
    }
}

impl Held {
    /// Changes what is promised to the target; returns what was.
    fn set(&mut self, target: u64, bytes: u64) -> u64 {
        let before = self.promised.insert(target, bytes).unwrap_or(0);
        self.total = self.total - before + bytes;
        before
    }

    fn grow(&mut self) -> io::Result<()> {
        let wanted = self.wanted();
        if wanted > self.size {
            allocate(&self.file, self.size, wanted - self.size)?;
            self.size = wanted;
        }
        Ok(())
    }

    /// Only at start: what is promised changes with every delivery.
    fn shrink(&mut self) -> io::Result<()> {
        let wanted = self.wanted();
        if wanted < self.size {
            self.file.set_len(wanted)?;
            self.size = wanted;
        }
        Ok(())
    }

    fn wanted(&self) -> u64 {
        (self.base + self.total).next_multiple_of(STEP)
    }
}

fn allocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, offset, length),
        Err(error) => Err(error.into()),
    }
}

/// For file systems without `fallocate`.
fn write_zeros(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; STEP as usize];
    (offset..offset + length).step_by(STEP as usize).try_for_each(|at| {
        let part = (offset + length - at).min(STEP);
        file.write_all_at(&zeros[..part as usize], at)
    })
}
