//! What the admin endpoint and the application ask of the store, and what an operator changes. All changes
//! are on disk to stay on return.

use std::collections::BTreeMap;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, Offset, RecipeId, Revision, TargetKey};
use hms_actors::policy::circuit::CircuitMemory;
use hms_actors::settled::Settled;
use hms_actors::work::Work;
use tokio::sync::watch;

use super::record::RecipeChange;
use super::state::{DeadLetter, StoredRecipe, Ticket, TicketState};
use super::{Store, keyed, work, writer};
use crate::proof::canonical;

impl Store {
    /// Writes an operator's change of a recipe. Incarnations of targets that are gone or renamed are fenced
    /// off. Refused if the revision is not the next one, the feed differs or there is no such recipe.
    pub async fn recipe_changed(&self, change: RecipeChange) -> Result<(), Failure> {
        // A number that no record can hold would fail others of its group.
        canonical::to_vec(&change)?;
        let recipe = change.recipe.clone();
        let before = self.target_ids(&recipe);
        self.ledger.submit(writer::Job::Recipe(change)).await?;
        let after = self.target_ids(&recipe);
        let gone: Vec<u64> = before.into_iter().filter(|id| !after.contains(id)).collect();
        if !gone.is_empty() {
            gone.iter().for_each(|&id| self.core.room.forget(id));
            if let Err(failure) = self.paces.submit(keyed::Job::Remove(gone.clone())).await {
                tracing::warn!("paces of removed targets are still stored: {failure}");
            }
            // Only tidies up: the next start would do it too.
            if let Err(failure) = self.work.submit(keyed::Job::Remove(gone)).await {
                tracing::warn!("begun work of removed targets is still stored: {failure}");
            }
        }
        Ok(())
    }

    fn target_ids(&self, recipe: &RecipeId) -> Vec<u64> {
        let state = self.core.state();
        let targets = state.targets.range(TargetKey::first_of(recipe)..);
        targets.take_while(|(key, _)| key.recipe == *recipe).map(|(_, target)| target.id).collect()
    }

    /// All recipes that are not deleted, by id.
    pub fn recipes(&self) -> Vec<StoredRecipe> {
        self.core.state().recipes.values().filter(|recipe| !recipe.deleted).map(|recipe| (**recipe).clone()).collect()
    }

    pub fn recipe(&self, id: &RecipeId) -> Option<StoredRecipe> {
        self.core.state().recipes.get(id).filter(|recipe| !recipe.deleted).map(|recipe| (**recipe).clone())
    }

    /// The revision that the next apply gets; it counts on after a deletion.
    pub fn next_revision(&self, id: &RecipeId) -> Revision {
        self.core.state().next_revision(id)
    }

    /// Tickets by number: those in this state, or all that are kept.
    pub fn tickets(&self, state: Option<TicketState>) -> Vec<Ticket> {
        let wanted = |ticket: &&Ticket| state.is_none_or(|state| ticket.state == state);
        self.core.state().tickets.values().filter(wanted).cloned().collect()
    }

    pub fn ticket(&self, number: u64) -> Option<Ticket> {
        self.core.state().tickets.get(&number).cloned()
    }

    /// Tickets that are open, or were still open after record `seq`, by number.
    pub fn tickets_open_after(&self, seq: u64) -> Vec<Ticket> {
        let wanted = |ticket: &&Ticket| ticket.state == TicketState::Open || ticket.resolved_seq > seq;
        self.core.state().tickets.values().filter(wanted).cloned().collect()
    }

    /// Changes whenever a ticket is opened or resolved.
    pub fn ticket_changes(&self) -> watch::Receiver<u64> {
        self.core.ticket_changes.subscribe()
    }

    /// Closes an open ticket. What the answer means for the events is the caller's part.
    pub async fn resolve_ticket(
        &self,
        number: u64,
        action: &str,
        by: &str,
        note: Option<String>,
    ) -> Result<(), Failure> {
        let (action, by) = (action.to_owned(), by.to_owned());
        self.ledger.submit(writer::Job::Resolve { number, action, by, note }).await
    }

