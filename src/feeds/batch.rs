//! A request to publish: its events as they will stand in the journal, but for their stamps. It is made on the publisher's
//! thread; what is decided about it, is in `admission`.

use hms_actors::id::{FeedName, Offset};

use super::draft::Draft;
use super::frame::{self, MAX_PAYLOAD};
use super::ids::Print;
use super::record;
use super::{Accepted, NewEvent, PublishError};

/// Bytes that a frame has more than its event in the JSON format, or fewer.
const MORE: usize = 64;

/// The events of a request for one feed.
#[derive(Debug)]
pub struct Batch {
    pub(super) feed: FeedName,
    frames: Vec<u8>,
    pub(super) events: Vec<Incoming>,
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub print: Print,
    at: usize,
    pub length: usize,
}

/// What an event of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub offset: Offset,
    pub duplicate: bool,
}

impl Batch {
    /// `bytes` is about how many it will hold.
    pub fn new(feed: &FeedName, bytes: usize) -> Self {
        Self { feed: feed.clone(), frames: Vec::with_capacity(bytes + MORE), events: Vec::new() }
    }

    pub fn of(feed: &FeedName, events: &[NewEvent]) -> Self {
        let bytes = events.iter().map(|event| event.data.len() + 3 * MORE).sum();
        let mut batch = Self::new(feed, bytes);
        batch.events.reserve_exact(events.len());
        events.iter().for_each(|event| batch.push(&Draft::from(event)));
        batch
    }

    pub fn push(&mut self, event: &Draft<'_>) {
        let at = self.frames.len();
        frame::open(&mut self.frames);
        record::put(&mut self.frames, &self.feed, event);
        let length = self.frames.len() - at;
        self.events.push(Incoming { print: Print::of(self.feed.as_str(), &event.id, event.into()), at, length });
    }

    /// All frames together.
    pub(super) fn bytes(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Refuses an event that no frame can hold.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        let payloads = self.events.iter().map(|event| event.length - frame::OVERHEAD);
        match payloads.max().filter(|&largest| largest > MAX_PAYLOAD) {
            None => Ok(()),
            Some(largest) => {
                let message = format!("an event of {largest} bytes; the journal takes {MAX_PAYLOAD}");
                Err(PublishError::DiskFull { message })
            }
        }
    }

    pub(super) fn frame(&self, event: &Incoming) -> &[u8] {
        &self.frames[event.at..event.at + event.length]
    }

    pub(super) fn view(&self, event: &Incoming) -> record::View<'_> {
        record::decode(&self.frame(event)[frame::OVERHEAD..]).expect("it was encoded here")
    }

    pub(super) fn id(&self, event: &Incoming) -> &str {
        record::id_of(&self.frame(event)[frame::OVERHEAD..]).expect("it was encoded here")
    }

    /// The events, each with a copy of its own.
    pub fn to_events(&self) -> Vec<NewEvent> {
        self.events.iter().map(|event| self.view(event).to_new()).collect()
    }
}

/// A request that was taken: what became of each of its events.
#[derive(Debug)]
pub struct Taken {
    batch: Batch,
    fates: Vec<Fate>,
}

impl Taken {
    pub(super) fn new(batch: Batch, fates: Vec<Fate>) -> Self {
        Self { batch, fates }
    }

    pub fn duplicates(&self) -> usize {
        self.fates.iter().filter(|fate| fate.duplicate).count()
    }

    /// The id and the offset of each event, in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&str, Offset)> {
        self.batch.events.iter().zip(&self.fates).map(|(event, fate)| (self.batch.id(event), fate.offset))
    }

    pub(super) fn accepted(&self) -> Vec<Accepted> {
        let accepted = |((id, offset), fate): ((&str, Offset), &Fate)| Accepted {
            id: id.to_owned(),
            offset,
            duplicate: fate.duplicate,
        };
        self.events().zip(&self.fates).map(accepted).collect()
    }
}
