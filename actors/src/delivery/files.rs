//! The lane of a file: rows in feed order, one write at a time, through the append protocol.

mod ahead;
mod asked;
mod governed;

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{join, try_join};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Ended;
use super::base::{Base, Failed, Left};
use super::control::NotReplayed;
use crate::append::{Appender, Arrived, Rendered, Tools};
use crate::event::{Event, EventRef};
use crate::failure::{Failure, FailureKind};
use crate::guard::words_of;
use crate::id::Offset;
use crate::policy::circuit::{Permit, Room};
use crate::ports::Tries;
use crate::receipt::{Cause, Entry};
use crate::settings::FileSettings;
use crate::work::{Plan, Row, Work};

use ahead::Ahead;

/// Rows in a plan that was not rendered ahead. Their bytes are bounded by how much of the log is read in one go.
const MAX_ROWS: usize = 10_000;

/// Receipts in one commit.
const RECEIPTS: usize = 8_192;

/// Who waits for a replay.
type Waiter = oneshot::Sender<Result<(), NotReplayed>>;

struct Files {
    appender: Appender,
    /// The dead letter that is being delivered, and who waits for it.
    replay: Option<(u64, Option<Waiter>)>,
    /// Refusals of the event that is next.
    refused: (Offset, Tries),
    /// The events of the attempt that failed last; they are read again where they are needed.
    failed_last: Vec<Offset>,
    /// Policies say no to the event that is next, or to the plan that is open.
    blocked: bool,
    /// What comes after the last plan.
    ahead: Option<Ahead>,
}

/// What a new plan is made of.
enum Batch {
    Events(Vec<Event>),
    /// The events themselves are read again where they are needed.
    Rendered(Rendered),
}

pub(super) async fn run(base: &mut Base, left: Box<Left>, settings: &FileSettings) -> Ended {
    let mut lane = Box::pin(Files::open(base, left, settings.clone())).await?;
    Box::pin(lane.note_hang(base)).await?;
    loop {
        base.refresh();
        let (answers, replays) = Box::pin(base.asks()).await?;
        for answer in answers {
            Box::pin(lane.answered(base, answer)).await?;
        }
        for replay in replays {
            Box::pin(lane.take_replay(base, replay)).await?;
        }
        if base.control.stopping() {
            return Ok(());
        }
        let open = lane.open_rows(base);
        let waits = !open.is_empty() || lane.replay.is_some() || base.settled.below() < base.until();
        let go = waits && base.room() != Room::Nothing && lane.may_ask(base, &open);
        base.show(usize::from(go), go, lane.replay.iter().map(|(letter, _)| *letter).collect());
        let place = if go { Box::pin(base.pacer.try_place()).await? } else { Ok(()) };
        if let Err(at) = place {
            base.wait(Some(at)).await;
        } else if go {
            base.control.under_way_since(Some(Instant::now()));
            Box::pin(lane.attempt(base, open)).await?;
            base.control.under_way_since(None);
            Box::pin(base.close_policy_ticket()).await?;
        } else {
            let asks = base.ask_at().filter(|_| waits && base.room() != Room::Nothing);
            base.wait([lane.appender.let_go(), asks].into_iter().flatten().min()).await;
        }
    }
}

impl Files {
    async fn open(base: &Base, left: Box<Left>, settings: FileSettings) -> Result<Box<Self>, Failure> {
        let Left { work, standing } = *left;
        let tools = Tools {
            target: base.key.clone(),
            epoch: base.epoch,
            ledger: base.env.ledger.clone(),
            partners: base.env.partners.clone(),
            clock: base.env.clock.clone(),
            place: {
                let pacer = base.pacer.clone();
                Rc::new(move || {
                    let pacer = pacer.clone();
                    Box::pin(async move { pacer.place().await })
                })
            },
            gate: {
                let judges = base.judges.clone();
                Rc::new(move |revision, events: &[Event]| {
                    let no = events.iter().find_map(|event| judges.no_to(revision, event));
                    no.map_or(Ok(()), |no| Err(Failure::blocked(no.denial.words)))
                })
            },
            step: base.env.step,
        };
        let letter = match &work {
            Some(Work::File(file)) => file.plan.letter,
            _ => None,
        };
        let replay = match letter {
            // Unless it was delivered or dropped meanwhile.
            Some(letter) => base.letter(letter).await?.map(|_| (letter, None)),
            None => None,
        };
        let mut appender = Appender::new(tools, settings, base.settings.revision, work);
        if let Some(plan) = appender.begun() {
            let mut open = plan.rows.iter().filter(|row| plan.letter.is_some() || !base.settled.contains(row.offset));
            let name = (open.next().map_or(0, |row| row.offset), 1 + open.count() as u32);
            appender.tried_before(standing.tries.get(&name).map_or(0, |tries| tries.attempts));
        }
        let next = base.settled.below();
        let settled = |plan: &Plan| {
            let rows = &plan.rows;
            plan.letter.is_none() && !rows.is_empty() && rows.iter().all(|row| base.settled.contains(row.offset))
        };
        if appender.begun().is_some_and(settled) {
            appender.is_settled();
        }
        let refused = (next, standing.tries.get(&(next, 1)).copied().unwrap_or_default());
        Ok(Box::new(Self { appender, replay, refused, failed_last: Vec::new(), blocked: false, ahead: None }))
    }

