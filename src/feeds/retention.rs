//! What may be removed, and when: by age, under a budget, and never what a reader still needs. How
//! segments are sealed and rewritten is the affair of `sealing`.

use std::sync::atomic::Ordering;

use hms_actors::id::{FeedName, Offset, Timestamp};

use super::files::{IDS, INDEX, LOG};
use super::writer::Writer;

/// When room is made in a feed, this part of its budget more is freed, so that it isn't made for each event.
const SLACK: u64 = 16;

impl Writer {
    /// One step of housekeeping. Says whether there is more to do.
    pub fn maintain(&mut self, now: Timestamp) -> bool {
        self.no_room_at = None;
        self.forget_ids(now);
        if !self.shared.retention.load(Ordering::Relaxed) {
            return false;
        }
        self.trim_aged(now);
        let aged = self.active.since.is_some_and(|since| since.plus(self.options.retention) <= now);
        if aged || self.is_sparse(self.active.number) {
            self.try_seal();
        }
        self.remove_dead();
        self.rewrite_sparsest()
    }

    /// Lets go of events older than retention that all readers have passed.
    fn trim_aged(&mut self, now: Timestamp) {
        let mut state = self.shared.state();
        let state = &mut *state;
        for (name, feed) in &mut state.feeds {
            while let Some(run) = feed.runs.front().filter(|run| run.newest.plus(self.options.retention) <= now) {
                let (end, to) = (run.end(), feed.releasable(run));
                if let Err(error) = feed.trim(to, &mut state.store) {
                    tracing::error!(feed = %name, %error, "retention can't read the index");
                    break;
                }
                if to < end {
                    break;
                }
            }
        }
    }

    /// Frees at least `bytes` in a feed by what all its readers have passed, if there is as much.
    pub fn trim_feed(&mut self, feed: &FeedName, bytes: u64) {
        if !self.shared.retention.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.shared.state();
        let Some(known) = state.feeds.get(feed) else { return };
        let Some(passed) = known.passed() else { return };
        let mut missing = bytes + self.options.feed_disk / SLACK;
        let mut to = known.oldest();
        for run in known.runs.iter().take_while(|run| run.first < passed) {
            to = passed.min(run.end());
            missing = missing.saturating_sub(run.bytes);
            if missing == 0 {
                break;
            }
        }
        if let Err(error) = state.trim(feed, to) {
            tracing::error!(%feed, %error, "retention can't read the index");
        }
    }

    /// Makes room on the node, the oldest segments first, by what all readers have passed.
    pub fn make_room(&mut self, bytes: u64, now: Timestamp) {
        let moves = self.shared.moves.load(Ordering::Relaxed);
        let enough = |writer: &Self| writer.used() + bytes <= writer.options.disk;
        if enough(self) || self.no_room_at == Some(moves) || !self.shared.retention.load(Ordering::Relaxed) {
            return;
        }
        while self.maintain(now) {}
        let segments: Vec<u64> = self.shared.state().store.all.keys().copied().collect();
        for segment in segments {
            if enough(self) {
                return;
            }
            self.trim_passed(segment);
            if segment == self.active.number && self.is_sparse(segment) {
                self.try_seal();
            }
            self.reclaim(segment);
        }
        if !enough(self) {
            self.no_room_at = Some(moves);
        }
    }

    /// Lets go of what all readers have passed in the segment, of feeds that have readers.
    fn trim_passed(&mut self, segment: u64) {
        let mut state = self.shared.state();
        let state = &mut *state;
        for (name, feed) in &mut state.feeds {
            let passed = feed.passed();
            let run = feed.runs.front().filter(|run| run.segment == segment);
            if let (Some(run), Some(passed)) = (run, passed) {
                let to: Offset = passed.min(run.end());
                if let Err(error) = feed.trim(to, &mut state.store) {
                    tracing::error!(feed = %name, %error, "retention can't read the index");
                }
            }
        }
    }

    /// Gives the garbage of a sealed segment back to the disk if that is worth the copying.
    fn reclaim(&mut self, segment: u64) {
        if segment == self.active.number {
            return;
        }
        let Some(of) = self.shared.state().store.all.get(&segment).copied() else { return };
        if of.live == 0 {
            self.remove_dead();
        } else if of.live + of.live / 8 <= of.log_bytes {
            self.try_rewrite(segment);
        }
    }

    /// Removes sealed segments that nobody needs.
    fn remove_dead(&mut self) {
        self.store_ids();
        let dead: Vec<u64> = {
            let state = self.shared.state();
            let sealed = state.store.all.iter().filter(|&(&number, _)| number != self.active.number);
            let dead = sealed.filter(|&(&number, segment)| segment.live == 0 && !self.ids.are_only_in(number));
            dead.map(|(&number, _)| number).collect()
        };
        if !dead.is_empty() {
            self.record_heads();
        }
        for &segment in &dead {
            // The log first: an index without a log is swept up at the next start, the other way round it is rebuilt.
            let removed = self.folder.remove(segment, LOG).and_then(|()| self.folder.remove(segment, INDEX));
            match removed {
                Ok(()) => drop(self.shared.state().store.all.remove(&segment)),
                Err(error) => tracing::error!(segment, %error, "an old segment can't be removed"),
            }
        }
        if !dead.is_empty()
            && let Err(error) = self.folder.sync()
        {
            tracing::warn!(%error, "the feeds' folder can't be synced: removed segments may come back");
        }
    }

    /// Has the ids of the segment that was sealed last on disk, if that can be.
    pub fn store_ids(&mut self) {
        if let Err(error) = self.ids.sealed(&self.folder) {
            tracing::warn!(%error, "the ids of a segment can't be written yet");
        }
    }

    /// Forgets the ids of segments that are gone, once `dedupe_window` has passed.
    fn forget_ids(&mut self, now: Timestamp) {
        let state = self.shared.state();
        let (folder, window) = (&self.folder, self.options.dedupe_window);
        self.ids.tables.retain(|table| {
            let kept = state.store.all.contains_key(&table.segment) || table.newest.plus(window) > now;
            if !kept && let Err(error) = folder.remove(table.segment, IDS) {
                tracing::warn!(segment = table.segment, %error, "an old table of ids can't be removed");
            }
            kept
        });
    }

    /// Rewrites the sealed segment that is garbage for the most part. Says whether there was one.
    fn rewrite_sparsest(&mut self) -> bool {
        let numbers: Vec<u64> = self.shared.state().store.all.keys().copied().collect();
        let sparse = numbers.into_iter().find(|&number| number != self.active.number && self.is_sparse(number));
        sparse.is_some_and(|number| self.try_rewrite(number))
    }

    /// Whether half of a segment or more is garbage.
    fn is_sparse(&self, segment: u64) -> bool {
        let state = self.shared.state();
        let Some(of) = state.store.all.get(&segment) else { return false };
        if segment == self.active.number {
            // What it opens with is no garbage: sealing it would only write that again.
            self.active.length > self.active.start && of.live * 2 <= self.active.length - self.active.start
        } else {
            of.live * 2 <= of.log_bytes
        }
    }
}
