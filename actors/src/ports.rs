//! What the heart needs of the world. Each trait's documentation is its contract: behaviour, errors,
//! and what holds after a crash. All futures run on one arbiter and need not be `Send`; all of them
//! end by themselves (a deadline inside), because a hanging future can't be told from a dead one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::event::{Event, Key};
use crate::failure::{Failure, FailureKind};
use crate::head::FeedHead;
use crate::id::{Epoch, FeedName, Offset, RecipeId, Revision, TargetKey, Timestamp};
use crate::policy::circuit::CircuitMemory;
use crate::receipt::{Cause, Entry, Receipt, Transport};
use crate::settled::Settled;
use crate::work::{Place, Row, Work};

/// The node's wall clock. Durations are measured with tokio's clock, never with this one.
pub trait Clock {
    fn now(&self) -> Timestamp;
}

/// The durable log of events.
#[async_trait(?Send)]
pub trait EventLog {
    /// Events from `from` on, ascending, below `until`; at most `max_events`, and it stops after the event
    /// with which `max_bytes` of data are reached, so that there is at least one if there is any.
    /// Only events that are on disk to stay are given out. Offsets that retention has removed are left out.
    async fn read(
        &self,
        feed: &FeedName,
        from: Offset,
        until: Offset,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Event>, Failure>;

    /// The offset that the next event will get. It changes after events are on disk to stay.
    fn head(&self, feed: &FeedName) -> FeedHead;
}

/// The one commit point and the memory of begun work.
#[async_trait(?Send)]
pub trait Ledger {
    /// Begins an incarnation: every epoch given out before for this target is fenced off from now on.
    async fn open(&self, target: &TargetKey) -> Result<Opened, Failure>;

    /// Stores what the target has begun, replacing what was stored before. On disk to stay on return.
    /// An error means that nothing may be sent.
    async fn begin(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure>;

    /// Appends the records and returns once they are synced, with the tickets that are open then. What says
    /// nothing new is left out: `Delivered` and `DeadLettered` of an event that is settled, `Delivered` of a dead
    /// letter that is gone, `TicketOpened` for an incident that has its ticket (which is brought up to date),
    /// `TicketResolved` of one that is not open. An older epoch is refused as `Fenced`. After any other error the
    /// caller knows nothing about whether they are written: it opens a new incarnation.
    async fn commit(&self, target: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<Vec<OpenTicket>, Failure>;

    /// Stores when the target's bucket is full again. On disk to stay on return.
    async fn pace(&self, target: &TargetKey, epoch: Epoch, full_at: Timestamp) -> Result<(), Failure>;

    /// A dead letter of this target, with its own copy of the event; `None` if there is no such letter (any more).
    async fn letter(&self, target: &TargetKey, number: u64) -> Result<Option<Event>, Failure>;
}

/// What a new incarnation starts from.
#[derive(Debug, Clone)]
pub struct Opened {
    pub epoch: Epoch,
    pub settled: Settled,
    pub work: Option<Work>,
    pub standing: Standing,
    pub tickets: Vec<OpenTicket>,
    /// When the rate limit's bucket is full again.
    pub full_at: Option<Timestamp>,
}

/// What the records say of how it went for a target, up to now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub circuit: CircuitMemory,
    /// Failed attempts since the last success; refused ones don't count.
    pub failures_in_a_row: u32,
    /// Events that were refused since the last success, at most [`crate::delivery::REFUSES_ALL`].
    pub refused: BTreeSet<Offset>,
    /// Attempts at units that are not settled, by first offset and number of events.
    pub tries: BTreeMap<(Offset, u32), Tries>,
    /// What the last attempt since the last success failed of.
    pub last_error: Option<String>,
    /// Until when the partner has asked us to wait.
    pub not_before: Option<Timestamp>,
    /// Events that are not settled and that policies said no to last, by the ids of the policies.
    pub blocked: BTreeMap<Offset, Vec<String>>,
}

/// Failed attempts at one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    pub attempts: u32,
    pub refused: u32,
    pub may_have_arrived: bool,
}

/// A ticket of a target that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTicket {
    pub number: u64,
    pub cause: Cause,
    pub opened_at: Timestamp,
}