    /// The attempt that the incarnation before was ended for counts as a failed one.
    async fn note_hang(&mut self, base: &mut Base) -> Ended {
        let Some(why) = base.hung.take() else { return Ok(()) };
        let letter = self.replay.as_ref().map(|(letter, _)| *letter);
        let Ok(events) = self.read(base, &self.open_rows(base), letter).await else { return Ok(()) };
        let events: Vec<EventRef> = events.iter().map(EventRef::from).collect();
        let attempt = self.appender.attempts() + 1;
        self.appender.tried_before(attempt);
        let (permit, failure) = (base.begin_attempt().await?, Failure::transient(why));
        base.failed(Failed { failure: &failure, events: &events, attempt, permit, letter, also: Vec::new() }).await
    }

    /// The rows of the plan that was begun last, as far as they are not settled.
    fn open_rows(&self, base: &Base) -> Vec<Row> {
        let Some(plan) = self.appender.begun() else { return Vec::new() };
        match (plan.letter, &self.replay) {
            (None, _) => plan.rows.iter().filter(|row| !base.settled.contains(row.offset)).cloned().collect(),
            (Some(of), Some((letter, _))) if of == *letter => plan.rows.to_vec(),
            (Some(_), _) => Vec::new(),
        }
    }

    /// One attempt at the plan that is open, at a dead letter, or at what waits.
    async fn attempt(&mut self, base: &mut Base, open: Vec<Row>) -> Ended {
        let letter = match self.appender.begun() {
            // A plan of events that was begun before the replay was asked for is finished first.
            Some(plan) if !open.is_empty() => plan.letter,
            _ => self.replay.as_ref().map(|(letter, _)| *letter),
        };
        let ahead = self.ahead.take().filter(|ahead| open.is_empty() && letter.is_none() && ahead.is_next(base));
        if let Some(Ahead { rendered, .. }) = ahead {
            return self.carry_out_and_render(base, Batch::Rendered(rendered)).await;
        }
        let events = match (self.read(base, &open, letter).await, letter) {
            (Ok(events), Some(letter)) if events.is_empty() => {
                // Dropped meanwhile: the rest must not wait for it, whatever of it stands in the file.
                self.end_replay(Err(NotReplayed::Gone(letter)));
                return Ok(());
            }
            (Ok(events), _) => events,
            (Err(failure), _) => {
                let permit = base.begin_attempt().await?;
                let (events, also) = (&[][..], Vec::new());
                base.failed(Failed { failure: &failure, events, attempt: 0, permit, letter, also }).await?;
                base.back_off(&failure);
                return Ok(());
            }
        };
        // What is open is asked about when it is known that something must be written.
        let events = if open.is_empty() { self.cleared(base, events, letter).await? } else { events };
        if events.is_empty() {
            return Ok(());
        }
        match letter {
            None if open.is_empty() => self.carry_out_and_render(base, Batch::Events(events)).await,
            _ => self.carry_out(base, &open, letter, Batch::Events(events), false).await,
        }
    }

    /// Carries out a new plan, and renders what comes after it meanwhile.
    async fn carry_out_and_render(&mut self, base: &mut Base, batch: Batch) -> Ended {
        let ahead = self.render_ahead(base, batch.end());
        let carried_out = self.carry_out(base, &[], None, batch, ahead.is_some());
        let (ended, ahead) = join(carried_out, async move { ahead?.await }).await;
        // In an outage nothing is kept for later.
        self.ahead = ahead.filter(|ahead| ahead.is_next(base));
        ended
    }

