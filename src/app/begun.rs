//! What targets have begun and not settled: its events are kept until it is, and its offsets are taken. What had such
//! an offset after them would count as delivered with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use hms_actors::id::{FeedName, Offset, TargetKey, TargetName};
use hms_actors::work::Work;

use super::operations::{Operations, Refused, reader};
use crate::store::StoredRecipe as Stored;

/// A request or an append plan that is begun, and not settled whole.
pub(super) struct Begun {
    target: TargetName,
    /// From its first event to behind its last.
    events: Range<Offset>,
    /// A plan has its rows; a request is made anew of its events, all of them.
    needs_events: bool,
}

/// Of each feed, where the offsets end that are begun or settled.
pub(super) type Taken = BTreeMap<FeedName, Offset>;

impl Operations {
    pub(super) async fn begun(&self, stored: &Stored) -> Result<Vec<Begun>, Refused> {
        let mut begun = Vec::new();
        for target in stored.targets.keys() {
            let key = TargetKey { recipe: stored.id.clone(), target: target.clone() };
            let Some(work) = self.world.store.work(&key).await? else { continue };
            let settled = self.world.store.settled(&key).unwrap_or_default();
            let needs_events = matches!(work, Work::Requests(_));
            for offsets in in_pieces(work) {
                if offsets.iter().all(|&offset| settled.contains(offset)) {
                    continue;
                }
                if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
                    begun.push(Begun { target: target.clone(), events: *first..last + 1, needs_events });
                }
            }
        }
        Ok(begun)
    }

    /// Where the offsets end that the recipe's targets have begun or settled.
    pub(super) fn taken(&self, stored: &Stored, begun: &[Begun]) -> Offset {
        let key = |target: &TargetName| TargetKey { recipe: stored.id.clone(), target: target.clone() };
        let settled = stored.targets.keys().filter_map(|target| self.world.store.settled(&key(target)));
        settled.map(|settled| settled.end()).chain(begun.iter().map(|begun| begun.events.end)).max().unwrap_or_default()
    }

    /// Events of requests that were begun are kept until each of them is settled, also after a crash in the middle
    /// of a commit: the request is repeated whole.
    pub(super) fn keep_begun(&self, stored: &Stored, begun: &[Begun]) {
        for begun in begun.iter().filter(|begun| begun.needs_events) {
            self.world.feeds.keep(&stored.feed, &reader(&stored.id, &begun.target), begun.events.clone());
        }
    }
}

/// The events of what a target has begun.
pub(super) fn offsets(work: Option<Work>) -> BTreeSet<Offset> {
    work.into_iter().flat_map(in_pieces).flat_map(|offsets| offsets.to_vec()).collect()
}

/// Those of each request, or of the plan, ascending.
fn in_pieces(work: Work) -> Vec<Arc<[Offset]>> {
    match work {
        Work::Requests(units) => units.into_iter().map(|unit| unit.offsets).collect(),
        Work::File(work) => vec![work.plan.rows.iter().map(|row| row.offset).collect()],
    }
}
