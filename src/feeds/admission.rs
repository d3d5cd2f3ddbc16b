//! Whether a request is accepted, and which offsets its events get. It writes nothing to disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use hms_actors::id::{FeedName, Offset, Timestamp};

use super::PublishError;
use super::batch::{Batch, Fate, Incoming};
use super::frame::{self, OVERHEAD};
use super::ids::{Known, Print};
use super::index::Entry;
use super::reader;
use super::record::{self, Stamp};
use super::same::{Content, difference};
use super::writer::Writer;

/// What one sync will put on disk.
#[derive(Debug)]
pub(super) struct Group {
    pub published: Timestamp,
    pub buffer: Vec<u8>,
    pub feeds: HashMap<FeedName, Staged>,
    /// The segment's length before the group.
    pub base: u64,
    /// Bytes on disk before the group.
    used: u64,
}

/// The events of a feed in a group.
#[derive(Debug)]
pub(super) struct Staged {
    pub first: Offset,
    pub entries: Vec<Entry>,
    pub ids: Vec<u128>,
    bytes: u64,
}

impl Staged {
    pub fn next(&self) -> Offset {
        self.first + self.entries.len() as Offset
    }
}

impl Group {
    pub fn new(base: u64, published: Timestamp, used: u64) -> Self {
        Self { published, buffer: Vec::new(), feeds: HashMap::new(), base, used }
    }

    /// Where the segment will end.
    pub fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    pub fn events(&self) -> u64 {
        self.feeds.values().map(|staged| staged.entries.len() as u64).sum()
    }

    /// The payload of an event of this group.
    fn payload(&self, feed: &FeedName, offset: Offset) -> Option<&[u8]> {
        let staged = self.feeds.get(feed)?;
        let entry = staged.entries.get(usize::try_from(offset.checked_sub(staged.first)?).ok()?)?;
        let start = u64::from(entry.position) - self.base;
        frame::payload(&self.buffer[start as usize..])
    }

    /// Takes up the events of a request that are new.
    fn stage(&mut self, batch: &Batch, fates: &[Fate], first: Offset) {
        let mut left = fates.iter().filter(|fate| !fate.duplicate).count();
        let (base, published) = (self.base, self.published);
        let fresh = || Staged { first, entries: Vec::with_capacity(left), ids: Vec::with_capacity(left), bytes: 0 };
        let staged = self.feeds.entry(batch.feed.clone()).or_insert_with(fresh);
        self.buffer.reserve(batch.bytes() as usize);
        for (incoming, fate) in batch.events.iter().zip(fates).filter(|(_, fate)| !fate.duplicate) {
            left -= 1;
            let at = self.buffer.len();
            self.buffer.extend_from_slice(batch.frame(incoming));
            let frame = &mut self.buffer[at..];
            let stamp = Stamp { more: left > 0, base: base as u32, offset: fate.offset, published };
            record::stamp(&mut frame[OVERHEAD..], stamp);
            frame::close(frame);
            let position = (base + at as u64) as u32;
            staged.entries.push(Entry { position, length: incoming.length as u32, published });
            staged.ids.push(incoming.print.id);
            staged.bytes += incoming.length as u64;
        }
    }
}

impl Writer {
    /// Takes a request into the group, whole or not at all.
    pub fn admit(&mut self, batch: &Batch, group: &mut Group) -> Result<Vec<Fate>, PublishError> {
        let first = self.next_of(&batch.feed, group);
        let mut fates = Vec::with_capacity(batch.events.len());
        let judged = self.judge(batch, group, first, &mut fates);
        let taken = judged.and_then(|()| {
            let new = batch.events.iter().zip(&fates).filter(|(_, fate)| !fate.duplicate);
            match new.map(|(incoming, _)| incoming.length as u64).sum() {
                0 => Ok(()),
                bytes => self.check_room(&batch.feed, bytes, group),
            }
        });
        if let Err(refused) = taken {
            let claimed = batch.events.iter().zip(&fates).filter(|(_, fate)| !fate.duplicate);
            for (incoming, _) in claimed {
                self.ids.recent.remove(&incoming.print.id);
            }
            return Err(refused);
        }
        group.stage(batch, &fates, first);
        Ok(fates)
    }

