//! Reading events back. It decides nothing about what is kept.
//!
//! The active segment was written a moment ago: its pages are in memory, and reading them on the caller's
//! thread is cheaper than a change of thread. A sealed segment may be cold, and a cold read on an arbiter
//! would stall all its actors: it goes to the pool of blocking threads.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, Offset};

use super::files::INDEX;
use super::frame;
use super::index::Entry;
use super::record;
use super::state::{Entries, Located, Shared};

/// Entries looked up in one step.
const STEP: u32 = 4_096;
/// Neighbouring records are read together up to this size...
const CHUNK: usize = 256 * 1024;
/// ...and count as neighbours when no more than this lies between them.
const GAP: u32 = 512;
/// A disk that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// What to read, as `EventLog::read` has it.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub feed: FeedName,
    pub from: Offset,
    pub until: Offset,
    pub max_events: usize,
    pub max_bytes: usize,
}

/// Reads as much of the span as there is.
pub(super) async fn read(shared: &Shared, mut span: Span) -> Result<Vec<Event>, Failure> {
    let mut events: Vec<Event> = Vec::new();
    while span.max_events > 0 && span.max_bytes > 0 {
        let most = u32::try_from(span.max_events).unwrap_or(STEP).min(STEP);
        let located = shared.state().locate(&span.feed, span.from, span.until, most);
        let read = match located {
            Ok(Some(located)) => read_located(located, &span).await,
            Ok(None) => break,
            Err(error) => Err(error),
        };
        let read = read.map_err(|error| Failure::node(format!("reading feed `{}`: {error}", span.feed)))?;
        let Some(last) = read.last() else { break };
        span.from = last.offset + 1;
        span.max_events -= read.len();
        span.max_bytes = span.max_bytes.saturating_sub(read.iter().map(|event| event.data.len()).sum());
        if events.is_empty() {
            events = read;
        } else {
            events.extend(read);
        }
    }
    Ok(events)
}

async fn read_located(located: Located, span: &Span) -> io::Result<Vec<Event>> {
    if matches!(located.entries, Entries::Here(_)) {
        return read_now(located, &span.feed, span.max_bytes);
    }
    let (feed, max_bytes) = (span.feed.clone(), span.max_bytes);
    let reading = tokio::task::spawn_blocking(move || read_now(located, &feed, max_bytes));
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(panic)) => Err(io::Error::other(panic)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("the disk did not answer in {DEADLINE:?}"))),
    }
}

/// Reads events in order, up to the one with which `max_bytes` of data are reached.
pub(super) fn read_now(located: Located, feed: &FeedName, max_bytes: usize) -> io::Result<Vec<Event>> {
    let (log, mut offset) = (located.log, located.first);
    let remedy = remedy(&located.entries);
    let entries = located.entries.load()?;
    let mut rest = entries.as_slice();
    let mut events = Vec::with_capacity(rest.len());
    let mut bytes = 0;
    while bytes < max_bytes && !rest.is_empty() {
        // Frames are longer than their data: several that fit into what is left can't reach the limit early.
        let (chunk, later) = rest.split_at(neighbours(rest, CHUNK.min(max_bytes - bytes)));
        let start = chunk[0].position;
        let mut buffer = vec![0; (end(chunk) - u64::from(start)) as usize];
        log.read_exact_at(&mut buffer, u64::from(start))?;
        for entry in chunk {
            let event = event_in(&buffer[(entry.position - start) as usize..], feed, offset, events.last())
                .ok_or_else(|| damaged(offset, entry, &remedy))?;
            bytes += event.data.len();
            offset += 1;
            events.push(event);
        }
        rest = later;
    }
    Ok(events)
}

/// How many entries, at least one, lie close enough to be read as one piece.
fn neighbours(entries: &[Entry], limit: usize) -> usize {
    let start = u64::from(entries[0].position);
    let close = |pair: &[Entry]| {
        let gap = u64::from(pair[1].position).checked_sub(end(&pair[..1]));
        gap.is_some_and(|gap| gap <= u64::from(GAP)) && end(pair) - start <= limit as u64
    };
    1 + entries.windows(2).take_while(|pair| close(pair)).count()
}

/// Where the last of the entries ends.
fn end(entries: &[Entry]) -> u64 {
    entries.last().map_or(0, |entry| u64::from(entry.position) + u64::from(entry.length))
}

/// The event at the start of the bytes, if it is whole and the one that is meant.
fn event_in(bytes: &[u8], feed: &FeedName, offset: Offset, before: Option<&Event>) -> Option<Event> {
    let view = record::decode(frame::payload(bytes)?)?;
    (view.feed == feed.as_str() && view.stamp.offset == offset).then(|| view.to_event(before))
}

/// A start looks into every segment that has no index, and into the one that is written.
fn remedy(entries: &Entries) -> String {
    match entries {
        Entries::Here(_) => "Start the node again".to_owned(),
        Entries::Stored { run, .. } => {
            format!("Stop the node, remove events/{:012}.{INDEX} and start it again", run.segment)
        }
    }
}

fn damaged(offset: Offset, entry: &Entry, remedy: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the event at offset {offset} is damaged on disk (byte {} of its segment). {remedy}: what can be read is \
             kept, the damaged file is set aside, and what is lost becomes a dead letter",
            entry.position
        ),
    )
}
