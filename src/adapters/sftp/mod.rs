//! A partner that takes files over SFTP: where its rows go, what they look like, and a session with its host.
//! When to write, and what a failure means for the plan, is the heart's affair.

mod auth;
mod classify;
mod connect;
#[cfg(any(test, feature = "fuzzed"))]
pub(crate) mod fuzzed;
mod host;
mod known_hosts;
mod stream;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use async_trait::async_trait;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, TargetKey, Timestamp};
use hms_actors::ports::{FileHost, FilePartner, Rows};
use hms_actors::work::{Place, Row};

use super::rows::{self, PathOf, RowFormat};
use crate::config::ConnectTo;
use crate::egress::Egress;
use crate::fault;
use crate::formats::Shape;
use crate::recipe::model::SftpTarget;
use crate::secrets::Secrets;
use stream::Line;

/// A target with `adapter: sftp`.
pub struct SftpPartner {
    key: TargetKey,
    target: SftpTarget,
    rows: Arc<RowFormat>,
    path_of: PathOf,
    context: SftpContext,
    /// The last session's.
    line: RefCell<Weak<Line>>,
    made_with: RefCell<Option<connect::MadeWith>>,
}

/// What a node gives to all its SFTP partners.
#[derive(Debug, Clone)]
pub struct SftpContext {
    pub secrets: Arc<Secrets>,
    pub connect_to: ConnectTo,
    pub egress: Egress,
    /// Whether nothing but approved algorithms is used.
    pub approved_only: bool,
    /// Read for each connection. The names in it are those of the recipes, whatever `connect_to` says.
    pub known_hosts: PathBuf,
}

impl SftpPartner {
    pub fn new(key: TargetKey, target: &SftpTarget, shape: Shape, path_of: PathOf, context: SftpContext) -> Self {
        let rows = Arc::new(RowFormat::new(shape, &target.file));
        Self {
            key,
            target: target.clone(),
            rows,
            path_of,
            context,
            line: RefCell::default(),
            made_with: RefCell::default(),
        }
    }
}

#[async_trait(?Send)]
impl FilePartner for SftpPartner {
    fn place(&self, moment: Timestamp, batch: (Offset, Offset)) -> Result<Place, Failure> {
        let SftpTarget { host, port, user, .. } = &self.target;
        Ok(Place { host: host.clone(), port: *port, user: user.clone(), path: (self.path_of)(moment, batch) })
    }

    fn encode(&self, events: &[Event]) -> Result<Rows, Failure> {
        self.rows.encode(events)
    }

    async fn render(&self, events: Vec<Event>) -> Result<(Vec<Row>, Rows), Failure> {
        rows::render(self.rows.clone(), events).await
    }

    async fn connect(&self, place: &Place) -> Result<Box<dyn FileHost>, Failure> {
        fault::adapter("adapter.sftp", &self.key);
        if let Some(older) = self.line.take().upgrade() {
            older.end();
        }
        let (host, line) = self.dial(place).await?;
        self.line.replace(Rc::downgrade(&line));
        Ok(Box::new(host))
    }

    async fn unchanged(&self, place: &Place) -> bool {
        self.is_unchanged(place).await
    }
}