    /// Tells new events from repeats, and refuses an id that is used again for something else. Ids that are new are
    /// claimed at once.
    fn judge(
        &mut self,
        batch: &Batch,
        group: &Group,
        first: Offset,
        fates: &mut Vec<Fate>,
    ) -> Result<(), PublishError> {
        let mut next = first;
        if !self.options.remember_ids {
            fates.extend((first..).take(batch.events.len()).map(|offset| Fate { offset, duplicate: false }));
            return Ok(());
        }
        let older = self.ids.older(batch.events.iter().map(|incoming| incoming.print.id));
        let older = older.map_err(|error| PublishError::Unwritable {
            message: format!("the memory of event ids can't be read: {error}"),
        })?;
        for incoming in &batch.events {
            let Print { id, content } = incoming.print;
            let claim = Known { content, offset: next };
            let known = match self.ids.recent.entry(id) {
                Slot::Occupied(known) => Some(*known.get()),
                Slot::Vacant(unknown) => {
                    let known = older.get(&id).copied();
                    if known.is_none() {
                        unknown.insert(claim);
                    }
                    known
                }
            };
            // What was lost is not known any more: its publisher is the one who can bring it back.
            let fate = match known {
                Some(known) if !self.has_lost(&batch.feed, known.offset) => {
                    self.check_repeat(batch, incoming, known, group, fates)?;
                    Fate { offset: known.offset, duplicate: true }
                }
                known => {
                    if known.is_some() {
                        self.ids.recent.insert(id, claim);
                    }
                    next += 1;
                    Fate { offset: next - 1, duplicate: false }
                }
            };
            fates.push(fate);
        }
        Ok(())
    }

    /// Refuses an event that is not the one its id was used for before. `fates` are those of the events before it in
    /// the request.
    fn check_repeat(
        &self,
        batch: &Batch,
        incoming: &Incoming,
        known: Known,
        group: &Group,
        fates: &[Fate],
    ) -> Result<(), PublishError> {
        if known.content == incoming.print.content {
            return Ok(());
        }
        let view = batch.view(incoming);
        let content = Content::from(&view);
        let of_request = fates.iter().position(|fate| !fate.duplicate && fate.offset == known.offset);
        let differs = if let Some(n) = of_request {
            difference(Content::from(&batch.view(&batch.events[n])), content)
        } else if let Some(earlier) = self.gathered(group).find_map(|group| group.payload(&batch.feed, known.offset)) {
            let earlier = record::decode(earlier).expect("it was encoded here");
            difference(Content::from(&earlier), content)
        } else if let Some(earlier) = self.stored(&batch.feed, known.offset) {
            difference(Content::from(&earlier), content)
        } else {
            Some("content") // only its hash is left
        };
        match differs {
            None => Ok(()),
            Some(differs) => Err(PublishError::Conflict {
                id: batch.id(incoming).to_owned(),
                offset: known.offset,
                differs: differs.to_owned(),
            }),
        }
    }

    /// An event that is kept. One that can't be read counts as gone: the hash has said that they differ.
    fn stored(&self, feed: &FeedName, offset: Offset) -> Option<hms_actors::event::Event> {
        let located = self.shared.state().locate(feed, offset, offset + 1, 1).ok()??;
        reader::read_now(located, feed, 1).ok()?.pop()
    }

    fn has_lost(&self, feed: &FeedName, offset: Offset) -> bool {
        self.shared.state().feeds.get(feed).is_some_and(|feed| feed.has_lost(offset))
    }

    /// This group and the one before it, which is being written.
    fn gathered<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Group> {
        [group].into_iter().chain(self.flying.as_ref().map(|flying| &*flying.group))
    }

    fn staged<'a>(&'a self, feed: &FeedName, group: &'a Group) -> impl Iterator<Item = &'a Staged> {
        self.gathered(group).filter_map(|group| group.feeds.get(feed))
    }

    /// The offset that the feed's next event gets.
    fn next_of(&self, feed: &FeedName, group: &Group) -> Offset {
        let head = || self.shared.state().feeds.get(feed).map_or(0, |feed| feed.head.get());
        self.staged(feed, group).next().map_or_else(head, Staged::next)
    }

    /// Whether the feed and the node have room for the bytes.
    fn check_room(&mut self, feed: &FeedName, bytes: u64, group: &Group) -> Result<(), PublishError> {
        let limit = self.options.feed_disk;
        let staged = self.staged(feed, group).map(|staged| staged.bytes).sum::<u64>();
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
        if group.end() + bytes > u64::from(u32::MAX) {
            let message = "the journal's segment has no room, and the disk none for a new one".to_owned();
            return Err(PublishError::DiskFull { message });
        }
        Ok(())
    }

    fn feed_bytes(&self, feed: &FeedName) -> u64 {
        self.shared.state().feeds.get(feed).map_or(0, |feed| feed.bytes)
    }
}
