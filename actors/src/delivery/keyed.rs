//! Order per key: which keys are taken by work that is under way, and which events wait behind them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::event::Key;
use crate::id::Offset;

/// Keys that are taken, each with the offsets that wait behind it, ascending. An event that is a key of its own meets
/// nobody: nothing is remembered of it.
#[derive(Debug, Default)]
pub(super) struct Keys {
    taken: HashMap<Key, Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many units have it: more than one after a batch was split.
    holders: u32,
    waiting: VecDeque<Offset>,
}

/// Whether a key is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    Nothing,
    /// Work that is under way has the key.
    Taken,
    /// It has, and others of the key wait behind it.
    Waiting,
}

impl Keys {
    /// No key is taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    pub fn take(&mut self, key: Key) {
        if key.is_shared() {
            self.taken.entry(key).or_default().holders += 1;
        }
    }

    /// Puts an event behind the work that has its key.
    pub fn park(&mut self, key: Key, offset: Offset) {
        self.taken.entry(key).or_default().waiting.push_back(offset);
    }

    /// Puts events back before those that wait behind the work that has their key.
    pub fn put_back(&mut self, key: Key, offsets: &[Offset]) {
        if offsets.is_empty() {
            return;
        }
        let waiting = &mut self.taken.entry(key).or_default().waiting;
        offsets.iter().rev().for_each(|&offset| waiting.push_front(offset));
    }

    /// What an event of this key meets.
    pub fn meets(&self, key: &Key) -> Meets {
        match key.is_shared().then(|| self.taken.get(key)).flatten() {
            None => Meets::Nothing,
            Some(taken) if taken.waiting.is_empty() => Meets::Taken,
            Some(_) => Meets::Waiting,
        }
    }

    /// One unit of work that had `key` is settled. If it was the last, the key stays taken for the events that are
    /// returned, the oldest that waited; if there are none, it is free.
    pub fn next(&mut self, key: &Key, at_most: usize) -> Vec<Offset> {
        if !key.is_shared() {
            return Vec::new();
        }
        let Entry::Occupied(mut entry) = self.taken.entry(key.clone()) else { return Vec::new() };
        let taken = entry.get_mut();
        taken.holders = taken.holders.saturating_sub(1);
        if taken.holders > 0 {
            return Vec::new();
        }
        if taken.waiting.is_empty() {
            entry.remove();
            return Vec::new();
        }
        taken.holders = 1;
        let count = at_most.min(taken.waiting.len());
        taken.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_free_only_when_nothing_waits_behind_it() {
        let key = Key::Value(b"GR-42".as_slice().into());
        let mut keys = Keys::default();
        keys.take(key.clone());
        keys.park(key.clone(), 4);
        keys.park(key.clone(), 7);
        assert_eq!(keys.next(&key, 1), [4]);
        assert_ne!(keys.meets(&key), Meets::Nothing);
        assert_eq!(keys.next(&key, 10), [7]);
        assert_ne!(keys.meets(&key), Meets::Nothing);
        assert!(keys.next(&key, 10).is_empty());
        assert_eq!(keys.meets(&key), Meets::Nothing);
    }

    #[test]
    fn a_key_that_two_halves_of_a_batch_have_waits_for_both() {
        let key = Key::Value(b"GR-42".as_slice().into());
        let mut keys = Keys::default();
        keys.take(key.clone());
        keys.take(key.clone());
        keys.park(key.clone(), 9);
        assert!(keys.next(&key, 10).is_empty());
        assert_eq!(keys.next(&key, 10), [9]);
    }
}
