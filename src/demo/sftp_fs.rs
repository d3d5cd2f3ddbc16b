//! SFTP over a folder: what a plain SFTP server offers, for one session of the demo's SSH partner. Writes go where
//! the client says, rename does not overwrite, fsync is offered. Not a server for strangers: its folder is the demo's own.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use russh_sftp::protocol::{
    Attrs, Data, File as Entry, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode, Version,
};
use russh_sftp::server::{Handler, StatusReply};

const FSYNC: &str = "fsync@openssh.com";
/// OpenSSH's limit for one read.
const LONGEST_READ: u32 = 256 << 10;

/// The folder as one client sees it, and what that client has open.
pub(crate) struct Session {
    root: PathBuf,
    files: HashMap<String, File>,
    /// Entries that a listing has still to give out.
    listings: HashMap<String, Vec<Entry>>,
    handles: u64,
}

impl Session {
    pub fn new(root: PathBuf) -> Self {
        Self { root, files: HashMap::new(), listings: HashMap::new(), handles: 0 }
    }

    fn next_handle(&mut self) -> String {
        self.handles += 1;
        self.handles.to_string()
    }

    fn file(&self, handle: &str) -> Result<&File, Refused> {
        self.files.get(handle).ok_or(Refused(StatusCode::Failure.with_message("no such handle")))
    }

    /// The place on this disk; `..` ends at the root.
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(absolute(path).trim_start_matches('/'))
    }
}

/// A client's path from the root, without `.` and `..`.
fn absolute(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A request that failed, with the status that says why.
pub(crate) struct Refused(StatusReply);

impl From<Refused> for StatusReply {
    fn from(Refused(reply): Refused) -> Self {
        reply
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => StatusCode::NoSuchFile,
            ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
            _ => StatusCode::Failure,
        };
        Self(code.with_message(error.to_string()))
    }
}

fn done(id: u32) -> Status {
    Status { id, status_code: StatusCode::Ok, error_message: "Ok".to_owned(), language_tag: "en-US".to_owned() }
}

/// Sets what the client named; a `None` is left as it is.
fn set(file: &File, attrs: &FileAttributes) -> std::io::Result<()> {
    if let Some(size) = attrs.size {
        file.set_len(size)?;
    }
    if let Some(mode) = attrs.permissions {
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    }
    if let (Some(accessed), Some(modified)) = (attrs.atime, attrs.mtime) {
        let at = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
        file.set_times(FileTimes::new().set_accessed(at(accessed)).set_modified(at(modified)))?;
    }
    Ok(())
}

/// Each request is answered before the next one is read; the disk is local, so nothing here waits for long.
impl Handler for Session {
    type Error = Refused;

    fn unimplemented(&self) -> Refused {
        Refused(StatusCode::OpUnsupported.into())
    }

    async fn init(&mut self, _version: u32, _extensions: HashMap<String, String>) -> Result<Version, Refused> {
        let mut version = Version::new();
        version.extensions.insert(FSYNC.to_owned(), "1".to_owned());
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        path: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Result<Handle, Refused> {
        let mode = attrs.permissions.map_or(0o644, |mode| mode & 0o7777);
        let file = OpenOptions::from(flags).mode(mode).open(self.place(&path))?;
        let handle = self.next_handle();
        self.files.insert(handle.clone(), file);
        Ok(Handle { id, handle })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, Refused> {
        self.files.remove(&handle);
        self.listings.remove(&handle);
        Ok(done(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, Refused> {
        let mut data = vec![0; len.min(LONGEST_READ) as usize];
        let length = self.file(&handle)?.read_at(&mut data, offset)?;
        if length == 0 && len > 0 {
            return Err(Refused(StatusCode::Eof.into()));
        }
        data.truncate(length);
        Ok(Data { id, data })
    }

    async fn write(&mut self, id: u32, handle: String, offset: u64, data: Vec<u8>) -> Result<Status, Refused> {
        self.file(&handle)?.write_all_at(&data, offset)?;
        Ok(done(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, Refused> {
        Ok(Attrs { id, attrs: (&fs::symlink_metadata(self.place(&path))?).into() })
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, Refused> {
        Ok(Attrs { id, attrs: (&fs::metadata(self.place(&path))?).into() })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, Refused> {
        Ok(Attrs { id, attrs: (&self.file(&handle)?.metadata()?).into() })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, Refused> {
        let file = OpenOptions::new().write(attrs.size.is_some()).read(true).open(self.place(&path))?;
        set(&file, &attrs)?;
        Ok(done(id))
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Result<Status, Refused> {
        set(self.file(&handle)?, &attrs)?;
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, Refused> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.place(&path))? {
            let entry = entry?;
            entries.push(Entry::new(entry.file_name().to_string_lossy(), (&entry.metadata()?).into()));
        }
        let handle = self.next_handle();
        self.listings.insert(handle.clone(), entries);
        Ok(Handle { id, handle })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, Refused> {
        let files = self.listings.get_mut(&handle).map(std::mem::take).unwrap_or_default();
        if files.is_empty() { Err(Refused(StatusCode::Eof.into())) } else { Ok(Name { id, files }) }
    }

    async fn remove(&mut self, id: u32, path: String) -> Result<Status, Refused> {
        fs::remove_file(self.place(&path))?;
        Ok(done(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, _attrs: FileAttributes) -> Result<Status, Refused> {
        fs::create_dir(self.place(&path))?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, Refused> {
        fs::remove_dir(self.place(&path))?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, Refused> {
        Ok(Name { id, files: vec![Entry::dummy(absolute(&path))] })
    }

    /// As OpenSSH's server does it: a link first, which fails if the new name exists.
    async fn rename(&mut self, id: u32, from: String, to: String) -> Result<Status, Refused> {
        let from = self.place(&from);
        fs::hard_link(&from, self.place(&to))?;
        fs::remove_file(from)?;
        Ok(done(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, Refused> {
        if request != FSYNC {
            return Err(self.unimplemented());
        }
        // The data is one string: four bytes of length, then the handle.
        let handle = data.get(4..).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        self.file(handle)?.sync_all()?;
        Ok(done(id).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_does_not_leave_the_folder() {
        for (path, expected) in
            [("/inbox/a.csv", "/inbox/a.csv"), ("inbox", "/inbox"), ("/../../etc/passwd", "/etc/passwd"), (".", "/")]
        {
            assert_eq!(absolute(path), expected);
        }
    }
}
