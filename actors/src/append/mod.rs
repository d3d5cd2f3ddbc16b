//! Append, exactly once: plan → write at an offset → look; the lane settles.
//!
//! The protocol for a partner that reads a file (docs/delivery.md has it in words). It never trusts an
//! append flag: the bytes and the place are stored durably before the first byte leaves, so that the same
//! bytes at the same offset can be written again after anything. What a file that was left in the middle
//! means is decided in [`recover`]; this file only carries out.

mod look;
mod plan;
pub mod recover;
mod write;

use std::ops::Range as Span;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::event::Event;
use crate::failure::{Failure, FailureKind};
use crate::id::{Epoch, Offset, Revision, TargetKey, Timestamp};
use crate::ports::{Clock, FileHost, FilePartner, Ledger, Partners, Synced, WriteTo};
use crate::receipt::{Cause, Entry, Receipt, Transport};
use crate::settings::{FileSettings, OnDoubt, WriteMode};
use crate::work::{FileWork, Place, Plan, Work};

use look::Before;
pub use plan::Rendered;
use recover::{Range, Seen, Verdict};

/// How much before the planned offset the anchor covers.
const ANCHOR: u64 = 64 * 1024;

/// A write whose answer never came may still be going on at the partner. A plan that follows it waits
/// this long and looks again.
const LATE_WRITE: Duration = Duration::from_secs(60);

/// A connection that was idle for longer may have been closed on the way: a new one is made.
const KEEP: Duration = Duration::from_secs(15);

/// A plan is not made on an older look.
const FRESH: Duration = Duration::from_secs(1);

/// What the appender needs around it.
#[derive(Clone)]
pub struct Tools {
    pub target: TargetKey,
    pub epoch: Epoch,
    pub ledger: Rc<dyn Ledger>,
    pub partners: Rc<dyn Partners>,
    pub clock: Rc<dyn Clock>,
    /// A new connection takes a place in the rate limit.
    pub place: Rc<dyn Fn() -> LocalBoxFuture<'static, Result<(), Failure>>>,
    /// Whether policies let these events be written, as that revision has them: a failure of the kind `Blocked` if not.
    pub gate: Gate,
    /// Called between the steps, with their names; test builds end the process here.
    pub step: fn(&'static str),
}

/// Asks about what is about to be written.
pub type Gate = Rc<dyn Fn(Revision, &[Event]) -> Result<(), Failure>>;

/// Is told of rows that stand in the file, while others of their plan are written.
pub type Tell<'t> = &'t mut dyn FnMut(Arrived);

/// The one writer of a target's files.
pub struct Appender {
    tools: Tools,
    settings: FileSettings,
    revision: u32,
    partner: Option<(u32, Rc<dyn FilePartner>)>,
    connection: Option<Connection>,
    /// The file as it was found for the plan that comes next.
    looked: Option<Looked>,
    /// The last plan, open or settled: what is open must be finished, what is settled says how we left the file.
    last: Option<FileWork>,
    /// Nothing has been sent for the open plan, in this life of the process: it may be dropped.
    untouched: bool,
    /// A write whose answer never came was noticed then, or, after a restart, may have been.
    unanswered: Option<Instant>,
    /// Attempts at the open plan.
    attempts: u32,
    /// The dead letter that plans are made for.
    letter: Option<u64>,
}

/// A connection that is kept for the next attempt.
struct Connection {
    place: Place,
    host: Box<dyn FileHost>,
    used: Instant,
}

/// A file of which we know that it is as we left it.
struct Looked {
    at: Instant,
    place: Place,
    length: u64,
    before: Before,
}

/// Rows that stand in the file. They are delivered once the caller has committed the receipts, together with
/// whatever else follows from the success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    plan: Plan,
    /// Which of its rows: those before them were told of.
    rows: Span<usize>,
    attempt: u32,
    synced: Synced,
    transport: Option<Transport>,
}

impl Arrived {
    pub fn receipts(&self) -> impl Iterator<Item = Entry> {
        let path: Arc<str> = self.plan.place.path.as_str().into();
        let pieces = self.plan.pieces().skip(self.rows.start).take(self.rows.len());
        pieces.map(move |(row, file_offset, _)| Entry::Delivered {
            event: row.into(),
            attempt: self.attempt,
            payload_sha256: row.sha256,
            receipt: Receipt::File {
                path: path.clone(),
                file_offset,
                length: u64::from(row.length),
                fsync: self.synced.0,
                transport: self.transport.clone(),
            },
            letter: self.plan.letter,
        })
    }

