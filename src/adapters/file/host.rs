//! Files on this machine. Each operation runs on a thread for blocking work and has a deadline; a disk that
//! hangs (a network mount) keeps that thread, and until it lets go the target does nothing else.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hms_actors::failure::Failure;
use hms_actors::id::TargetKey;
use hms_actors::ports::{FileHost, Synced, WriteTo};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::classify::{During, failure};

/// A disk that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Of a new file, before the process's umask.
const MODE: u32 = 0o644;

/// The targets with an operation that has not returned yet, also one whose deadline has passed: it could still
/// write, so nothing else may be planned meanwhile, not even by a new incarnation of the target.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<BTreeSet<TargetKey>>>);

/// An operation that runs.
struct Entered {
    key: TargetKey,
    busy: Busy,
}

/// This machine, for one target.
pub struct LocalHost {
    key: TargetKey,
    busy: Busy,
    timeout: Duration,
}

#[async_trait(?Send)]
impl FileHost for LocalHost {
    async fn length(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        self.step(path, |path| length(&path)).await
    }

    async fn read(&mut self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        self.step(path, move |path| read(&path, offset, length)).await
    }

    async fn write(&mut self, path: &str, offset: u64, bytes: &[u8], file: WriteTo) -> Result<Synced, Failure> {
        let bytes = bytes.to_vec();
        self.step(path, move |path| write(&path, offset, &bytes, file)).await
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let to = to.to_owned();
        self.step(from, move |from| rename(&from, &to)).await
    }
}

impl LocalHost {
    pub(super) fn new(key: TargetKey, busy: Busy) -> Self {
        Self { key, busy, timeout: TIMEOUT }
    }

    async fn step<T: Send + 'static>(
        &self,
        path: &str,
        operation: impl FnOnce(String) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(entered) = self.busy.enter(&self.key) else {
            return Err(Failure::transient_definite(format!(
                "`{path}`: an earlier operation has not returned yet; the disk does not answer"
            )));
        };
        let owned = path.to_owned();
        let running = tokio::task::spawn_blocking(move || {
            let _entered = entered;
            operation(owned)
        });
        match tokio::time::timeout(self.timeout, running).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Failure::transient(format!("`{path}`: {error}"))),
            Err(_) => Err(Failure::transient(format!("`{path}`: no answer from the disk within {:?}", self.timeout))),
        }
    }
}

fn length(path: &str) -> Result<Option<u64>, Failure> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(Failure::configuration(format!("`{path}` is not a regular file"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(During::Look { path }, &error)),
    }
}

fn read(path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.seek(SeekFrom::Start(offset)).map(|_| file))
        .and_then(|file| file.take(length as u64).read_to_end(&mut bytes))
        .map_err(|error| failure(During::Read { path }, &error))?;
    Ok(bytes)
}

fn write(path: &str, offset: u64, bytes: &[u8], to: WriteTo) -> Result<Synced, Failure> {
    let fresh = to == WriteTo::Fresh;
    let opened = OpenOptions::new().write(true).create(fresh).truncate(fresh).mode(MODE).open(path);
    let mut file = opened.map_err(|error| failure(During::Open { path, file: to }, &error))?;
    let mut written =
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes)).and_then(|()| file.sync_all());
    if fresh {
        written = written.and_then(|()| sync_folder(path));
    }
    written.map_err(|error| failure(During::Write { path }, &error))?;
    Ok(Synced(true))
}

fn rename(from: &str, to: &str) -> Result<(), Failure> {
    let renamed = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_with_a_look(from, to),
        result => result.map_err(Into::into),
    };
    renamed.map_err(|error| failure(During::Rename { from, to }, &error))?;
    sync_folder(to).map_err(|error| failure(During::Write { path: to }, &error))
}

/// For file systems that can't refuse to overwrite: the time between is ours alone, with one writer per file.
fn rename_with_a_look(from: &str, to: &str) -> std::io::Result<()> {
    match std::fs::symlink_metadata(to) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Makes a new name last.
fn sync_folder(path: &str) -> std::io::Result<()> {
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Busy {
    fn enter(&self, key: &TargetKey) -> Option<Entered> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        free.then(|| Entered { key: key.clone(), busy: self.clone() })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hms_actors::failure::FailureKind;
    use hms_actors::id::{RecipeId, TargetName};

    fn host(busy: &Busy) -> LocalHost {
        let key = TargetKey { recipe: RecipeId::parse("r").unwrap(), target: TargetName::parse("t").unwrap() };
        LocalHost { key, busy: busy.clone(), timeout: Duration::from_millis(20) }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_ends_the_wait_and_keeps_the_target_from_doing_anything_else() {
        let busy = Busy::default();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hanging = host(&busy).step("/f", move |_| Ok(released.recv())).await.unwrap_err();
        assert_eq!((hanging.kind, hanging.definite), (FailureKind::Transient, false));

        let refused = host(&busy).length("/").await.unwrap_err();
        assert!(refused.definite && refused.message.contains("has not returned"), "{refused}");

        drop(release);
        while !busy.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(host(&busy).length("/nonexistent").await, Ok(None));
    }

    #[test]
    fn a_rename_without_the_systems_help_does_not_overwrite_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("a"), "a").unwrap();
        rename_with_a_look(&path("a"), &path("b")).unwrap();
        std::fs::write(path("a"), "again").unwrap();
        let error = rename_with_a_look(&path("a"), &path("b")).unwrap_err();
        assert_eq!((error.kind(), std::fs::read(path("b")).unwrap()), (ErrorKind::AlreadyExists, b"a".to_vec()));
    }
}
