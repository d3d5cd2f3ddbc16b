//! An event as the feed keeps it: CloudEvents 1.0 attributes and the data, digit for digit.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Offset, Timestamp};

/// One event of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub offset: Offset,
    /// When this node accepted it: lateness is counted from here.
    pub published: Timestamp,
    pub id: String,
    /// Mostly that of the event before, which it is then shared with.
    pub source: Arc<str>,
    /// The CloudEvents `type`. Shared as above.
    pub kind: Arc<str>,
    pub subject: Option<String>,
    /// The CloudEvents `time`, RFC 3339, as published.
    pub time: Option<String>,
    /// Extension attributes (`traceparent`, `dataschema` and the publisher's own), in published order.
    pub extensions: Vec<(String, String)>,
    /// A JSON object without insignificant white space; numbers and strings are the publisher's own bytes.
    pub data: Bytes,
}

/// What the order of events is kept by. Events without a key of their own are each their own key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Value(Arc<[u8]>),
    Own(Offset),
}

impl Key {
    /// Whether another event may have it too.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Value(_))
    }
}

/// Which event a record speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRef {
    pub offset: Offset,
    pub id: String,
}

impl From<&Event> for EventRef {
    fn from(event: &Event) -> Self {
        Self { offset: event.offset, id: event.id.clone() }
    }
}