    /// Of each event its offset and when it was published.
    pub fn events(&self) -> impl Iterator<Item = (Offset, Timestamp)> {
        self.plan.rows[self.rows.clone()].iter().map(|row| (row.offset, row.published))
    }
}

impl Appender {
    pub fn new(tools: Tools, settings: FileSettings, revision: u32, work: Option<Work>) -> Self {
        let last = match work {
            Some(Work::File(work)) => Some(*work),
            _ => None,
        };
        let unanswered = last.as_ref().map(|_| Instant::now());
        let partner = None;
        let letter = last.as_ref().and_then(|work| work.plan.letter);
        let (connection, looked, untouched, attempts) = (None, None, false, 0);
        Self { tools, settings, revision, partner, connection, looked, last, untouched, unanswered, attempts, letter }
    }

    /// The plan that was begun last; which of its events are settled the caller knows.
    pub fn begun(&self) -> Option<&Plan> {
        self.last.as_ref().map(|work| &work.plan)
    }

    /// Closes a connection that has been idle for long; until when one is kept.
    pub fn let_go(&mut self) -> Option<Instant> {
        self.connection = self.connection.take().filter(|kept| kept.used.elapsed() < KEEP);
        self.connection.as_ref().map(|kept| kept.used + KEEP)
    }

    /// Attempts at the open plan that an earlier incarnation has made.
    pub fn tried_before(&mut self, attempts: u32) {
        self.attempts = attempts;
    }

    /// Nothing of the plan that was begun last is open: no write of it can be going on, and what is remembered of it is
    /// how it left the file.
    pub fn is_settled(&mut self) {
        self.unanswered = None;
        if let Some(FileWork { plan, .. }) = &mut self.last {
            (plan.file_offset, plan.lead, plan.bytes) = (plan.end(), 0, Bytes::new());
            plan.rows = plan.rows.last().cloned().into_iter().collect();
        }
    }

    /// Attempts made at the open plan.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// One attempt at new events: plans and carries out. The plan before must be settled. `letter` is the dead
    /// letter whose event it is.
    pub async fn deliver(&mut self, events: &[Event], letter: Option<u64>) -> Result<Arrived, Failure> {
        self.attempts += 1;
        self.letter = letter;
        let result = self.plan_and_write(events).await;
        self.after(result)
    }

    /// The same for events that are rendered already. `tell` gets what stands in the file and can be settled while the
    /// rest is written; what arrived at last is without it, unless it had to be looked for.
    pub async fn deliver_rendered(&mut self, rendered: Rendered, tell: Tell<'_>) -> Result<Arrived, Failure> {
        self.attempts += 1;
        self.letter = None;
        let result = self.plan_and_write_rendered(rendered, &[], Some(tell)).await;
        self.after(result)
    }

    /// Looks at the file for the plan that comes next, while what was written last is settled. Nothing is stored, and
    /// whatever is not as it should be is met again when that plan is made.
    pub async fn look_ahead(&mut self) {
        let Some(FileWork { plan, .. }) = &self.last else { return };
        let (place, length) = (plan.place.clone(), plan.end());
        let Ok(partner) = self.partner(self.revision) else { return };
        if self.settings.write != WriteMode::Append || !self.stays_connected(&partner, &place).await {
            return;
        }
        match AssertUnwindSafe(self.look(&place, length)).catch_unwind().await {
            Ok(Ok(before)) => {
                self.looked = before.map(|before| Looked { at: Instant::now(), place, length, before });
            }
            Ok(Err(_)) | Err(_) => self.connection = None,
        }
    }

    /// What stands before `length`, if that is the file's.
    async fn look(&mut self, place: &Place, length: u64) -> Result<Option<Before>, Failure> {
        let host = self.host()?;
        if host.length(&place.path).await? != Some(length) {
            return Ok(None);
        }
        look::before(host, &place.path, length).await.map(Some)
    }

    /// Who renders events as they are to be planned next.
    pub fn renders(&mut self) -> Result<Rc<dyn FilePartner>, Failure> {
        self.partner(self.revision)
    }

    /// One attempt to finish the plan that is open. `events` reads its events again, for the case that
    /// they must be planned anew.
    pub async fn finish(&mut self, events: &[Event]) -> Result<Arrived, Failure> {
        self.attempts += 1;
        let result = self.finish_open(events).await;
        self.after(result)
    }

