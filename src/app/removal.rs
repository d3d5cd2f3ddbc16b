//! What goes: deleting a recipe, and what becomes of the events that wait for a target that is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hms_actors::id::{Offset, RecipeId, TargetKey, TargetName};
use hms_actors::node::Remove;
use hms_actors::ports::{EventLog, Ledger, Tries};
use hms_actors::receipt::Entry;
use hms_actors::work::{Unit, Work};

use super::begun::offsets;
use super::operations::{Operations, Refused, reader, to_the_end};
use crate::store::Change;

/// Events that become dead letters in one commit.
const ABANDON_AT_ONCE: usize = 1_000;
const ABANDON_BYTES: usize = 4 << 20;

impl Operations {
    /// Says how many events were made dead letters.
    pub async fn delete(self: &Arc<Self>, id: &RecipeId, abandon: bool, by: &str) -> Result<u64, Refused> {
        let (operations, id, by) = (self.clone(), id.clone(), by.to_owned());
        to_the_end(async move { operations.carry_out_delete(&id, abandon, &by).await }).await
    }

    async fn carry_out_delete(&self, id: &RecipeId, abandon: bool, by: &str) -> Result<u64, Refused> {
        let mut places = self.one_at_a_time.lock().await;
        let stored = self.stored(id)?;
        self.check_feed(&stored.feed)?;
        let targets: Vec<TargetName> = stored.targets.keys().cloned().collect();
        self.check_backlog(id, &targets, abandon)?;
        self.tell(Remove(id.clone())).await?;
        let deleted = self.record_deleted(id, &targets, abandon, by).await;
        self.note_places(&mut places, id);
        if deleted.is_err() {
            self.start(id).await?;
        }
        let abandoned = deleted?;
        for target in &targets {
            self.world.feeds.remove_reader(&stored.feed, &reader(id, target));
        }
        Ok(abandoned)
    }

    async fn record_deleted(
        &self,
        id: &RecipeId,
        targets: &[TargetName],
        abandon: bool,
        by: &str,
    ) -> Result<u64, Refused> {
        self.check_backlog(id, targets, abandon)?;
        let mut abandoned = 0;
        for target in targets {
            abandoned += self.abandon(&TargetKey { recipe: id.clone(), target: target.clone() }).await?;
        }
        self.record(id, Change::Deleted, by).await?;
        Ok(abandoned)
    }

    /// Refuses to drop a target that has something waiting, unless told to.
    pub(super) fn check_backlog(&self, id: &RecipeId, targets: &[TargetName], abandon: bool) -> Result<(), Refused> {
        let mut counts = BTreeMap::new();
        for target in targets {
            let waiting = self.waiting(&TargetKey { recipe: id.clone(), target: target.clone() });
            if waiting > 0 {
                counts.insert(target.to_string(), waiting);
            }
        }
        if counts.is_empty() || abandon {
            return Ok(());
        }
        let words: Vec<String> = counts.iter().map(|(target, count)| format!("{target}: {count}")).collect();
        let why = format!(
            "events still wait to be delivered ({}): deliver them first, or abandon them with `--abandon` (they become dead letters)",
            words.join(", ")
        );
        Err(Refused::Conflict { why, counts })
    }

    pub(super) fn waiting(&self, key: &TargetKey) -> u64 {
        let feed = self.world.store.recipe(&key.recipe).map(|stored| stored.feed);
        let settled = self.world.store.settled(key);
        settled.zip(feed).map_or(0, |(settled, feed)| settled.waiting(self.head(&feed)))
    }

    /// What waits for a target becomes dead letters. Nothing that is in flight can settle after this.
    pub(super) async fn abandon(&self, key: &TargetKey) -> Result<u64, Refused> {
        let store = &self.world.store;
        let Some(feed) = store.recipe(&key.recipe).map(|stored| stored.feed) else { return Ok(0) };
        let head = self.head(&feed);
        let log: &dyn EventLog = self.world.feeds.as_ref();
        let ledger: &dyn Ledger = store.as_ref();
        let opened = ledger.open(key).await?;
        let tries = opened.standing.tries;
        let begun = may_have_arrived(opened.work, &tries);
        let (mut from, mut abandoned) = (opened.settled.below(), 0);
        while from < head {
            let events = log.read(&feed, from, head, ABANDON_AT_ONCE, ABANDON_BYTES).await?;
            from = events.last().map_or(head, |event| event.offset + 1);
            let waiting = events.into_iter().filter(|event| !opened.settled.contains(event.offset));
            let entries = waiting.map(|event| Entry::DeadLettered {
                may_have_arrived: begun.contains(&event.offset),
                attempt: tries.get(&(event.offset, 1)).map_or(0, |tries| tries.attempts),
                event: Box::new(event),
                reason: "target_removed".to_owned(),
                cause: None,
            });
            let entries: Vec<Entry> = entries.collect();
            abandoned += entries.len() as u64;
            ledger.commit(key, opened.epoch, entries).await?;
        }
        if abandoned > 0 {
            tracing::info!(target: "audit", "sync.fail.{} {abandoned}", key.recipe.short());
        }
        Ok(abandoned)
    }
}

/// The events of what a target has begun, but for those of which every attempt is known to have had no effect.
fn may_have_arrived(work: Option<Work>, tries: &BTreeMap<(Offset, u32), Tries>) -> BTreeSet<Offset> {
    let Some(Work::Requests(units)) = work else { return offsets(work) };
    let open = |unit: &Unit| {
        let name = (unit.offsets.first().copied().unwrap_or_default(), unit.offsets.len() as u32);
        tries.get(&name).is_none_or(|tries| tries.may_have_arrived)
    };
    units.into_iter().filter(open).flat_map(|unit| unit.offsets.to_vec()).collect()
}