    /// Plans and writes the events, or finishes the plan that is open, and settles them; `more` come after them.
    async fn carry_out(
        &mut self,
        base: &mut Base,
        open: &[Row],
        letter: Option<u64>,
        batch: Batch,
        more: bool,
    ) -> Ended {
        let permit = base.begin_attempt().await?;
        let promised = |letter| self.appender.begun().is_some_and(|plan| plan.letter == Some(letter));
        if let Some(letter) = letter.filter(|&letter| !promised(letter)) {
            self.appender.promise(letter).await?;
        }
        let rows = batch.rows();
        let (events, rendered) = match batch {
            Batch::Events(events) => (events, None),
            Batch::Rendered(rendered) => (Vec::new(), Some(rendered)),
        };
        let (tell, told) = mpsc::unbounded_channel();
        let attempt = async {
            // Parts of one plan, which are few. Nothing more is told when this has ended.
            let tell = tell;
            match (open.is_empty(), rendered) {
                (true, Some(rendered)) => {
                    let mut tell = |part| drop(tell.send(part));
                    self.appender.deliver_rendered(rendered, &mut tell).await
                }
                (true, None) => self.appender.deliver(&events, letter).await,
                (false, _) => self.appender.finish(&events).await,
            }
        };
        // A failure of the ledger ends the write.
        let attempt = AssertUnwindSafe(attempt).catch_unwind().map(Ok);
        let (result, ()) = try_join(attempt, settle_parts(base, told)).await?;
        let (result, panic) = match result {
            Ok(result) => (result, None),
            Err(panic) => {
                let why = format!("the adapter panicked: {}", words_of(panic.as_ref()));
                (Err(Failure::transient(why)), Some(panic))
            }
        };
        match result {
            Ok(arrived) => {
                let settled = settle(base, permit, letter, &events, &arrived);
                let look = async {
                    if more {
                        self.appender.look_ahead().await;
                    }
                };
                let (settled, ()) = join(settled, look).await;
                settled?;
                match letter {
                    None => self.appender.is_settled(),
                    Some(_) => self.end_replay(Ok(())),
                }
            }
            // The ledger did not take it: what is true must be asked anew.
            Err(failure) if matches!(failure.kind, FailureKind::Node | FailureKind::Fenced) => return Err(failure),
            Err(failure) => {
                let tried = match rows {
                    Some(rows) => {
                        rows.iter().filter(|row| !base.settled.contains(row.offset)).map(EventRef::from).collect()
                    }
                    None => events.iter().map(EventRef::from).collect(),
                };
                self.failed(base, permit, letter, (tried, events), failure).await?;
            }
        }
        match panic {
            None => Ok(()),
            // After the record: its supervisor starts a new actor.
            Some(panic) => std::panic::resume_unwind(panic),
        }
    }

    async fn failed(
        &mut self,
        base: &mut Base,
        permit: Permit,
        letter: Option<u64>,
        (tried, mut events): (Vec<EventRef>, Vec<Event>),
        failure: Failure,
    ) -> Ended {
        if events.is_empty() && matches!(failure.kind, FailureKind::Blocked | FailureKind::Refused) {
            events = base.read_each(&tried.iter().map(|event| event.offset).collect::<Vec<_>>()).await?;
        }
        if failure.kind == FailureKind::Blocked {
            base.circuit.refused(permit);
            return self.plan_is_blocked(base, letter, events, &failure).await;
        }
        if failure.kind == FailureKind::Refused {
            // As many as could be encoded went before it: it is the first.
            events.truncate(1);
            return self.refused(base, permit, letter, events, failure).await;
        }
        let attempt = self.appender.attempts();
        let also = Vec::new();
        base.failed(Failed { failure: &failure, events: &tried, attempt, permit, letter, also }).await?;
        // Without a plan nothing was tried of any event.
        let planned = self.open_rows(base);
        let planned = |offset: &Offset| planned.binary_search_by_key(offset, |row| row.offset).is_ok();
        self.failed_last = tried.iter().map(|event| event.offset).filter(planned).collect();
        if failure.kind == FailureKind::Doubt {
            base.hold(&failure, attempt).await
        } else {
            base.back_off(&failure);
            Ok(())
        }
    }