    /// A dead letter will be planned as soon as that can be; a restart remembers it.
    pub async fn promise(&mut self, letter: u64) -> Result<(), Failure> {
        let mut work = self.last.clone().unwrap_or_else(FileWork::nothing);
        work.plan.rows = Arc::default();
        work.plan.letter = Some(letter);
        self.tools.begin(&work).await?;
        self.last = Some(work);
        Ok(())
    }

    /// An operator says that the rows did not arrive: they will be planned again.
    pub async fn forget(&mut self) -> Result<(), Failure> {
        let Some(work) = &mut self.last else { return Ok(()) };
        let mut forgotten = work.clone();
        forgotten.plan.rows = Arc::default();
        forgotten.plan.letter = None;
        self.tools.begin(&forgotten).await?;
        *work = forgotten;
        self.attempts = 0;
        Ok(())
    }

    /// After any failure the connection is not used again; it is said which bytes were tried.
    fn after(&mut self, result: Result<Arrived, Failure>) -> Result<Arrived, Failure> {
        match result {
            Ok(arrived) => {
                self.unanswered = None;
                self.attempts = 0;
                Ok(arrived)
            }
            Err(failure) => {
                // What policies say no to was not tried.
                self.attempts = self.attempts.saturating_sub(u32::from(failure.kind == FailureKind::Blocked));
                (self.connection, self.looked) = (None, None);
                let tried = self.last.as_ref().filter(|work| !self.untouched && !work.plan.rows.is_empty());
                Err(match tried {
                    Some(work) => failure.of(Sha256::digest(&work.plan.bytes).into()),
                    None => failure,
                })
            }
        }
    }

    async fn finish_open(&mut self, events: &[Event]) -> Result<Arrived, Failure> {
        if self.untouched {
            self.ask(self.revision, events, true).await?;
            return self.plan_and_write(events).await;
        }
        let Some(work) = self.last.clone() else { return self.plan_and_write(events).await };
        let partner = self.partner(work.plan.revision)?;
        self.connect(&partner, &work.plan.place).await?;
        let moment = self.moment();
        // They are those that are open, and what is settled of a plan are its first rows.
        let settled = events.first().map_or(0, |event| work.plan.length_before(event.offset));
        let seen = look::at(self.host()?, &work, settled, partner.as_ref(), moment).await?;
        let verdict = recover::verdict(&work, self.settings.write, &seen);
        // What is there is settled, whatever policies say by now.
        match verdict {
            Verdict::Write => self.ask(work.plan.revision, events, nothing_is_there(&work, &seen)).await?,
            Verdict::PlanAgain { .. } => self.ask(self.revision, events, true).await?,
            Verdict::Doubt { .. } if self.settings.on_doubt == OnDoubt::Resend => {
                self.ask(self.revision, events, false).await?;
            }
            Verdict::Settle | Verdict::Doubt { .. } | Verdict::Taken { .. } => {}
        }
        self.act(verdict, work, events).await
    }

    /// Asks whether policies let these events be written. If not, a plan of which nothing is there, and nothing can be
    /// on its way, is dropped: what may go is planned without the rest.
    async fn ask(&mut self, revision: Revision, events: &[Event], nothing_is_there: bool) -> Result<(), Failure> {
        let Err(failure) = (self.tools.gate)(revision, events) else { return Ok(()) };
        let quiet = self.untouched || self.unanswered.is_none_or(|since| since.elapsed() >= LATE_WRITE);
        if nothing_is_there && quiet {
            self.forget().await?;
        }
        Err(failure)
    }

    /// Does what the verdict on an open plan says.
    async fn act(&mut self, verdict: Verdict, work: FileWork, events: &[Event]) -> Result<Arrived, Failure> {
        match verdict {
            // Boxed: writing may look and act again when the file changed under it.
            Verdict::Write => Box::pin(self.write(work, events, None)).await,
            Verdict::Settle => {
                let synced = self.sync(&work.plan).await;
                Ok(self.arrived(&work.plan, 0..work.plan.rows.len(), synced))
            }
            Verdict::PlanAgain { why } => {
                self.let_late_writes_pass()?;
                self.tools.foreign_writer(format!("{}: {why}", work.plan.place.path), self.attempts).await?;
                if let Some(last) = &mut self.last {
                    // What the plan says of the file is no longer how we left it.
                    last.plan.rows = Arc::default();
                }
                self.plan_anew(events).await
            }
            Verdict::Doubt { why } if self.settings.on_doubt == OnDoubt::Resend => {
                tracing::warn!(delivery = %self.tools.target, path = %work.plan.place.path, "in doubt, sending again: {why}");
                self.let_late_writes_pass()?;
                self.forget().await?;
                self.plan_anew(events).await
            }
            Verdict::Doubt { why } | Verdict::Taken { why } => {
                Err(Failure::doubt(format!("{}: {why}", work.plan.place.path)))
            }
        }
    }

