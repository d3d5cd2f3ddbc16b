//! The lane of a file: rows in feed order, one write at a time, through the append protocol.

use sha2::{Digest, Sha256};

use super::Ended;
use super::base::Base;
use super::control::{Answer, TicketAction};
use crate::append::{Appender, Tools};
use crate::event::{Event, EventRef};
use crate::failure::{Failure, FailureKind};
use crate::id::{Offset, Timestamp};
use crate::receipt::{Cause, Entry, Receipt};
use crate::settings::FileSettings;
use crate::work::{Row, Work};

/// Rows in one plan. Their bytes are bounded by how much of the log is read in one go.
const MAX_ROWS: usize = 10_000;

pub(super) async fn run(base: &mut Base, work: Option<Work>, settings: FileSettings) -> Ended {
    let tools = Tools {
        target: base.key.clone(),
        epoch: base.epoch,
        ledger: base.env.ledger.clone(),
        partners: base.env.partners.clone(),
        clock: base.env.clock.clone(),
        step: base.env.step,
    };
    let mut appender = Appender::new(tools, settings, base.settings.revision, work);
    loop {
        base.refresh();
        for answer in base.answers() {
            take_answer(base, &mut appender, answer).await?;
        }
        if base.control.stopping() {
            return Ok(());
        }
        let open = open_rows(base, &appender);
        let go = base.may_send() && (!open.is_empty() || base.settled.below() < base.until());
        base.show(usize::from(go), go);
        if go {
            attempt(base, &mut appender, open).await?;
        } else {
            base.wait(appender.let_go()).await;
        }
    }
}

/// One attempt at the plan that is open, or at what waits.
async fn attempt(base: &mut Base, appender: &mut Appender, open: Vec<Row>) -> Ended {
    let events = match read(base, &open).await {
        Ok(events) => events,
        Err(failure) => {
            base.failed(&failure, &[], 0).await?;
            base.back_off(&failure);
            return Ok(());
        }
    };
    let result = if open.is_empty() { appender.deliver(&events).await } else { appender.finish(&events).await };
    match result {
        Ok(done) => {
            base.delivered(done.into_iter().map(|done| (done.offset, done.published)), true);
            Ok(())
        }
        // The ledger did not take it: what is true must be asked anew.
        Err(failure) if matches!(failure.kind, FailureKind::Node | FailureKind::Fenced) => Err(failure),
        Err(failure) => {
            let tried: Vec<EventRef> = events.iter().map(EventRef::from).collect();
            let attempts = appender.attempts();
            base.failed(&failure, &tried, attempts).await?;
            if failure.kind == FailureKind::Doubt {
                base.hold(&failure, attempts).await
            } else {
                base.back_off(&failure);
                Ok(())
            }
        }
    }
}

async fn read(base: &Base, open: &[Row]) -> Result<Vec<Event>, Failure> {
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
            base.feed
        )));
    }
    Ok(events)
}

fn open_rows(base: &Base, appender: &Appender) -> Vec<Row> {
    let rows = appender.begun().map_or(&[][..], |plan| &plan.rows);
    rows.iter().filter(|row| !base.settled.contains(row.offset)).cloned().collect()
}

/// Carries out a human's answer to the doubt ticket that holds this target.
async fn take_answer(base: &mut Base, appender: &mut Appender, answer: Answer) -> Ended {
    if answer.cause != Cause::Doubt || base.held_by != Some(answer.ticket) {
        let _ = answer.done.send(Err(format!("ticket {} does not hold this target", answer.ticket)));
        return Ok(());
    }
    let open = open_rows(base, appender);
    let mut entries = match answer.action {
        TicketAction::Retry => Vec::new(),
        TicketAction::Resolve => arrived(base, appender),
        TicketAction::Skip => {
            let offsets: Vec<Offset> = open.iter().map(|row| row.offset).collect();
            base.read_each(&offsets).await?.into_iter().map(|event| given_up(event, appender)).collect()
        }
    };
    entries.push(Entry::TicketResolved {
        ticket: answer.ticket,
        action: answer.action.as_str(),
        by: Some(answer.by.clone()),
        note: answer.note.clone(),
    });
    // The answer first: were the plan forgotten and the answer lost, another answer could settle nothing.
    base.commit(entries).await?;
    if answer.action == TicketAction::Retry {
        appender.forget().await?;
    } else {
        let settled: Vec<(Offset, Timestamp)> = open.iter().map(|row| (row.offset, row.published)).collect();
        base.settle(settled, answer.action == TicketAction::Resolve);
    }
    base.answered();
    let _ = answer.done.send(Ok(()));
    Ok(())
}

fn arrived(base: &Base, appender: &Appender) -> Vec<Entry> {
    let pieces = appender.begun().into_iter().flat_map(|plan| plan.pieces());
    let open = pieces.filter(|(row, ..)| !base.settled.contains(row.offset));
    open.map(|(row, _, bytes)| Entry::Delivered {
        event: EventRef { offset: row.offset, id: row.id.clone() },
        attempt: appender.attempts(),
        payload_sha256: Sha256::digest(bytes).into(),
        receipt: Receipt::Operator,
    })
    .collect()
}

fn given_up(event: Event, appender: &Appender) -> Entry {
    Entry::DeadLettered {
        event: Box::new(event),
        attempt: appender.attempts(),
        reason: "an operator skipped it: nobody knows whether it arrived".to_owned(),
        may_have_arrived: true,
    }
}
