//! What the event log can't give any more though a target still needs it: nothing waits for it for ever. Each lost
//! event becomes a dead letter with the reason `lost` (without a copy, for there is none), in sight of the operator.

use std::collections::BTreeSet;

use hms_actors::event::Event;
use hms_actors::id::{Offset, TargetKey, Timestamp};
use hms_actors::ports::{EventLog, Ledger};
use hms_actors::receipt::Entry;
use hms_actors::settled::Settled;
use hms_actors::work::Work;

use super::begun::offsets;
use super::operations::{Operations, Refused};
use crate::store::StoredRecipe as Stored;

/// The reason of such a dead letter.
pub(super) const LOST: &str = "lost";

/// Dead letters in one commit.
const AT_ONCE: usize = 1_000;

impl Operations {
    /// Settles, in sight, what the recipe's targets wait for in vain. Before their deliveries are started.
    pub(super) async fn settle_lost(&self, stored: &Stored) -> Result<(), Refused> {
        for target in stored.targets.keys() {
            let key = TargetKey { recipe: stored.id.clone(), target: target.clone() };
            let settled = self.world.store.settled(&key).unwrap_or_default();
            let missing = self.world.feeds.missing(&stored.feed, settled.below());
            let lost: BTreeSet<Offset> = missing.into_iter().flatten().filter(|o| !settled.contains(*o)).collect();
            if !lost.is_empty() {
                self.give_up(stored, &key, lost).await?;
            }
        }
        Ok(())
    }

    async fn give_up(&self, stored: &Stored, key: &TargetKey, mut lost: BTreeSet<Offset>) -> Result<(), Refused> {
        let ledger: &dyn Ledger = self.world.store.as_ref();
        let log: &dyn EventLog = self.world.feeds.as_ref();
        let opened = ledger.open(key).await?;
        with_their_batches(&mut lost, opened.work.as_ref(), &opened.settled);
        let begun = offsets(opened.work);
        let (count, feed) = (lost.len(), &stored.feed);
        tracing::error!(
            "{key}: {count} events of feed `{feed}` from offset {} on are LOST from the event store, and become dead \
             letters with the reason `lost`: let their publisher send them again",
            lost.first().copied().unwrap_or_default()
        );
        let lost: Vec<Offset> = lost.into_iter().collect();
        for offsets in lost.chunks(AT_ONCE) {
            let mut entries = Vec::with_capacity(offsets.len());
            for &offset in offsets {
                let event = log.read(feed, offset, offset + 1, 1, usize::MAX).await?.pop();
                entries.push(Entry::DeadLettered {
                    event: Box::new(event.unwrap_or_else(|| without_copy(offset))),
                    attempt: 0,
                    reason: LOST.to_owned(),
                    may_have_arrived: begun.contains(&offset),
                    cause: None,
                });
            }
            ledger.commit(key, opened.epoch, entries).await?;
        }
        tracing::info!(target: "audit", "sync.fail.{} {count}", key.recipe.short());
        Ok(())
    }
}

/// A request that was begun can't be repeated without one of its events: all of it is given up.
fn with_their_batches(lost: &mut BTreeSet<Offset>, work: Option<&Work>, settled: &Settled) {
    let Some(Work::Requests(units)) = work else { return };
    for unit in units {
        if unit.offsets.iter().any(|offset| lost.contains(offset)) {
            lost.extend(unit.offsets.iter().filter(|&&offset| !settled.contains(offset)));
        }
    }
}

/// All that is known of a lost event.
fn without_copy(offset: Offset) -> Event {
    Event {
        offset,
        published: Timestamp(0),
        id: String::new(),
        source: "".into(),
        kind: "".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: Default::default(),
    }
}
