//! The account of a recipe's runs: which events the last of the targets has settled, and which failed.
//! An event counts once, in the run in which the last target settled it by delivery.

use std::collections::BTreeSet;

use crate::few::Few;
use crate::id::{Offset, TargetName};
use crate::settled::Settled;

/// One recipe's account since the last line was written.
#[derive(Debug, Default)]
pub struct Runs {
    targets: Few<TargetName, Target>,
    completed: u64,
    failed: BTreeSet<Offset>,
}

#[derive(Debug, Default)]
struct Target {
    settled: Settled,
    busy: bool,
}

impl Runs {
    /// A target begins (again) with what it has settled.
    pub fn enter(&mut self, target: &TargetName, settled: Settled) {
        self.targets.insert(target.clone(), Target { settled, busy: false });
    }

    pub fn leave(&mut self, target: &TargetName) {
        self.targets.remove(target);
    }

    /// A target has something in flight, or nothing that it could try now.
    pub fn set_busy(&mut self, target: &TargetName, busy: bool) {
        if let Some(target) = self.targets.get_mut(target) {
            target.busy = busy;
        }
    }

    /// A target settled an event: by delivery, or as a dead letter.
    pub fn settled(&mut self, target: &TargetName, offset: Offset, delivered: bool) {
        let Some(entry) = self.targets.get_mut(target) else { return };
        if !entry.settled.insert(offset) {
            return;
        }
        if !delivered {
            self.failed.insert(offset);
        } else if self.targets.values().all(|target| target.settled.contains(offset)) {
            self.completed += 1;
        }
    }

    /// An attempt at these events failed.
    pub fn failed(&mut self, offsets: impl IntoIterator<Item = Offset>) {
        self.failed.extend(offsets);
    }

    /// How many events below `head` this target has not settled.
    pub fn waiting(&self, target: &TargetName, head: Offset) -> Option<u64> {
        self.targets.get(target).map(|target| target.settled.waiting(head))
    }

    /// Nothing is in flight in any target.
    pub fn is_quiet(&self) -> bool {
        self.targets.values().all(|target| !target.busy)
    }

    /// Closes the account: `(completed, failed)`, and begins a new one.
    pub fn close(&mut self) -> (u64, u64) {
        let failed = std::mem::take(&mut self.failed).len() as u64;
        (std::mem::take(&mut self.completed), failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TargetName {
        TargetName::parse(text).unwrap()
    }

    #[test]
    fn an_event_counts_when_the_last_target_has_it_and_only_once() {
        let (gis, cobol) = (name("gis"), name("cobol"));
        let mut runs = Runs::default();
        runs.enter(&gis, Settled::default());
        runs.enter(&cobol, Settled::default());
        runs.settled(&gis, 0, true);
        assert_eq!(runs.close(), (0, 0));
        runs.settled(&cobol, 0, true);
        runs.settled(&cobol, 0, true);
        assert_eq!(runs.close(), (1, 0));
        assert_eq!(runs.close(), (0, 0));
    }

    #[test]
    fn a_target_that_was_added_later_does_not_hold_up_older_events() {
        let (gis, crews) = (name("gis"), name("crews"));
        let mut runs = Runs::default();
        runs.enter(&gis, Settled::default());
        runs.enter(&crews, Settled::starting_at(5));
        runs.settled(&gis, 0, true);
        assert_eq!(runs.close(), (1, 0));
    }

    #[test]
    fn an_event_that_one_target_gave_up_is_a_failure_and_completes_where_the_last_delivers_it() {
        let (gis, cobol) = (name("gis"), name("cobol"));
        let mut runs = Runs::default();
        runs.enter(&gis, Settled::default());
        runs.enter(&cobol, Settled::default());
        runs.settled(&gis, 0, false);
        runs.failed([0, 0, 1]);
        assert_eq!(runs.close(), (0, 2));
        runs.settled(&cobol, 0, true);
        assert_eq!(runs.close(), (1, 0));
    }

    #[test]
    fn a_run_is_quiet_when_no_target_is_busy() {
        let gis = name("gis");
        let mut runs = Runs::default();
        runs.enter(&gis, Settled::default());
        assert!(runs.is_quiet());
        runs.set_busy(&gis, true);
        assert!(!runs.is_quiet());
        runs.leave(&gis);
        assert!(runs.is_quiet());
    }
}
