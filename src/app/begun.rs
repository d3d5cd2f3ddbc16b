//! What targets have begun and not settled: its events are kept until it is, and its offsets are taken. What had such
//! an offset after them would count as delivered with them.
//!
//! A feed that does not go as far as what was taken of it has lost its end: somebody has put an older folder of events
//! in the place of its own, or none. There may be a backup, and what would be taken meanwhile would be gone with it: such a feed
//! takes no events and its recipes wait, over reloads and restarts, until a human applies one of them. Then what is gone
//! becomes dead letters ([`lost`](super::lost)).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use hms_actors::id::{FeedName, Offset, TargetKey, TargetName};
use hms_actors::work::Work;

use super::operations::{Operations, Refused, reader};
use crate::recipe::own::is_own;
use crate::store::StoredRecipe as Stored;

/// A request or an append plan that is begun, and not settled whole.
pub(super) struct Begun {
    target: TargetName,
    /// From its first event to behind its last.
    events: Range<Offset>,
    /// A plan has its rows; a request is made anew of its events, all of them.
    needs_events: bool,
}

/// A recipe, and what its targets have begun if that could be read.
type Read = (Stored, Result<Vec<Begun>, Refused>);

impl Operations {
    /// Withholds the feeds of which more was taken than they have. All of it is read before anything is started.
    pub(super) async fn compare_with_feeds(&self, recipes: Vec<Stored>) -> Vec<Read> {
        // What is not started now is still needed later.
        recipes.iter().for_each(|stored| self.register_readers(stored));
        let (mut read, mut taken) = (Vec::with_capacity(recipes.len()), BTreeMap::<FeedName, Offset>::new());
        for stored in recipes {
            let begun = self.begun(&stored).await;
            let by_it = self.taken(&stored, begun.as_deref().unwrap_or_default());
            let of_feed = taken.entry(stored.feed.clone()).or_default();
            *of_feed = by_it.max(*of_feed);
            read.push((stored, begun));
        }
        taken.retain(|feed, taken| *taken > self.head(feed));
        for (feed, taken) in taken {
            self.world.feeds.withhold(&feed, taken);
            if is_own(feed.as_str()) {
                self.world.feeds.go_on(&feed).await; // what it told of is in the audit
            }
        }
        read
    }

    /// An operation on a recipe whose feed is withheld is refused, as is publishing.
    pub(super) fn check_feed(&self, feed: &FeedName) -> Result<(), Refused> {
        let why = |to| Refused::conflict(withheld(feed, to));
        self.world.feeds.withheld(feed).map_or(Ok(()), |to| Err(why(to)))
    }

    /// The word of a human, if the feed waits for it: its recipes are started as they are stored.
    pub(super) async fn let_feed_go_on(&self, feed: &FeedName) {
        if self.world.feeds.withheld(feed).is_none() {
            return;
        }
        self.world.feeds.go_on(feed).await;
        for stored in self.world.store.recipes().into_iter().filter(|stored| stored.feed == *feed) {
            if let Err(error) = self.start(&stored.id).await {
                tracing::error!(recipe = %stored.id, "the recipe is not started: {error}");
            }
        }
    }

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
    fn taken(&self, stored: &Stored, begun: &[Begun]) -> Offset {
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

/// What an operator is told of a feed that takes no events.
pub(super) fn withheld(feed: &FeedName, taken: Offset) -> String {
    format!(
        "events below {taken} of feed `{feed}` have been begun or settled, and the feed does not go that far: its events \
         are older than the audit. It takes none, and its recipes wait. Restore the folder events/ that belongs to it; if there is none, \
         apply one of its recipes again: what is gone becomes dead letters with the reason `lost`"
    )
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