/// Is told what happened, after it is durable: metrics and the promised lines.
pub trait Witness {
    /// One attempt ended; `None` is success. `events` were in it.
    fn attempted(&self, target: &TargetKey, failure: Option<FailureKind>, events: u64);
    /// So many events were delivered, this long after their publication.
    fn delivered(&self, target: &TargetKey, waited: Duration, events: u64);
    /// Policies said no to so many events, for the first time or for another reason than before.
    fn blocked(&self, target: &TargetKey, events: u64);
    /// A run ended in which `completed` events were settled by the last of the targets, and `failed` had a failed attempt.
    fn ran(&self, recipe: &RecipeId, completed: u64, failed: u64);
    /// Everything below `frontier` is released for delivery. May be forgotten in a crash.
    fn released(&self, recipe: &RecipeId, frontier: Offset);
    /// A child of the recipe's supervisor was started again.
    fn restarted(&self, recipe: &RecipeId, actor: &str);
}

/// Makes the partners of targets, from the recipe's revision and today's configuration and secrets.
pub trait Partners {
    fn requests(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure>;
    fn files(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn FilePartner>, Failure>;
}

/// Governance: what may be pushed to whom. The heart knows neither policies nor labels: it asks, and does as it is told.
pub trait Governor {
    /// What is asked about a target, as the recipe's revision has it. The target's facts are read once, here. An error
    /// is a no to every event, and so is a judge that can't tell; the heart asks for another one at the next time.
    fn judge(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn Judge>, Failure>;
}

/// Asked about each event before it goes into a batch, and again before each push of what was begun. It answers from
/// memory, at once. The same judge says the same of the same event, always.
pub trait Judge {
    fn decide(&self, event: &Event) -> Verdict;
}

/// An answer of governance. Whatever is not [`Verdict::Allow`] is a no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny(Denial),
    /// No policy could be asked, or one failed: nothing is sent, and nothing is given up for it.
    CannotTell {
        words: String,
    },
}

/// Why an event may not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Ids of the policies that say no, in order; none where none could be asked.
    pub policies: Vec<String>,
    /// For the operator. Never holds a value of the event.
    pub words: String,
}

/// A partner that takes requests.
#[async_trait(?Send)]
pub trait RequestPartner {
    /// What the event's order is kept by.
    fn key(&self, event: &Event) -> Key;

    /// What new work begins with besides the recipe's revision (the version of a key): it is stored with the work and
    /// comes back with each attempt at it. An error means that nothing can be begun.
    fn seal(&self) -> Result<u32, Failure> {
        Ok(0)
    }

    /// Makes the bodies of requests that will be sent, begun under `seal`; it may be done on a thread of its own, while other
    /// things go on. Where there is none (all of them, or one that can't be made) [`Self::send`] makes it, or fails.
    async fn render(&self, _requests: Vec<Arc<[Event]>>, _seal: u32) -> Vec<Option<Body>> {
        Vec::new()
    }

    /// One attempt: reads the secrets, connects, sends, reads the answer. Encoding the same events again
    /// under the same seal gives the same bytes. A failure that isn't `definite` may have had its effect.
    async fn send(&self, request: &Request) -> Result<Sent, Failure>;
}

/// The events of one request, in order, never empty.
#[derive(Debug, Clone)]
pub struct Request {
    pub target: TargetKey,
    pub feed: FeedName,
    pub events: Arc<[Event]>,
    /// If it is made already.
    pub body: Option<Body>,
    /// One event that was a dead letter: it goes under the key of a single event, whatever the target's batches are.
    pub replay: bool,
    /// What [`RequestPartner::seal`] said when this was begun.
    pub seal: u32,
}

/// What a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Bytes,
    pub sha256: [u8; 32],
}

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub receipt: Receipt,
    pub payload_sha256: [u8; 32],
}

