//! Dead letters as operators see and steer them: replay to the target that missed the event, or drop.

use std::collections::BTreeMap;
use std::time::Duration;

use hms_actors::delivery::{Ask, NotReplayed, Replay};
use hms_actors::event::{Event, Key};
use hms_actors::id::{FeedName, TargetKey};
use hms_actors::ports::EventLog;
use tokio::sync::oneshot;

use super::endpoint::{Endpoint, Result};
use super::lost::LOST;
use super::shapes::failed;
use super::steering::being_started;
use crate::admin::AdminError;
use crate::admin::views::{LaterEvent, LetterOutcome, LetterState, ReplayOptions};
use crate::formats::Shape;
use crate::store::DeadLetter;

/// How long the one who asked waits; a replay that takes longer goes on.
const PATIENCE: Duration = Duration::from_secs(25);

/// Later events of a key are looked for in so many events after the dead letter, and so many are named.
const LOOKED_AT: u64 = 200_000;
const NAMED: usize = 100;

impl Endpoint {
    pub(super) async fn replay_letter(&self, number: u64, options: ReplayOptions, by: &str) -> Result<LetterOutcome> {
        let (letter, event) = self.letter(number).await?;
        self.must_have_target(&letter)?;
        if letter.reason == LOST {
            let why = format!(
                "the event of dead letter {number} was lost, there is no copy: let its publisher send it again, then drop this"
            );
            return Err(AdminError::conflict(why));
        }
        if letter.may_have_arrived && !options.force {
            let why = format!(
                "nobody knows whether the partner has the event of dead letter {number}: look there first, then replay it with `force`"
            );
            return Err(AdminError::conflict(why));
        }
        let later = self.later(&letter, &event).await?;
        let (done, told) = oneshot::channel();
        if !self.ask(&letter.key, Ask::Replay(Replay { letter: number, done })).await? {
            return Err(being_started(&letter.key));
        }
        let how = tokio::time::timeout(PATIENCE, told).await;
        if !matches!(how, Ok(Ok(Err(NotReplayed::UnderWay(_) | NotReplayed::Gone(_))))) {
            self.note_replay(&letter, &later, options, by).await?;
        }
        let state = match how {
            Ok(Ok(Ok(()))) => LetterState::Delivered,
            Ok(Ok(Err(NotReplayed::Refused(why)))) => return Err(AdminError::partner(why)),
            Ok(Ok(Err(why @ NotReplayed::UnderWay(_)))) => {
                return Err(AdminError::conflict(why.to_string()).with("replaying", true));
            }
            Ok(Ok(Err(why @ NotReplayed::Gone(_)))) => return Err(AdminError::not_found(why.to_string())),
            Ok(Ok(Err(why @ (NotReplayed::GivenUp(_) | NotReplayed::Blocked(_))))) => {
                return Err(AdminError::conflict(why.to_string()));
            }
            // What was begun goes on, also in another incarnation of the delivery.
            Ok(Err(_)) | Err(_) => LetterState::Replaying,
        };
        Ok(LetterOutcome { number, state, later })
    }

    pub(super) async fn drop_dead_letter(&self, number: u64, reason: &str, by: &str) -> Result<LetterOutcome> {
        let (letter, _) = self.letter(number).await?;
        let replaying = self.replaying(&letter.key).await;
        if replaying.is_none() && self.world.store.has_target_of(&letter) {
            let why = "whether a replay of it is under way can't be told just now: ask again";
            return Err(AdminError::unavailable(why));
        }
        if replaying.is_some_and(|numbers| numbers.contains(&number)) {
            let why = format!("a replay of dead letter {number} is under way");
            return Err(AdminError::conflict(why).with("replaying", true));
        }
        self.world.store.drop_letter(number, by, reason).await.map_err(failed)?;
        Ok(LetterOutcome { number, state: LetterState::Dropped, later: Vec::new() })
    }

    pub(super) async fn letter(&self, number: u64) -> Result<(DeadLetter, Event)> {
        let found = self.world.store.dead_letter(number).await.map_err(failed)?;
        found.ok_or_else(|| AdminError::not_found(format!("there is no dead letter {number}")))
    }

    /// Which of the target's dead letters are being delivered; `None` if nobody can tell.
    pub(super) async fn replaying(&self, key: &TargetKey) -> Option<Vec<u64>> {
        let all = self.snapshot(&key.recipe).await?;
        all.targets.into_iter().find(|status| status.target == key.target).map(|status| status.replaying)
    }

    fn must_have_target(&self, letter: &DeadLetter) -> Result<()> {
        let stored = self.world.store.recipe(&letter.key.recipe);
        let Some(stored) = stored else {
            return Err(AdminError::conflict(format!(
                "recipe `{}` is gone: nobody can deliver this",
                letter.key.recipe
            )));
        };
        if !stored.targets.contains_key(&letter.key.target) {
            return Err(AdminError::conflict(format!("target {} is gone: nobody can deliver this", letter.key)));
        }
        if !self.world.store.has_target_of(letter) {
            let why = format!(
                "target {} was applied anew since, for another feed or from before this event: it gets what it is to get by itself",
                letter.key
            );
            return Err(AdminError::conflict(why));
        }
        Ok(())
    }

    /// Later events of the same key that the target has already: order per key excepts replay, so it is said.
    async fn later(&self, letter: &DeadLetter, event: &Event) -> Result<Vec<LaterEvent>> {
        let Some(stored) = self.world.store.recipe(&letter.key.recipe) else { return Ok(Vec::new()) };
        let Ok(recipe) = self.world.current(&stored) else { return Ok(Vec::new()) };
        let shape = Shape::new(&recipe.source, &[]);
        let Key::Value(key) = shape.key(event) else { return Ok(Vec::new()) };
        let Some(settled) = self.world.store.settled(&letter.key) else { return Ok(Vec::new()) };
        let has = |other: &Event| settled.contains(other.offset) && shape.key(other) == Key::Value(key.clone());
        let mut later = Vec::new();
        let (mut from, feed): (u64, &FeedName) = (letter.offset + 1, &letter.feed);
        let until = self.operations.head(feed).min(from.saturating_add(LOOKED_AT));
        while from < until && later.len() < NAMED {
            let log: &dyn EventLog = self.world.feeds.as_ref();
            let events = log.read(feed, from, until, 2_000, 4 << 20).await.map_err(failed)?;
            from = events.last().map_or(until, |event| event.offset + 1);
            let found = events.into_iter().filter(has);
            later.extend(found.map(|event| LaterEvent { offset: event.offset, id: event.id }));
        }
        later.truncate(NAMED);
        Ok(later)
    }

    /// Who asked, and what the partner has already that comes later.
    async fn note_replay(
        &self,
        letter: &DeadLetter,
        later: &[LaterEvent],
        options: ReplayOptions,
        by: &str,
    ) -> Result<()> {
        let ids: Vec<&str> = later.iter().map(|event| event.id.as_str()).collect();
        let details = [
            ("number", letter.number.to_string()),
            ("recipe", letter.key.recipe.to_string()),
            ("target", letter.key.target.to_string()),
            ("event_id", letter.event_id.clone()),
            ("force", options.force.to_string()),
            ("delivered_later_events_of_the_key", ids.join(" ")),
        ];
        let details: BTreeMap<String, String> = details.map(|(name, value)| (name.to_owned(), value)).into();
        self.world.store.operator("replay_dead_letter", by, details).await.map_err(failed)
    }
}
