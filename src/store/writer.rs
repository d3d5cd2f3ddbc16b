//! The commit point: the one thread that writes the audit, and changes the state when it is synced.
//! What goes into the records is `draft.rs`; how bytes reach the disk is `audit.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, TargetKey};
use hms_actors::receipt::Entry;

use super::Core;
use super::audit::Journal;
use super::draft::{Draft, Effect, Outcome};
use super::file::AppendError;
use super::group::{Committer, Log};
use super::keyed::{self, Keyed};
use super::record::{Body, RecipeChange};
use crate::fault;

pub(super) enum Job {
    Commit {
        target: TargetKey,
        epoch: Epoch,
        entries: Vec<Entry>,
    },
    Resolve {
        number: u64,
        action: String,
        by: String,
        note: Option<String>,
    },
    Recipe(RecipeChange),
    DropLetter {
        number: u64,
        by: String,
        reason: String,
    },
    Operator {
        action: String,
        subject: String,
        details: BTreeMap<String, String>,
    },
    /// Writes nothing: answered when all jobs before it are done.
    Barrier,
    /// Lets the file that grows be followed by another, if it has records.
    Roll,
}

pub(super) struct Writer {
    core: Arc<Core>,
    journal: Journal,
    letters: Arc<Committer<Keyed>>,
}

impl Log for Writer {
    type Job = Job;
    type Answer = ();

    fn commit(&mut self, jobs: Vec<Job>) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            // What follows a recipe's change is drafted against the changed state.
            let mut group = Vec::new();
            for job in jobs.by_ref() {
                let changes_recipe = matches!(job, Job::Recipe(_));
                group.push(job);
                if changes_recipe {
                    break;
                }
            }
            answers.extend(self.write(group));
        }
        answers
    }
}

impl Writer {
    pub fn new(core: Arc<Core>, journal: Journal, letters: Arc<Committer<Keyed>>) -> Self {
        Self { core, journal, letters }
    }

    fn write(&mut self, group: Vec<Job>) -> Vec<Result<(), Failure>> {
        let (drafted, outcome) = {
            let state = self.core.state();
            let mut draft = Draft::new(&state, &self.core.fences, self.core.clock.now());
            let drafted: Vec<_> = group.into_iter().map(|job| draft.add(job)).collect();
            (drafted, draft.outcome)
        };
        let stored = self.store(&outcome);
        if stored.is_ok() {
            self.take_effect(outcome);
        }
        drafted.into_iter().map(|drafted| drafted.and(stored.clone())).collect()
    }

    fn store(&mut self, outcome: &Outcome) -> Result<(), Failure> {
        if outcome.roll {
            self.journal.roll();
        }
        if outcome.effects.is_empty() {
            return Ok(());
        }
        if !outcome.letters.is_empty() {
            self.store_letters(&outcome.letters)?;
        }
        fault::point("ledger.before_commit");
        self.append(&outcome.lines)?;
        fault::point("ledger.after_commit");
        Ok(())
    }

    /// On a full disk dead letters take of the room that is held for records: receipts of the same group wait for them.
    fn store_letters(&self, letters: &[(u64, Vec<u8>)]) -> Result<(), Failure> {
        let put = || {
            let values = letters.iter().map(|(number, event)| (*number, event.clone().into())).collect();
            self.letters.submit_blocking(keyed::Job::Put { values, guard: None }).map(drop)
        };
        let bytes = letters.iter().map(|(_, event)| event.len() as u64).sum();
        match put() {
            Err(_) if self.core.health.check().is_ok() && self.core.room.give(bytes) => put(),
            other => other,
        }
    }

    /// On a full disk the records take the room that was held for them.
    fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        match self.journal.append(lines) {
            Err(AppendError::NoRoom(_)) if self.core.room.give(lines.len() as u64) => Ok(self.journal.append(lines)?),
            other => Ok(other?),
        }
    }

    fn take_effect(&self, outcome: Outcome) {
        let mut state = self.core.state_mut();
        for effect in &outcome.effects {
            match effect {
                Effect::Record(record) => state.apply(record),
                Effect::Delivered { target, events, seq } => state.delivered(target, events, *seq),
            }
        }
        for update in outcome.updates {
            state.update_ticket(update);
        }
        let last = state.last_ticket_change;
        self.core.ticket_changes.send_if_modified(|known| std::mem::replace(known, last) != last);
        if let Some(Effect::Record(record)) = outcome.effects.last()
            && let Body::Recipe(change) = &record.body
        {
            self.core.fences.retain(&change.recipe, |target| state.targets.contains_key(target));
        }
    }
}