/// A partner that reads a file.
#[async_trait(?Send)]
pub trait FilePartner {
    /// Where rows planned at `moment` go. `batch` is `(first, last)` offset.
    fn place(&self, moment: Timestamp, batch: (Offset, Offset)) -> Result<Place, Failure>;

    /// The rows of the events, each with its line end. Refused names the first event that can't be encoded.
    fn encode(&self, events: &[Event]) -> Result<Rows, Failure>;

    /// The same, with what a plan keeps of each event. It may be done on a thread of its own, while other things go on.
    async fn render(&self, events: Vec<Event>) -> Result<(Vec<Row>, Rows), Failure> {
        self.encode(&events).map(|rows| (Row::of(&events, &rows), rows))
    }

    /// A live, authenticated connection, made new: an older one of this partner is shut down first.
    async fn connect(&self, place: &Place) -> Result<Box<dyn FileHost>, Failure>;

    /// Whether secrets and known hosts are still those with which the last connection was made.
    async fn unchanged(&self, _place: &Place) -> bool {
        true
    }
}

/// Encoded rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// For the start of a new file; empty if the target wants none.
    pub header: Bytes,
    pub bytes: Bytes,
    /// Length of each event's row.
    pub lengths: Vec<u32>,
}

/// Files on a partner's machine, over one connection. After any error the connection is not used again.
#[async_trait(?Send)]
pub trait FileHost {
    /// Length of the file at `path`, following links; `None` if nothing is there.
    async fn length(&mut self, path: &str) -> Result<Option<u64>, Failure>;

    /// Bytes from `offset`, at most `length`; fewer only at the end of the file.
    async fn read(&mut self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure>;

    /// Writes all the bytes at `offset` and syncs. `Fresh` creates the file or empties it; `Existing` fails if it is gone.
    /// Says whether the server could sync. After an error or a crash any part of the bytes may be there.
    async fn write(&mut self, path: &str, offset: u64, bytes: &[u8], file: WriteTo) -> Result<Synced, Failure>;

    /// Renames within a folder and syncs it where that is possible. Never overwrites: it fails if `to` exists.
    async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure>;

    /// What protects the connection, if there is a connection to protect.
    fn transport(&self) -> Option<Transport> {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteTo {
    Fresh,
    Existing,
}

/// Whether the bytes are known to be on the partner's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced(pub bool);

/// When a recipe runs.
#[derive(Clone)]
pub enum Schedule {
    Every(Duration),
    OnChange,
    Calendar(Arc<dyn Calendar>),
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {every:?}"),
            Self::OnChange => f.write_str("on_change"),
            Self::Calendar(_) => f.write_str("cron"),
        }
    }
}

/// A calendar of moments (cron, with a time zone).
pub trait Calendar: Send + Sync {
    /// The first moment after `moment`; `None` if there is none.
    fn next_after(&self, moment: Timestamp) -> Option<Timestamp>;
}

/// What is shared between arbiters serves each of them.
#[async_trait(?Send)]
impl<T: EventLog + ?Sized> EventLog for Arc<T> {
    async fn read(
        &self,
        feed: &FeedName,
        from: Offset,
        until: Offset,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Event>, Failure> {
        (**self).read(feed, from, until, max_events, max_bytes).await
    }
    fn head(&self, feed: &FeedName) -> FeedHead {
        (**self).head(feed)
    }
}

/// As above.
#[async_trait(?Send)]
impl<T: Ledger + ?Sized> Ledger for Arc<T> {
    async fn open(&self, target: &TargetKey) -> Result<Opened, Failure> {
        (**self).open(target).await
    }
    async fn begin(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        (**self).begin(target, epoch, work).await
    }
    async fn commit(&self, target: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<Vec<OpenTicket>, Failure> {
        (**self).commit(target, epoch, entries).await
    }
    async fn pace(&self, target: &TargetKey, epoch: Epoch, full_at: Timestamp) -> Result<(), Failure> {
        (**self).pace(target, epoch, full_at).await
    }
    async fn letter(&self, target: &TargetKey, number: u64) -> Result<Option<Event>, Failure> {
        (**self).letter(target, number).await
    }
}