    /// Where the events are not at hand, the next attempt does it.
    async fn plan_anew(&mut self, events: &[Event]) -> Result<Arrived, Failure> {
        if events.is_empty() {
            return Err(Failure::transient_definite("the file changed while it was written to: rows are planned anew"));
        }
        Box::pin(self.plan_and_write(events)).await
    }

    /// What makes the delivery done.
    fn arrived(&self, plan: &Plan, rows: Span<usize>, synced: Synced) -> Arrived {
        let transport = self.connection.as_ref().and_then(|connection| connection.host.transport());
        Arrived { plan: plan.clone(), rows, attempt: self.attempts, synced, transport }
    }

    /// Bytes that were found may not have been synced by the write that left them.
    async fn sync(&mut self, plan: &Plan) -> Synced {
        let Ok(host) = self.host() else { return Synced(false) };
        let synced = host.write(&plan.place.path, plan.file_offset, &[], WriteTo::Existing).await;
        synced.unwrap_or_else(|_| {
            self.connection = None;
            Synced(false)
        })
    }

    /// Before rows are planned again after a write whose answer never came.
    fn let_late_writes_pass(&mut self) -> Result<(), Failure> {
        let Some(since) = self.unanswered else { return Ok(()) };
        let rest = LATE_WRITE.saturating_sub(since.elapsed());
        if rest.is_zero() {
            return Ok(());
        }
        let mut failure = Failure::transient_definite(
            "an earlier write was never answered and may still be going on at the partner: looking again before anything is planned anew",
        );
        failure.retry_after = Some(rest);
        Err(failure)
    }

    /// The partner as the recipe's `revision` has it.
    fn partner(&mut self, revision: u32) -> Result<Rc<dyn FilePartner>, Failure> {
        if let Some((made_for, partner)) = &self.partner
            && *made_for == revision
        {
            return Ok(partner.clone());
        }
        let partner = self.tools.partners.files(&self.tools.target, revision)?;
        self.partner = Some((revision, partner.clone()));
        Ok(partner)
    }

    async fn connect(&mut self, partner: &Rc<dyn FilePartner>, place: &Place) -> Result<(), Failure> {
        if !self.stays_connected(partner, place).await {
            // The old socket is shut down before a new one is opened.
            self.connection = None;
            (self.tools.place)().await?;
            let host = partner.connect(place).await?;
            self.connection = Some(Connection { place: place.clone(), host, used: Instant::now() });
        }
        Ok(())
    }

    async fn stays_connected(&self, partner: &Rc<dyn FilePartner>, place: &Place) -> bool {
        self.connection.as_ref().is_some_and(|kept| kept.serves(place)) && partner.unchanged(place).await
    }

    fn host(&mut self) -> Result<&mut dyn FileHost, Failure> {
        match &mut self.connection {
            Some(connection) => {
                connection.used = Instant::now();
                Ok(connection.host.as_mut())
            }
            None => Err(Failure::transient_definite("not connected")),
        }
    }

    /// The moment used for dates; it never goes back, even if the clock does.
    fn moment(&self) -> Timestamp {
        let now = self.tools.clock.now();
        self.last.as_ref().map_or(now, |work| now.max(work.plan.planned_at))
    }
}

impl Connection {
    fn serves(&self, place: &Place) -> bool {
        let at = |place: &Place| (place.host.clone(), place.port, place.user.clone());
        at(&self.place) == at(place) && self.used.elapsed() < KEEP
    }
}

impl Tools {
    async fn begin(&self, work: &FileWork) -> Result<(), Failure> {
        self.ledger.begin(&self.target, self.epoch, Work::File(Box::new(work.clone()))).await
    }

    async fn foreign_writer(&self, reason: String, attempts: u32) -> Result<(), Failure> {
        let entry = Entry::TicketOpened {
            cause: Cause::ForeignWriter,
            last_error: reason.clone(),
            reason,
            attempts,
            backlog: 0,
        };
        self.ledger.commit(&self.target, self.epoch, vec![entry]).await.map(drop)
    }
}

/// Nothing of a plan that is to be written stands under its name.
fn nothing_is_there(work: &FileWork, seen: &Seen) -> bool {
    if work.plan.new_file { seen.length.is_none() } else { seen.range == Range::Nothing }
}
