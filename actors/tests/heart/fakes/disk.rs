//! A partner's disk that can fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::ports::*;
use hms_actors::work::Place;

/// A partner's disk, and when it fails: after `fuse` more operations every one fails; the one that burns it
/// may have done a part of its work.
#[derive(Default)]
pub struct Disk {
    pub files: BTreeMap<String, Vec<u8>>,
    pub fuse: Option<u32>,
    /// How many bytes of the write that burns the fuse arrive.
    pub partial: usize,
    pub path: String,
    /// So many connections never come about.
    pub hangs: u32,
    /// The folder is not there: nothing can be made in it.
    pub no_folder: bool,
}

impl Disk {
    fn step(&mut self) -> Result<bool, Failure> {
        match &mut self.fuse {
            None => Ok(true),
            Some(0) => Err(Failure::transient("connection lost")),
            Some(left) => {
                *left -= 1;
                Ok(*left > 0)
            }
        }
    }
}

pub struct FakeFiles(pub Rc<RefCell<Disk>>);

#[async_trait(?Send)]
impl FilePartner for FakeFiles {
    fn place(&self, _: Timestamp, _: (Offset, Offset)) -> Result<Place, Failure> {
        let path = self.0.borrow().path.clone();
        Ok(Place { host: "h".into(), port: 22, user: "sync".into(), path })
    }
    fn encode(&self, events: &[Event]) -> Result<Rows, Failure> {
        let rows: Vec<String> = events.iter().map(|event| format!("row-{}\n", event.id)).collect();
        let lengths = rows.iter().map(|row| row.len() as u32).collect();
        Ok(Rows { header: Bytes::new(), bytes: rows.concat().into(), lengths })
    }
    async fn connect(&self, _: &Place) -> Result<Box<dyn FileHost>, Failure> {
        let hangs = self.0.borrow().hangs;
        if hangs > 0 {
            self.0.borrow_mut().hangs -= 1;
            std::future::pending::<()>().await;
        }
        self.0.borrow_mut().step()?;
        Ok(Box::new(FakeHost(self.0.clone())))
    }
}

struct FakeHost(Rc<RefCell<Disk>>);

#[async_trait(?Send)]
impl FileHost for FakeHost {
    async fn length(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        let mut disk = self.0.borrow_mut();
        disk.step()?;
        Ok(disk.files.get(path).map(|file| file.len() as u64))
    }

    async fn read(&mut self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let mut disk = self.0.borrow_mut();
        disk.step()?;
        let file = disk.files.get(path).ok_or_else(|| Failure::configuration("gone"))?;
        Ok(file.iter().skip(offset as usize).take(length).copied().collect())
    }

    async fn write(&mut self, path: &str, offset: u64, bytes: &[u8], to: WriteTo) -> Result<Synced, Failure> {
        let mut disk = self.0.borrow_mut();
        let whole = disk.step()?;
        let count = if whole { bytes.len() } else { disk.partial.min(bytes.len()) };
        let file = match to {
            WriteTo::Fresh if disk.no_folder => return Err(Failure::configuration("no such directory")),
            WriteTo::Fresh => {
                disk.files.insert(path.into(), Vec::new());
                disk.files.get_mut(path)
            }
            WriteTo::Existing => disk.files.get_mut(path),
        };
        let file = file.ok_or_else(|| Failure::configuration("gone"))?;
        let offset = offset as usize;
        let end = offset + count;
        file.resize(file.len().max(end), 0);
        file[offset..end].copy_from_slice(&bytes[..count]);
        if whole { Ok(Synced(true)) } else { Err(Failure::transient("connection lost in a write")) }
    }

    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let mut disk = self.0.borrow_mut();
        let answered = disk.step()?;
        if disk.files.contains_key(to) {
            return Err(Failure::transient_definite("exists"));
        }
        // The last operation before the line is cut has its effect in half of the runs: `partial` says in which.
        if answered || disk.partial.is_multiple_of(2) {
            let file = disk.files.remove(from).ok_or_else(|| Failure::configuration("gone"))?;
            disk.files.insert(to.into(), file);
        }
        if answered { Ok(()) } else { Err(Failure::transient("connection lost in a rename")) }
    }
}
