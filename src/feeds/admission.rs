//! Whether a request is accepted, and which offsets its events get. It writes nothing to disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use hms_actors::id::{FeedName, Offset, Timestamp};

use super::frame::{self, MAX_PAYLOAD, OVERHEAD};
use super::ids::{Known, Print};
use super::index::Entry;
use super::reader;
use super::record::{self, Stamp};
use super::same::{Content, difference};
use super::writer::Writer;
use super::{Accepted, NewEvent, PublishError};

/// A request to publish, encoded on its own thread as far as that goes.
#[derive(Debug)]
pub(super) struct Request {
    feed: FeedName,
    events: Vec<Incoming>,
    /// Of the frames.
    pub bytes: u64,
}

#[derive(Debug)]
struct Incoming {
    id: String,
    payload: Vec<u8>,
    print: Print,
}

impl Incoming {
    fn frame_bytes(&self) -> u64 {
        (OVERHEAD + self.payload.len()) as u64
    }
    fn view(&self) -> record::View<'_> {
        record::decode(&self.payload).expect("it was encoded here")
    }
}

impl Request {
    pub fn prepare(feed: &FeedName, events: Vec<NewEvent>) -> Result<Self, PublishError> {
        let incoming = |event: NewEvent| {
            let payload = record::encode(feed, &event);
            if payload.len() > MAX_PAYLOAD {
                let message = format!("an event of {} bytes; the journal takes {MAX_PAYLOAD}", payload.len());
                return Err(PublishError::DiskFull { message });
            }
            let print = Print::of(&record::decode(&payload).expect("it was just encoded"));
            Ok(Incoming { id: event.id, payload, print })
        };
        let events: Vec<Incoming> = events.into_iter().map(incoming).collect::<Result<_, _>>()?;
        let bytes = events.iter().map(Incoming::frame_bytes).sum();
        Ok(Self { feed: feed.clone(), events, bytes })
    }
}

/// What one sync will put on disk.
#[derive(Debug)]
pub(super) struct Group {
    pub published: Timestamp,
    pub buffer: Vec<u8>,
    pub staged: Vec<Staged>,
    pub feeds: HashMap<FeedName, StagedFeed>,
    /// The segment's length before the group.
    base: u64,
    /// Bytes on disk before the group.
    used: u64,
}

/// An event of the group.
#[derive(Debug)]
pub(super) struct Staged {
    pub feed: FeedName,
    pub offset: Offset,
    pub entry: Entry,
    pub id: u128,
}

/// What a feed will have come to with the group.
#[derive(Debug, Clone, Copy)]
pub(super) struct StagedFeed {
    pub next: Offset,
    bytes: u64,
}

/// What an event of a request is.
#[derive(Debug, Clone, Copy)]
struct Fate {
    offset: Offset,
    duplicate: bool,
}

impl Group {
    pub fn new(base: u64, published: Timestamp, used: u64) -> Self {
        Self { published, buffer: Vec::new(), staged: Vec::new(), feeds: HashMap::new(), base, used }
    }

    /// The payload of an event of this group.
    fn payload(&self, feed: &FeedName, offset: Offset) -> Option<&[u8]> {
        let event = self.staged.iter().find(|event| event.feed == *feed && event.offset == offset)?;
        let start = u64::from(event.entry.position) - self.base;
        frame::payload(&self.buffer[start as usize..])
    }

    fn stage(&mut self, feed: &FeedName, offset: Offset, mut incoming: Incoming, more: bool) {
        let position = (self.base + self.buffer.len() as u64) as u32;
        let stamp = Stamp { more, base: self.base as u32, offset, published: self.published };
        record::stamp(&mut incoming.payload, stamp);
        frame::put(&mut self.buffer, &incoming.payload);
        let entry = Entry { position, length: incoming.frame_bytes() as u32, published: self.published };
        self.staged.push(Staged { feed: feed.clone(), offset, entry, id: incoming.print.id });
    }
}

impl Writer {
    /// Takes a request into the group, whole or not at all.
    pub fn admit(&mut self, request: Request, group: &mut Group) -> Result<Vec<Accepted>, PublishError> {
        let fates = self.judge(&request, group)?;
        let new = request.events.iter().zip(&fates).filter(|(_, fate)| !fate.duplicate);
        let bytes: u64 = new.map(|(incoming, _)| incoming.frame_bytes()).sum();
        if bytes > 0 {
            self.check_room(&request.feed, bytes, group)?;
        }
        let mut left = fates.iter().filter(|fate| !fate.duplicate).count();
        let staged = self.staged_feed(&request.feed, group);
        group.feeds.insert(
            request.feed.clone(),
            StagedFeed { next: staged.next + left as Offset, bytes: staged.bytes + bytes },
        );
        let accept = |(incoming, fate): (Incoming, Fate)| {
            let id = incoming.id.clone();
            if !fate.duplicate {
                left -= 1;
                let known = Known { content: incoming.print.content, offset: fate.offset };
                self.ids.recent.insert(incoming.print.id, known);
                group.stage(&request.feed, fate.offset, incoming, left > 0);
            }
            Accepted { id, offset: fate.offset, duplicate: fate.duplicate }
        };
        Ok(request.events.into_iter().zip(fates).map(accept).collect())
    }

