//! A partner that takes files on a path of this machine: where its rows go and what they look like.
//! The protocol is the one of SFTP; links are followed, as an SFTP server follows them.

mod classify;
mod host;

use std::sync::Arc;

use async_trait::async_trait;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, TargetKey, Timestamp};
use hms_actors::ports::{FileHost, FilePartner, Rows};
use hms_actors::work::{Place, Row};

use super::rows::{self, PathOf, RowFormat};
use crate::fault;
use crate::formats::Shape;
use crate::recipe::model::FileTarget;
pub use host::Busy;
use host::LocalHost;

/// A target with `adapter: file`.
pub struct LocalPartner {
    key: TargetKey,
    rows: Arc<RowFormat>,
    path_of: PathOf,
    busy: Busy,
}

impl LocalPartner {
    /// `busy` is one for the node.
    pub fn new(key: TargetKey, target: &FileTarget, shape: Shape, path_of: PathOf, busy: Busy) -> Self {
        Self { key, rows: Arc::new(RowFormat::new(shape, target)), path_of, busy }
    }
}

#[async_trait(?Send)]
impl FilePartner for LocalPartner {
    fn place(&self, moment: Timestamp, batch: (Offset, Offset)) -> Result<Place, Failure> {
        Ok(Place { host: String::new(), port: 0, user: String::new(), path: (self.path_of)(moment, batch) })
    }

    fn encode(&self, events: &[Event]) -> Result<Rows, Failure> {
        self.rows.encode(events)
    }

    async fn render(&self, events: Vec<Event>) -> Result<(Vec<Row>, Rows), Failure> {
        rows::render(self.rows.clone(), events).await
    }

    async fn connect(&self, _place: &Place) -> Result<Box<dyn FileHost>, Failure> {
        fault::adapter("adapter.file", &self.key);
        Ok(Box::new(LocalHost::new(self.key.clone(), self.busy.clone())))
    }
}