    /// Dead letters by number that fit, from `from` on, at most `limit`; and the number of the next one, if there is one.
    pub fn dead_letters(
        &self,
        from: u64,
        limit: usize,
        fits: impl Fn(&DeadLetter) -> bool,
    ) -> (Vec<DeadLetter>, Option<u64>) {
        let state = self.core.state();
        let mut found = state.letters.range(from..).map(|(_, letter)| letter).filter(|letter| fits(letter));
        (found.by_ref().take(limit).cloned().collect(), found.next().map(|letter| letter.number))
    }

    pub fn dead_letter_count(&self) -> usize {
        self.core.state().letters.len()
    }

    /// A dead letter with its own copy of the event.
    pub async fn dead_letter(&self, number: u64) -> Result<Option<(DeadLetter, Event)>, Failure> {
        let Some(letter) = self.core.state().letters.get(&number).cloned() else { return Ok(None) };
        let missing =
            || Failure::node(format!("the event of dead letter {number} is missing in work/dead-letters.log"));
        let value = self.letters.submit(keyed::Job::Get(number)).await?.ok_or_else(missing)?;
        Ok(Some((letter, work::decode_event(value)?)))
    }

    /// Whether the target that missed the event is still there.
    pub fn has_target_of(&self, letter: &DeadLetter) -> bool {
        self.core.state().is_of(letter, &letter.key)
    }

    /// Drops a dead letter: it will not be delivered. The record holds who and why.
    pub async fn drop_letter(&self, number: u64, by: &str, reason: &str) -> Result<(), Failure> {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        self.ledger.submit(writer::Job::DropLetter { number, by, reason }).await?;
        // Only tidies up: the next start would do it too.
        if let Err(failure) = self.letters.submit(keyed::Job::Remove(vec![number])).await {
            tracing::warn!("the event of dead letter {number} is still stored: {failure}");
        }
        Ok(())
    }

    /// A target's circuit, as of its last change.
    pub fn circuit(&self, target: &TargetKey) -> CircuitMemory {
        let state = self.core.state();
        state.targets.get(target).map(|target| target.standing.circuit.clone()).unwrap_or_default()
    }

    /// What a target has behind it.
    pub fn settled(&self, target: &TargetKey) -> Option<Settled> {
        self.core.state().targets.get(target).map(|target| target.settled.clone())
    }

    /// The oldest offset that each target has not settled, with its feed.
    pub fn checkpoints(&self) -> Vec<(FeedName, TargetKey, Offset)> {
        let state = self.core.state();
        let of_each = state.targets.iter().filter_map(|(key, target)| {
            let feed = state.recipes.get(&key.recipe)?.feed.clone();
            Some((feed, key.clone(), target.settled.below()))
        });
        of_each.collect()
    }

    /// What a target has begun last.
    pub async fn work(&self, target: &TargetKey) -> Result<Option<Work>, Failure> {
        let id = self.core.state().targets.get(target).map(|target| target.id);
        match id {
            Some(id) => self.begun(id).await,
            None => Ok(None),
        }
    }

    /// Fences off every incarnation of the target.
    pub fn fence(&self, target: &TargetKey) {
        self.core.fences.close(target);
    }

    /// How many audit records are on disk to stay.
    pub fn audit_size(&self) -> u64 {
        self.audit.size()
    }

    /// Exact stored lines (without the newline) from a number on; fewer than `limit` if they are big.
    /// Blocks on the disk: not for an arbiter's thread.
    pub fn read_lines(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, Failure> {
        self.audit.read(from, limit)
    }

    /// Writes down what an operator did. `subject` is who, never a token.
    pub async fn operator(
        &self,
        action: &str,
        subject: &str,
        details: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let (action, subject) = (action.to_owned(), subject.to_owned());
        self.ledger.submit(writer::Job::Operator { action, subject, details }).await
    }

    /// How far a recipe's last run goes, if that is known.
    pub fn frontier(&self, recipe: &RecipeId) -> Option<Offset> {
        self.core.state().frontiers.get(recipe).copied()
    }

    /// Remembered in the cache only, within seconds.
    pub fn set_frontier(&self, recipe: &RecipeId, frontier: Offset) {
        self.core.state_mut().set_frontier(recipe, frontier);
    }
}
