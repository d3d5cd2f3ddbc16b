//! What is known of a child, whatever kind of actor it is: how often it died and of what, whether it answers.

use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Panic;
use crate::id::Timestamp;
use crate::policy::restarts::{Restarts, Verdict};

/// How often children are asked whether they are alive.
pub(crate) const ROUND: Duration = Duration::from_secs(5);

/// Without an answer for so many rounds a child hangs. More than one: after the thread itself was held up, rounds
/// may come early, and the second one comes after everybody had their turn.
const ROUNDS: u32 = 2;

/// One child's record.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Which incarnation is meant: what an older one's notice says is of no interest.
    pub generation: u64,
    born: Option<Instant>,
    /// `None` in one that has never died, as most: they are many.
    deaths: Option<Box<Deaths>>,
    /// A ping has been out for so many rounds.
    unanswered: Option<u32>,
}

#[derive(Debug, Default)]
struct Deaths {
    restarts: Restarts,
    last_panic: Option<Panic>,
    /// It is down for longer than a back-off: when that ends by itself.
    revived_at: Option<Timestamp>,
}

/// What is to be done with a child in this round.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Ask,
    Wait,
    Silent,
}

impl Watch {
    pub fn started(&mut self, generation: u64) {
        self.generation = generation;
        self.unanswered = None;
        self.born = Some(Instant::now());
        if let Some(deaths) = &mut self.deaths {
            deaths.revived_at = None;
        }
    }

    /// It died; `generation` is its name until it is started again.
    pub fn died(&mut self, generation: u64, why: Option<String>, now: Timestamp) -> Verdict {
        self.generation = generation;
        self.unanswered = None;
        let deaths = self.deaths.get_or_insert_default();
        if let Some(what) = why {
            deaths.last_panic = Some(Panic { at: now, what });
        }
        let verdict = deaths.restarts.died(self.born.take(), Instant::now());
        deaths.revived_at = match verdict {
            Verdict::Restart(_) => None,
            Verdict::Quarantine(pause) => Some(now.plus(pause)),
        };
        verdict
    }

    /// It does its work: the next quarantine is a first one.
    pub fn works(&mut self) {
        if let Some(deaths) = &mut self.deaths {
            deaths.restarts.works();
        }
    }

    /// How often it died.
    pub fn restarts(&self) -> u64 {
        self.deaths.as_ref().map_or(0, |deaths| deaths.restarts.total())
    }

    pub fn last_panic(&self) -> Option<&Panic> {
        self.deaths.as_ref()?.last_panic.as_ref()
    }

    /// It is down for longer than a back-off: when that ends by itself.
    pub fn revived_at(&self) -> Option<Timestamp> {
        self.deaths.as_ref()?.revived_at
    }

    /// What it died of last.
    pub fn last_words(&self) -> &str {
        self.last_panic().map_or("it ended by itself", |panic| &panic.what)
    }

    pub fn round(&mut self) -> Round {
        match &mut self.unanswered {
            None => {
                self.unanswered = Some(0);
                Round::Ask
            }
            Some(rounds) => {
                *rounds += 1;
                if *rounds < ROUNDS { Round::Wait } else { Round::Silent }
            }
        }
    }

    pub fn answered(&mut self) {
        self.unanswered = None;
    }

    pub fn is_silent(&self) -> bool {
        self.unanswered.is_some_and(|rounds| rounds >= ROUNDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_without_an_answer_is_no_silence_two_are() {
        let mut watch = Watch::default();
        assert_eq!([watch.round(), watch.round()], [Round::Ask, Round::Wait]);
        assert!(!watch.is_silent());
        watch.answered();
        assert_eq!([watch.round(), watch.round(), watch.round()], [Round::Ask, Round::Wait, Round::Silent]);
        assert!(watch.is_silent());
        watch.started(1);
        assert_eq!(watch.round(), Round::Ask);
    }
}
