//! Tests of the log as a whole, on real files. Parts have theirs beside them.

mod crash;
mod faults;
mod keeping;
mod model;
mod publishing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hms_actors::event::Event;
use hms_actors::id::{FeedName, Offset, Timestamp};
use hms_actors::ports::EventLog;

use super::{Accepted, FeedLog, NewEvent, Options, PublishError};

/// A clock that tests set.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }
    /// Segments of 2 KiB; nothing is old before an hour.
    fn options(&self) -> Options {
        let hand = self.0.clone();
        Options {
            segment_bytes: 2_048,
            retention: HOUR,
            dedupe_window: HOUR,
            reserve: 0,
            ..Options::new(Arc::new(move || Timestamp(hand.load(Ordering::Relaxed))))
        }
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

fn name(text: &str) -> FeedName {
    FeedName::parse(text).unwrap()
}

fn event(id: &str, data: &str) -> NewEvent {
    NewEvent {
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: "test.made".to_owned(),
        subject: Some("s".to_owned()),
        time: None,
        extensions: vec![("traceparent".to_owned(), "00-1".to_owned())],
        data: data.to_owned().into(),
    }
}

fn numbered(range: std::ops::Range<u64>) -> Vec<NewEvent> {
    range.map(|n| event(&format!("e{n}"), &format!(r#"{{"n":{n}}}"#))).collect()
}

fn open(dir: &Path, options: Options) -> Arc<FeedLog> {
    FeedLog::open(dir, options).unwrap()
}

/// One event a request, so that segments are sealed in between.
async fn publish_each(log: &FeedLog, feed: &FeedName, range: std::ops::Range<u64>) {
    for event in numbered(range) {
        log.publish(feed, vec![event]).await.unwrap();
    }
}

async fn all(log: &FeedLog, feed: &FeedName) -> Vec<Event> {
    log.read(feed, 0, Offset::MAX, usize::MAX, usize::MAX).await.unwrap()
}

async fn offsets(log: &FeedLog, feed: &FeedName) -> Vec<Offset> {
    all(log, feed).await.iter().map(|event| event.offset).collect()
}

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    found.sort();
    found
}
