//! The files of the log's folder: their names, replacing them whole, and the lock that keeps a second
//! node out. What is in them is the affair of others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ahead::Ahead;

/// The file that a segment's events are appended to.
pub(super) trait JournalFile: Send {
    /// Writes all the bytes where its content ends. After an error any part of them may be there.
    fn append(&mut self, end: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// Its content may end before it does, in zeros.
pub(super) struct Journal {
    file: File,
    ahead: Ahead,
}

impl Journal {
    pub fn new(file: File) -> Self {
        Self { file, ahead: Ahead::default() }
    }
}

impl JournalFile for Journal {
    fn append(&mut self, end: u64, bytes: &[u8]) -> io::Result<()> {
        self.ahead.reserve(&self.file, end, bytes.len() as u64);
        self.file.write_all_at(bytes, end)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.ahead.cut(&self.file, length)
    }
}

/// Kinds of files that a segment has.
pub(super) const LOG: &str = "log";
pub(super) const INDEX: &str = "idx";
pub(super) const IDS: &str = "ids";
const TEMPORARY: &str = "tmp";

/// The log's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<Path>);

impl Folder {
    /// Creates the folder if need be. Returns it with the lock, which lasts as long as the file is open;
    /// `None` if another process holds it.
    pub fn open(path: &Path) -> io::Result<Option<(Self, File)>> {
        fs::create_dir_all(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some((Self(path.into()), lock))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn file(&self, segment: u64, kind: &str) -> PathBuf {
        self.0.join(format!("{segment:012}.{kind}"))
    }

    /// Numbers of the segments that have a file of this kind, ascending.
    pub fn list(&self, kind: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(kind)?.strip_suffix('.'));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes what a crash left half written.
    pub fn remove_temporary(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Writes a file under a temporary name and syncs it.
    pub fn prepare(&self, segment: u64, kind: &str, bytes: &[u8]) -> io::Result<Prepared> {
        let (prepared, file) = self.write(segment, kind, bytes)?;
        file.sync_all()?;
        Ok(prepared)
    }

    fn write(&self, segment: u64, kind: &str, bytes: &[u8]) -> io::Result<(Prepared, File)> {
        let prepared =
            Prepared { to: self.file(segment, kind), from: self.0.join(format!("{segment}-{kind}.{TEMPORARY}")) };
        let mut file = File::create(&prepared.from)?;
        file.write_all(bytes)?;
        Ok((prepared, file))
    }

    /// Replaces a file whole. Until it is synced, power loss may leave anything of it.
    pub fn put(&self, segment: u64, kind: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(segment, kind, bytes)?.0.put_in_place()
    }

    /// Replaces a file whole, to stay.
    pub fn replace(&self, segment: u64, kind: &str, bytes: &[u8]) -> io::Result<()> {
        self.prepare(segment, kind, bytes)?.put_in_place()?;
        self.sync()
    }

    /// Makes names that were added, changed or removed stay so.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Removes a file if it is there.
    pub fn remove(&self, segment: u64, kind: &str) -> io::Result<()> {
        match fs::remove_file(self.file(segment, kind)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies a segment file to `NNN.damaged-<n>` and says where.
    pub fn set_aside(&self, segment: u64) -> io::Result<PathBuf> {
        for n in 1.. {
            let aside = self.file(segment, &format!("damaged-{n}"));
            match OpenOptions::new().create_new(true).write(true).open(&aside) {
                Ok(mut copy) => {
                    io::copy(&mut File::open(self.file(segment, LOG))?, &mut copy)?;
                    copy.sync_all()?;
                    self.sync()?;
                    return Ok(aside);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the numbers do not end")
    }

    /// A segment file to append to.
    pub fn appender(&self, segment: u64) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.file(segment, LOG))
    }

    /// Bytes that the file system still has for us.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file that is complete and synced under its temporary name. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Prepared {
    from: PathBuf,
    to: PathBuf,
}

impl Prepared {
    /// Takes the place of what was there. The folder's sync makes it stay.
    pub fn put_in_place(self) -> io::Result<()> {
        fs::rename(&self.from, &self.to)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // After the rename there is nothing to remove; otherwise the next start would do it.
        let _ = fs::remove_file(&self.from);
    }
}
