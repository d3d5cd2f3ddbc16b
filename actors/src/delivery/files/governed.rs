//! What policies say no to in this lane: it holds the target, because a file keeps feed order, or becomes a dead letter.

use super::Files;
use crate::delivery::Ended;
use crate::delivery::base::{Base, Blocked, No};
use crate::delivery::control::NotReplayed;
use crate::event::Event;
use crate::failure::Failure;
use crate::work::Row;

impl Files {
    /// Whether there may be an attempt, as far as policies go: what they hold waits until they are asked again. A replay
    /// is another matter.
    pub(super) fn may_ask(&mut self, base: &mut Base, open: &[Row]) -> bool {
        if self.blocked && (base.ask_at().is_none() || base.asks_again()) {
            self.blocked = false;
        }
        !self.blocked || (self.replay.is_some() && open.is_empty())
    }

    /// The first events, up to one that policies hold: nothing passes it in a file.
    pub(super) async fn cleared(
        &mut self,
        base: &mut Base,
        events: Vec<Event>,
        letter: Option<u64>,
    ) -> Result<Vec<Event>, Failure> {
        let (mut may_go, mut given_up) = (Vec::new(), Vec::new());
        for event in events {
            let Some(no) = base.no_to(base.settings.revision, &event) else {
                may_go.push(event);
                continue;
            };
            if let Some(letter) = letter {
                self.letter_is_blocked(base, letter, &event, &no).await?;
                return Ok(Vec::new());
            }
            if no.gives_up {
                given_up.push(new(event, no));
                continue;
            }
            if may_go.is_empty() {
                self.blocked = true;
                self.failed_last = vec![event.offset];
                given_up.push(new(event, no));
            }
            break;
        }
        if !given_up.is_empty() {
            base.blocked(given_up).await?;
        }
        Ok(may_go)
    }

    /// Policies say no to a plan that is open, before anything of it was written now. Where nothing of it stands in the
    /// file it was dropped, and its events are asked about one by one.
    pub(super) async fn plan_is_blocked(
        &mut self,
        base: &mut Base,
        letter: Option<u64>,
        events: Vec<Event>,
        failure: &Failure,
    ) -> Ended {
        let revision = self.appender.begun().map_or(base.settings.revision, |plan| plan.revision);
        let dropped = self.open_rows(base).is_empty();
        let attempt = self.appender.attempts();
        let mut nos = Vec::new();
        for event in &events {
            // What was to be planned anew was asked about as the recipe is now.
            let no = base.judges.no_to(revision, event);
            if let Some(no) = no.or_else(|| base.judges.no_to(base.settings.revision, event)) {
                // A part of it may stand there: that is not for us to give up.
                let no = No { gives_up: false, ..no };
                nos.push(Blocked { event: event.clone(), no, attempt, may_have_arrived: true });
            }
        }
        if let Some(letter) = letter {
            if dropped {
                self.end_replay(Err(NotReplayed::Blocked(failure.message.clone())));
            } else {
                self.blocked = true;
                base.ask_later(failure.message.clone());
            }
            let Some(Blocked { event, no, .. }) = nos.first() else { return Ok(()) };
            return base.blocked_letter(event, attempt, no, letter).await;
        }
        if !dropped {
            self.blocked = true;
            self.failed_last = events.iter().map(|event| event.offset).collect();
            base.blocked(nos).await?;
        }
        Ok(())
    }

    async fn letter_is_blocked(&mut self, base: &mut Base, letter: u64, event: &Event, no: &No) -> Ended {
        base.blocked_letter(event, 0, no, letter).await?;
        self.appender.forget().await?;
        self.end_replay(Err(NotReplayed::Blocked(no.denial.words.clone())));
        Ok(())
    }
}

/// One that was never sent.
fn new(event: Event, no: No) -> Blocked {
    Blocked { event, no, attempt: 0, may_have_arrived: false }
}
