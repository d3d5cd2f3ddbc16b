//! An append-only file that is synced once per group and never keeps half a group. It knows bytes and
//! lengths, not what they mean.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hms_actors::failure::Failure;

use crate::ahead::Ahead;
use crate::fault;
use crate::mark::{self, Mark, Marked};

/// A file of which everything below `synced` is on disk to stay.
#[derive(Debug)]
pub(super) struct Appender {
    file: File,
    path: PathBuf,
    synced: u64,
    mark: Mark,
    /// What the mark said when the file was opened.
    marked: u64,
    /// Of a file that nobody else reads.
    ahead: Option<Ahead>,
    health: Health,
}

/// Why bytes were not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// The disk is full. The file is as it was, and a later append may succeed.
    NoRoom(Failure),
    /// The store is unwritable from now on.
    Broken(Failure),
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NoRoom(failure) | AppendError::Broken(failure) => failure,
        }
    }
}

impl Appender {
    /// Opens or creates the file; all that is in it counts as synced after [`Self::cut`].
    pub fn open(path: &Path, health: Health) -> Result<Self, Failure> {
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, synced) = open().map_err(|e| at(path, "open", &e))?;
        let (mark, marked) = Mark::open(path);
        Ok(Self { file, path: path.to_owned(), synced, mark, marked: marked.length, ahead: None, health })
    }

    /// The same of a file whose content may end before it does, in zeros.
    pub fn open_with_room(path: &Path, health: Health) -> Result<Self, Failure> {
        let mut appender = Self::open(path, health)?;
        appender.ahead = Some(Ahead::default());
        Ok(appender)
    }

    /// Cuts the file to `length` and syncs it: what a killed process left unsynced is now on disk to stay.
    pub fn cut(&mut self, length: u64) -> Result<(), Failure> {
        let cut = || {
            if length < self.synced {
                self.file.set_len(length)?;
            }
            self.file.sync_all()
        };
        cut().map_err(|e| at(&self.path, "cut the torn end of", &e))?;
        fault::synced(|| self.path.clone(), length);
        self.synced = length;
        self.set_mark();
        Ok(())
    }

    fn set_mark(&self) {
        self.mark.set(Marked { length: self.synced, ..Marked::default() });
    }

    /// How much of the file was once on disk to stay, as far as its mark says.
    pub fn marked(&self) -> u64 {
        self.marked
    }

    /// Takes the place of `old`, in a folder that is open already: nothing here may fail for want of a descriptor
    /// once the names have changed.
    pub fn replace(&mut self, old: &Self, dir: &File) -> io::Result<()> {
        old.mark.withdraw()?;
        std::fs::rename(&self.path, &old.path)?;
        dir.sync_all()
    }

    /// After [`Self::replace`]: goes on under the name and the mark of the old file.
    pub fn succeed(&mut self, old: &mut Self) {
        mark::remove(&self.path);
        std::mem::swap(&mut self.mark, &mut old.mark);
        self.path.clone_from(&old.path);
        self.set_mark();
    }

    /// Appends the pieces one after the other and syncs once; returns where they begin. A failed sync is final: the kernel
    /// may have dropped the pages, and a second sync would lie.
    pub fn append(&mut self, pieces: &[impl AsRef<[u8]>]) -> Result<u64, AppendError> {
        self.health.check().map_err(AppendError::Broken)?;
        let start = self.synced;
        if let Some(ahead) = &mut self.ahead {
            ahead.reserve(&self.file, start, pieces.iter().map(|piece| piece.as_ref().len() as u64).sum());
        }
        let mut end = start;
        for piece in pieces.iter().map(AsRef::as_ref) {
            if let Err(error) = self.file.write_all_at(piece, end) {
                return Err(self.not_written(&error));
            }
            end += piece.len() as u64;
        }
        let written = start..end;
        if let Err(error) = fault::sync(|| self.path.clone(), written, || self.file.sync_data()) {
            return Err(self.broken("sync", &error));
        }
        self.synced = end;
        self.set_mark();
        Ok(start)
    }

    fn not_written(&mut self, error: &io::Error) -> AppendError {
        if !is_no_room(error) {
            return self.broken("write", error);
        }
        match self.end_here() {
            Ok(()) => AppendError::NoRoom(at(&self.path, "append to", error)),
            Err(error) => self.broken("cut", &error),
        }
    }

    fn end_here(&mut self) -> io::Result<()> {
        match &mut self.ahead {
            Some(ahead) => ahead.cut(&self.file, self.synced),
            None => self.file.set_len(self.synced),
        }
    }

    fn broken(&self, what: &str, error: &io::Error) -> AppendError {
        let failure = at(&self.path, what, error);
        self.health.fail(&failure.message);
        AppendError::Broken(failure)
    }

    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(|e| at(&self.path, "read", &e))?;
        Ok(bytes)
    }

    pub fn synced(&self) -> u64 {
        self.synced
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // What a failed sync has left is nobody's to touch.
        if self.ahead.as_ref().is_some_and(Ahead::is_there) && self.health.check().is_ok() {
            let _ = self.end_here(); // the next start does it too
        }
    }
}

/// Whether the store can still be written, shared by all its files: when one has failed for good, none goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<OnceLock<String>>);

impl Health {
    pub fn fail(&self, message: &str) {
        if self.0.set(message.to_owned()).is_ok() {
            tracing::error!("the store is not writable any more: {message}; mend the disk, then restart the node");
        }
    }

    pub fn check(&self) -> Result<(), Failure> {
        match self.0.get() {
            None => Ok(()),
            Some(message) => Err(Failure::node(format!(
                "the store is not writable since `{message}`: mend the disk, then restart the node"
            ))),
        }
    }
}

/// Whether waiting for room can help.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the names in a folder durable (a created or renamed file is not there after power loss without it).
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A failure of the node that names the path.
pub(super) fn at(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::node(format!("can't {what} {}: {error}", path.display()))
}
