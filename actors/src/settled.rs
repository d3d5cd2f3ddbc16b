//! Which events of a feed a target has behind it: everything below a mark, and some above a gap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Offset;

/// All offsets below `below`, and the ranges in `above`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settled {
    below: Offset,
    /// start → end (exclusive); disjoint, not touching, all starts above `below`.
    above: BTreeMap<Offset, Offset>,
}

impl Settled {
    /// Everything before `start` is none of this target's business.
    pub fn starting_at(start: Offset) -> Self {
        Self { below: start, above: BTreeMap::new() }
    }

    /// The checkpoint: the oldest unsettled offset.
    pub fn below(&self) -> Offset {
        self.below
    }

    /// The first offset with nothing settled from it on.
    pub fn end(&self) -> Offset {
        self.above.values().next_back().copied().unwrap_or(self.below)
    }

    pub fn contains(&self, offset: Offset) -> bool {
        offset < self.below || self.above.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }

    /// Adds one offset; false if it was there already.
    pub fn insert(&mut self, offset: Offset) -> bool {
        if self.contains(offset) {
            return false;
        }
        let end = offset + 1;
        let end = self.above.remove(&end).unwrap_or(end);
        if offset == self.below {
            self.below = end;
            return true;
        }
        match self.above.range_mut(..offset).next_back() {
            // Mostly they come in order: what is known of those before is made longer where it stands.
            Some((_, before)) if *before == offset => *before = end,
            _ => drop(self.above.insert(offset, end)),
        }
        true
    }

    /// How many events from the checkpoint up to `head` are not settled.
    pub fn waiting(&self, head: Offset) -> u64 {
        let above: u64 = self.above.range(..head).map(|(&start, &end)| end.min(head) - start).sum();
        head.saturating_sub(self.below).saturating_sub(above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(start in 0u64..5, offsets in proptest::collection::vec(0u64..60, 0..80)) {
            let mut settled = Settled::starting_at(start);
            let mut plain: BTreeSet<u64> = (0..start).collect();
            for offset in offsets {
                prop_assert_eq!(settled.insert(offset), plain.insert(offset));
                for probe in 0..64 {
                    prop_assert_eq!(settled.contains(probe), plain.contains(&probe));
                }
                let first_gap = (0..).find(|o| !plain.contains(o)).unwrap_or(0);
                prop_assert_eq!(settled.below(), first_gap);
                prop_assert_eq!(settled.waiting(64), (0..64).filter(|o| !plain.contains(o)).count() as u64);
            }
        }
    }
}
