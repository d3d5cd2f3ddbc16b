//! Files on the partner's machine, over one SFTP session. Every operation has a deadline; after an error, a
//! timeout or a future that was dropped half-way the session's line is ended and nothing is done on it again.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use async_ssh2_lite::{AsyncFile, AsyncSftp, Error};
use async_trait::async_trait;
use futures_util::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use hms_actors::failure::Failure;
use hms_actors::ports::{FileHost, Synced, WriteTo};
use hms_actors::receipt::Transport;
use ssh2::{OpenFlags, OpenType, RenameFlags};

use super::classify::{During, ended, failure, is_answer, is_missing, is_not_offered, timed_out};
use super::stream::{Line, Stream};

/// How much may be on its way at any time: libssh2 keeps many requests in flight. The deadline is for so much, so
/// that a large batch over a slow line is not cut off while it moves.
const BUFFER: usize = 1024 * 1024;

/// Of a new file, before the server's umask.
const MODE: i32 = 0o644;

/// A live session.
pub struct SftpHost {
    sftp: AsyncSftp<Stream>,
    line: Rc<Line>,
    /// For messages.
    host: String,
    timeout: Duration,
    transport: Transport,
}

#[async_trait(?Send)]
impl FileHost for SftpHost {
    async fn length(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        let during = During::Look { path };
        let found = self.step(during, async { present(self.sftp.stat(Path::new(path)).await) }).await?;
        let Some(stat) = found else { return Ok(None) };
        if stat.perm.is_some() && !stat.is_file() {
            return Err(Failure::configuration(format!("{}: `{path}` is not a regular file", self.host)));
        }
        let untold =
            || Failure::configuration(format!("{}: the server does not tell the length of `{path}`", self.host));
        stat.size.ok_or_else(untold).map(Some)
    }

    async fn read(&mut self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let during = During::Read { path };
        let mut file = self.open(during, path, OpenFlags::READ).await?;
        self.step(during, file.seek(std::io::SeekFrom::Start(offset))).await?;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let start = bytes.len();
            bytes.resize(length.min(start + BUFFER), 0);
            let read = self.step(during, file.read(&mut bytes[start..])).await?;
            bytes.truncate(start + read);
            if read == 0 {
                break;
            }
        }
        self.step(during, file.close()).await?;
        Ok(bytes)
    }

    async fn write(&mut self, path: &str, offset: u64, bytes: &[u8], to: WriteTo) -> Result<Synced, Failure> {
        // Never APPEND: OpenSSH ignores offsets on such a handle, so a retry would double rows.
        let flags = match to {
            WriteTo::Fresh => OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE,
            WriteTo::Existing => OpenFlags::WRITE,
        };
        let during = During::Write { path };
        let mut file = self.open(During::Open { path, file: to }, path, flags).await?;
        self.step(during, file.seek(std::io::SeekFrom::Start(offset))).await?;
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(during, send(&mut file, rest)).await?;
        }
        let synced = self.step(during, async { offered(file.fsync().await) }).await?;
        self.step(during, file.close()).await?;
        if to == WriteTo::Fresh {
            self.sync_folder(path).await?;
        }
        Ok(synced)
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let during = During::Rename { from, to };
        // Some servers overwrite whatever they are asked.
        let look = During::Look { path: to };
        if self.step(look, async { present(self.sftp.lstat(Path::new(to)).await) }).await?.is_some() {
            return Err(Failure::transient_definite(format!(
                "{}: renaming `{from}`: `{to}` exists already",
                self.host
            )));
        }
        let flags = RenameFlags::ATOMIC | RenameFlags::NATIVE;
        self.step(during, self.sftp.rename(Path::new(from), Path::new(to), Some(flags))).await?;
        self.sync_folder(to).await
    }

    fn transport(&self) -> Option<Transport> {
        Some(self.transport.clone())
    }
}

impl SftpHost {
    pub(super) fn new(
        sftp: AsyncSftp<Stream>,
        line: Rc<Line>,
        host: String,
        timeout: Duration,
        transport: Transport,
    ) -> Self {
        Self { sftp, line, host, timeout, transport }
    }

    /// One operation: it succeeds, or it is the session's last.
    async fn step<T, E: Into<Error>>(
        &self,
        during: During<'_>,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        if self.line.has_ended() {
            return Err(ended(&self.host, during));
        }
        let guard = self.line.guard();
        let value = within(self.timeout, &self.host, during, operation).await?;
        guard.disarm();
        Ok(value)
    }

    /// A handle must not be dropped open on a live line, it would wait for the server's answer. It never is:
    /// after this each step succeeds or ends the line, and the last one closes the handle.
    async fn open(&self, during: During<'_>, path: &str, flags: OpenFlags) -> Result<AsyncFile<Stream>, Failure> {
        self.step(during, self.sftp.open_mode(Path::new(path), flags, MODE, OpenType::File)).await
    }

    /// Makes a new name in `path`'s folder last, on servers that let a folder be opened as a file (OpenSSH does).
    /// Where they don't, the name is as lasting as the server makes it.
    async fn sync_folder(&self, path: &str) -> Result<(), Failure> {
        let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let during = During::Write { path };
        let Some(mut file) = self.step(during, async { allowed(self.sftp.open(folder).await) }).await? else {
            return Ok(());
        };
        self.step(during, async { allowed(file.fsync().await) }).await?;
        self.step(during, file.close()).await
    }
}

/// A future with a deadline, its failure translated.
pub(super) async fn within<T, E: Into<Error>>(
    timeout: Duration,
    host: &str,
    during: During<'_>,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure(host, during, &error.into())),
        Err(_) => Err(timed_out(host, during, timeout)),
    }
}

/// Sends until the server has one buffer more; what it does not have yet is left. Meanwhile what follows is begun, so that
/// the line never runs empty between two buffers: libssh2 remembers what of `rest` it has sent, and is given it again.
async fn send<'b>(file: &mut AsyncFile<Stream>, mut rest: &'b [u8]) -> std::io::Result<&'b [u8]> {
    let enough = rest.len().saturating_sub(BUFFER);
    while rest.len() > enough {
        let acknowledged = file.write(&rest[..rest.len().min(BUFFER)]).await?;
        if acknowledged == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        rest = &rest[acknowledged..];
    }
    Ok(rest)
}

impl Drop for SftpHost {
    fn drop(&mut self) {
        self.line.end();
    }
}

/// `None` if the server answered that nothing is there.
fn present<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    result.map(Some).or_else(|error| if is_missing(&error) { Ok(None) } else { Err(error) })
}

/// `None` if the server answered that it won't.
fn allowed<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    result.map(Some).or_else(|error| if is_answer(&error) { Ok(None) } else { Err(error) })
}

/// Whether the server could sync.
fn offered(result: Result<(), Error>) -> Result<Synced, Error> {
    match result {
        Err(error) if is_not_offered(&error) => Ok(Synced(false)),
        result => result.map(|()| Synced(true)),
    }
}