    /// An event that can't be a row: tried so often as the recipe says, then a dead letter; the rest waits, because
    /// a file keeps feed order.
    async fn refused(
        &mut self,
        base: &mut Base,
        permit: Permit,
        letter: Option<u64>,
        events: Vec<Event>,
        failure: Failure,
    ) -> Ended {
        let Some(event) = events.first() else { return Ok(()) };
        let tried = [EventRef::from(event)];
        if letter.is_some() {
            let (events, also, attempt) = (&tried[..], Vec::new(), 1);
            base.failed(Failed { failure: &failure, events, attempt, permit, letter, also }).await?;
            self.appender.forget().await?;
            self.end_replay(Err(NotReplayed::Refused(failure.message.clone())));
            return Ok(());
        }
        if self.refused.0 != event.offset {
            self.refused = (event.offset, Tries::default());
        }
        let tries = &mut self.refused.1;
        (tries.attempts, tries.refused) = (tries.attempts + 1, tries.refused + 1);
        let (attempt, refused) = (tries.attempts, tries.refused);
        let gives_up = !base.note_refused(event.offset) && refused >= base.settings.retries;
        let mut also = Vec::new();
        if gives_up {
            let reason = format!("refused: {}", failure.message);
            also.push(dead(event.clone(), attempt, &reason, Some(Cause::Refused), false));
            let why = format!("events are refused: {}", failure.message);
            also.push(base.ticket(Cause::Refused, why, attempt, &failure.message));
        }
        base.failed(Failed { failure: &failure, events: &tried, attempt, permit, letter, also }).await?;
        if gives_up {
            base.settle([(event.offset, event.published)], false);
            self.failed_last.clear();
        } else {
            self.failed_last = events.iter().map(|event| event.offset).collect();
            base.back_off(&failure);
        }
        Ok(())
    }

    /// What the attempt is about; nothing only if it is about a dead letter that is none any more.
    async fn read(&self, base: &Base, open: &[Row], letter: Option<u64>) -> Result<Vec<Event>, Failure> {
        if let Some(letter) = letter {
            return Ok(base.letter(letter).await?.into_iter().collect());
        }
        let offsets: Vec<Offset> = open.iter().map(|row| row.offset).collect();
        let from = base.settled.below();
        let events = if open.is_empty() {
            base.read(from, base.until(), MAX_ROWS).await?.0
        } else {
            base.read_each(&offsets).await?
        };
        if events.is_empty() {
            return Err(Failure::transient_definite(format!(
                "event {from} of feed {} is not in the event store, though it has not been delivered",
                base.recipe.feed
            )));
        }
        Ok(events)
    }

    fn end_replay(&mut self, how: Result<(), NotReplayed>) {
        if let Some((_, Some(done))) = self.replay.take() {
            let _ = done.send(how);
        }
    }
}

impl Batch {
    /// The offset after the last one.
    fn end(&self) -> Offset {
        let last = match self {
            Self::Events(events) => events.last().map(|event| event.offset),
            Self::Rendered(rendered) => rendered.rows.last().map(|row| row.offset),
        };
        last.map_or(0, |last| last + 1)
    }

    fn rows(&self) -> Option<Arc<[Row]>> {
        match self {
            Self::Events(_) => None,
            Self::Rendered(rendered) => Some(rendered.rows.clone()),
        }
    }
}

/// Settles what stands in the file already, while the rest of its plan is written.
async fn settle_parts(base: &mut Base, mut told: mpsc::UnboundedReceiver<Arrived>) -> Ended {
    while let Some(part) = told.recv().await {
        let last = commit_receipts(base, &part).await?;
        base.commit(last).await?;
        base.settle(part.events(), true);
    }
    Ok(())
}

/// Makes the delivery done: the receipts, and with the last of them the end of an incident.
async fn settle(base: &mut Base, permit: Permit, letter: Option<u64>, events: &[Event], arrived: &Arrived) -> Ended {
    let mut last = commit_receipts(base, arrived).await?;
    last.extend(base.recovered(permit));
    base.commit(last).await?;
    match letter {
        None => base.delivered(arrived.events(), true),
        Some(_) => events.iter().for_each(|event| base.redelivered(event.published, true)),
    }
    Ok(())
}

/// Commits all receipts but the last, which are given back. A plan of which only some have one is found open.
async fn commit_receipts(base: &mut Base, arrived: &Arrived) -> Result<Vec<Entry>, Failure> {
    let mut receipts = arrived.receipts().peekable();
    let mut entries: Vec<Entry> = receipts.by_ref().take(RECEIPTS).collect();
    while receipts.peek().is_some() {
        base.commit(entries).await?;
        entries = receipts.by_ref().take(RECEIPTS).collect();
    }
    Ok(entries)
}

fn dead(event: Event, attempt: u32, reason: &str, cause: Option<Cause>, may_have_arrived: bool) -> Entry {
    Entry::DeadLettered { event: Box::new(event), attempt, reason: reason.to_owned(), may_have_arrived, cause }
}
