//! What humans ask of this lane: answers to tickets, replays of dead letters.

use super::Requests;
use crate::delivery::Ended;
use crate::delivery::base::Base;
use crate::delivery::control::{Answer, NotReplayed, Replay, TicketAction};
use crate::delivery::unit::Staged;
use crate::receipt::Cause;
use crate::work::Unit;

impl Requests {
    pub(super) async fn answered(&mut self, base: &mut Base, answer: Answer) -> Ended {
        match answer.action {
            TicketAction::Retry => base.control.hurry(),
            TicketAction::Resolve => {
                base.dismiss(answer.cause);
                base.commit(vec![answer.closed()]).await?;
            }
            TicketAction::Skip if answer.cause == Cause::Policy => {
                if !self.skip_held(base, &answer).await? {
                    let _ = answer.done.send(Err("policies hold nothing: there is nothing to skip".to_owned()));
                    return Ok(());
                }
            }
            TicketAction::Skip => {
                let Some(staged) = self.take_failed_last() else {
                    let _ =
                        answer.done.send(Err("no attempt that failed is waiting: there is nothing to skip".to_owned()));
                    return Ok(());
                };
                self.give_up(base, &staged, &answer).await?;
            }
        }
        let _ = answer.done.send(Ok(()));
        Ok(())
    }

    /// The unit whose attempt failed last, if it still waits for its next one.
    fn take_failed_last(&mut self) -> Option<Staged> {
        let name = self.failed_last?;
        if let Some(at) = self.stuck.iter().position(|(_, staged)| staged.name() == name) {
            return self.stuck.remove(at).map(|(_, staged)| staged);
        }
        let at = self.retry.iter().position(|staged| staged.name() == name)?;
        self.retry.remove(at)
    }

    pub(super) async fn give_up(&mut self, base: &mut Base, staged: &Staged, answer: &Answer) -> Ended {
        let cause = Some(answer.cause).filter(|cause| matches!(cause, Cause::Refused | Cause::Policy));
        match staged.unit.letter {
            None => {
                // The ticket stays until deliveries succeed again, or these are replayed or dropped.
                base.commit(staged.dead("an operator skipped it", cause)).await?;
                base.settle(staged.events.iter().map(|event| (event.offset, event.published)), false);
            }
            // It is a dead letter, and stays one.
            Some(letter) => self.replayed(letter, Err(NotReplayed::GivenUp("an operator skipped it".to_owned()))),
        }
        self.close_unit(staged);
        self.store_open(base).await
    }

    pub(super) async fn replay(&mut self, base: &mut Base, Replay { letter, done }: Replay) -> Ended {
        if self.open_units().any(|unit| unit.letter == Some(letter)) {
            let _ = done.send(Err(NotReplayed::UnderWay(letter)));
            return Ok(());
        }
        let Some(event) = base.letter(letter).await? else {
            let _ = done.send(Err(NotReplayed::Gone(letter)));
            return Ok(());
        };
        let partner = self.partner(base, base.settings.revision);
        let (partner, seal) = match partner.and_then(|partner| partner.seal().map(|seal| (partner, seal))) {
            Ok(ready) => ready,
            Err(failure) => {
                let _ = done.send(Err(NotReplayed::GivenUp(failure.message)));
                return Ok(());
            }
        };
        let unit =
            Unit { revision: base.settings.revision, offsets: [event.offset].into(), letter: Some(letter), seal };
        let mut staged = Staged::new(unit, vec![event], partner.as_ref());
        staged.shared = true;
        self.open_unit(staged);
        self.replays.insert(letter, done);
        self.store_open(base).await
    }

    /// Tells the one who asked how a replay ended.
    pub(super) fn replayed(&mut self, letter: u64, how: Result<(), NotReplayed>) {
        if let Some(done) = self.replays.remove(&letter) {
            let _ = done.send(how);
        }
    }
}