    /// Tells new events from repeats, and refuses an id that is used again for something else.
    fn judge(&self, request: &Request, group: &Group) -> Result<Vec<Fate>, PublishError> {
        let mut next = self.staged_feed(&request.feed, group).next;
        let mut fresh: HashMap<u128, (Offset, &Incoming)> = HashMap::new();
        let mut fates = Vec::with_capacity(request.events.len());
        for incoming in &request.events {
            let known = self.ids.find(incoming.print.id).map_err(|error| PublishError::Unwritable {
                message: format!("the memory of event ids can't be read: {error}"),
            })?;
            // What was lost is not known any more: its publisher is the one who can bring it back.
            let known = known.filter(|known| !self.has_lost(&request.feed, known.offset));
            let fate = match (known, fresh.entry(incoming.print.id)) {
                (Some(known), _) => {
                    self.check_repeat(&request.feed, incoming, known, group)?;
                    Fate { offset: known.offset, duplicate: true }
                }
                (None, Slot::Occupied(earlier)) => {
                    let (offset, earlier) = *earlier.get();
                    let differs = difference(Content::from(&earlier.view()), Content::from(&incoming.view()));
                    conflict(incoming, offset, differs)?;
                    Fate { offset, duplicate: true }
                }
                (None, Slot::Vacant(slot)) => {
                    slot.insert((next, incoming));
                    next += 1;
                    Fate { offset: next - 1, duplicate: false }
                }
            };
            fates.push(fate);
        }
        Ok(fates)
    }

    /// Refuses an event that is not the one its id was used for before.
    fn check_repeat(
        &self,
        feed: &FeedName,
        incoming: &Incoming,
        known: Known,
        group: &Group,
    ) -> Result<(), PublishError> {
        if known.content == incoming.print.content {
            return Ok(());
        }
        let view = incoming.view();
        let content = Content::from(&view);
        let differs = match group.payload(feed, known.offset).and_then(record::decode) {
            Some(earlier) => difference(Content::from(&earlier), content),
            None => match self.stored(feed, known.offset) {
                Some(earlier) => difference(Content::from(&earlier), content),
                None => Some("content"), // only its hash is left
            },
        };
        conflict(incoming, known.offset, differs)
    }

    /// An event that is kept. One that can't be read counts as gone: the hash has said that they differ.
    fn stored(&self, feed: &FeedName, offset: Offset) -> Option<hms_actors::event::Event> {
        let located = self.shared.state().locate(feed, offset, offset + 1, 1).ok()??;
        reader::read_now(located, feed, 1).ok()?.pop()
    }

    fn has_lost(&self, feed: &FeedName, offset: Offset) -> bool {
        self.shared.state().feeds.get(feed).is_some_and(|feed| feed.has_lost(offset))
    }

    fn staged_feed(&self, feed: &FeedName, group: &Group) -> StagedFeed {
        group.feeds.get(feed).copied().unwrap_or_else(|| StagedFeed {
            next: self.shared.state().feeds.get(feed).map_or(0, |feed| *feed.head.borrow()),
            bytes: 0,
        })
    }

    /// Whether the feed and the node have room for the bytes.
    fn check_room(&mut self, feed: &FeedName, bytes: u64, group: &Group) -> Result<(), PublishError> {
        let (limit, staged) = (self.options.feed_disk, self.staged_feed(feed, group).bytes);
        let mut used = self.feed_bytes(feed) + staged;
        if used + bytes > limit {
            self.trim_feed(feed, used + bytes - limit);
            used = self.feed_bytes(feed) + staged;
        }
        if used + bytes > limit {
            return Err(PublishError::FeedFull { feed: feed.to_string(), used, limit });
        }
        let (limit, used) = (self.options.disk, group.used + group.buffer.len() as u64);
        if used + bytes > limit {
            return Err(PublishError::NodeFull { used, limit });
        }
        if group.base + group.buffer.len() as u64 + bytes > u64::from(u32::MAX) {
            let message = "the journal's segment has no room, and the disk none for a new one".to_owned();
            return Err(PublishError::DiskFull { message });
        }
        Ok(())
    }

    fn feed_bytes(&self, feed: &FeedName) -> u64 {
        self.shared.state().feeds.get(feed).map_or(0, |feed| feed.bytes)
    }
}

fn conflict(incoming: &Incoming, offset: Offset, differs: Option<&str>) -> Result<(), PublishError> {
    match differs {
        None => Ok(()),
        Some(differs) => Err(PublishError::Conflict { id: incoming.id.clone(), offset, differs: differs.to_owned() }),
    }
}
