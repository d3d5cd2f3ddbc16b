//! What humans ask of this lane: answers to tickets, above all to those about doubt, and replays of dead letters.

use sha2::{Digest, Sha256};

use super::{Files, dead};
use crate::delivery::Ended;
use crate::delivery::base::Base;
use crate::delivery::control::{Answer, NotReplayed, Replay, TicketAction};
use crate::event::EventRef;
use crate::id::{Offset, Timestamp};
use crate::receipt::{Cause, Entry, Receipt};
use crate::work::Row;

impl Files {
    pub(super) async fn answered(&mut self, base: &mut Base, answer: Answer) -> Ended {
        if answer.cause == Cause::Doubt {
            return self.doubt_answered(base, answer).await;
        }
        match answer.action {
            TicketAction::Retry => base.control.hurry(),
            TicketAction::Resolve => {
                base.dismiss(answer.cause);
                base.commit(vec![answer.closed()]).await?;
            }
            TicketAction::Skip if self.failed_last.is_empty() => {
                let why = "no event was tried, so there is nothing to skip: the attempt failed before there was a plan";
                let _ = answer.done.send(Err(why.to_owned()));
                return Ok(());
            }
            TicketAction::Skip => self.give_up(base, &answer).await?,
        }
        let _ = answer.done.send(Ok(()));
        Ok(())
    }

    /// The events of the attempt that failed last become dead letters.
    async fn give_up(&mut self, base: &mut Base, answer: &Answer) -> Ended {
        let cause = Some(answer.cause).filter(|cause| matches!(cause, Cause::Refused | Cause::Policy));
        let events = base.read_each(&std::mem::take(&mut self.failed_last)).await?;
        let planned = !self.open_rows(base).is_empty();
        let attempts = self.appender.attempts();
        let settled: Vec<(Offset, Timestamp)> = events.iter().map(|event| (event.offset, event.published)).collect();
        let dead = |event| dead(event, attempts, "an operator skipped it", cause, planned);
        base.commit(events.into_iter().map(dead).collect()).await?;
        base.settle(settled, false);
        base.answered();
        Ok(())
    }

    /// Carries out a human's answer to the doubt ticket that holds this target.
    async fn doubt_answered(&mut self, base: &mut Base, answer: Answer) -> Ended {
        if base.held_by() != Some(answer.ticket) {
            let _ = answer.done.send(Err(format!("ticket {} does not hold this target", answer.ticket)));
            return Ok(());
        }
        let open = self.open_rows(base);
        let replays = self.appender.begun().is_some_and(|plan| plan.letter.is_some());
        let mut entries = match answer.action {
            TicketAction::Resolve => self.arrived(&open),
            // A dead letter that is skipped is what it was.
            TicketAction::Skip if !replays => {
                let offsets: Vec<Offset> = open.iter().map(|row| row.offset).collect();
                let (attempts, why) =
                    (self.appender.attempts(), "an operator skipped it: nobody knows whether it arrived");
                let events = base.read_each(&offsets).await?;
                events.into_iter().map(|event| dead(event, attempts, why, Some(Cause::Doubt), true)).collect()
            }
            TicketAction::Skip | TicketAction::Retry => Vec::new(),
        };
        entries.push(answer.closed());
        // The answer first: were the plan forgotten and the answer lost, another answer could settle nothing.
        base.commit(entries).await?;
        if answer.action == TicketAction::Retry || replays {
            self.appender.forget().await?;
        } else {
            let settled: Vec<(Offset, Timestamp)> = open.iter().map(|row| (row.offset, row.published)).collect();
            base.settle(settled, answer.action == TicketAction::Resolve);
        }
        if replays && answer.action != TicketAction::Retry {
            let skipped = answer.action == TicketAction::Skip;
            let given_up = || NotReplayed::GivenUp("an operator skipped it".to_owned());
            self.end_replay(if skipped { Err(given_up()) } else { Ok(()) });
        }
        base.answered();
        let _ = answer.done.send(Ok(()));
        Ok(())
    }

    /// Receipts by an operator's word.
    fn arrived(&self, open: &[Row]) -> Vec<Entry> {
        let letter = self.appender.begun().and_then(|plan| plan.letter);
        let pieces = self.appender.begun().into_iter().flat_map(|plan| plan.pieces());
        let open = pieces.filter(|(row, ..)| open.iter().any(|open| open.offset == row.offset));
        open.map(|(row, _, bytes)| Entry::Delivered {
            event: EventRef { offset: row.offset, id: row.id.clone() },
            attempt: self.appender.attempts(),
            payload_sha256: Sha256::digest(bytes).into(),
            receipt: Receipt::Operator,
            letter,
        })
        .collect()
    }

    pub(super) async fn take_replay(&mut self, base: &Base, Replay { letter, done }: Replay) -> Ended {
        if let Some((under_way, _)) = &self.replay {
            let _ = done.send(Err(NotReplayed::UnderWay(*under_way)));
            return Ok(());
        }
        if base.letter(letter).await?.is_none() {
            let _ = done.send(Err(NotReplayed::Gone(letter)));
            return Ok(());
        }
        self.replay = Some((letter, Some(done)));
        if self.open_rows(base).is_empty() {
            self.appender.promise(letter).await?;
        }
        Ok(())
    }
}
