//! What an operator's change of a recipe does to the state: targets that come, go and are renamed.
//! Part of `state.rs`'s pure rules; whether a change is allowed is asked before it is written.

use hms_actors::failure::Failure;
use hms_actors::few::Few;
use hms_actors::id::{RecipeId, TargetKey, TargetName, Timestamp};
use hms_actors::receipt::Cause;
use hms_actors::settled::Settled;

use super::record::{Applied, AppliedTarget, Change, RecipeChange};
use super::standing::Standing;
use super::state::{Row, State, StoredRecipe, StoredTarget, Target};

impl State {
    /// Why the change can't be made, as things stand.
    pub fn check_recipe(&self, change: &RecipeChange) -> Result<(), Failure> {
        let id = &change.recipe;
        let current = self.recipes.get(id);
        match (&change.change, current) {
            (Change::Applied(applied), _) => {
                let expected = self.next_revision(id);
                if applied.revision != expected {
                    let found = applied.revision;
                    let why = format!(
                        "recipe `{id}`: revision {found} was applied where {expected} comes next; it was changed meanwhile, look again"
                    );
                    return Err(Failure::refused(why));
                }
                match current.filter(|recipe| !recipe.deleted && recipe.feed != applied.feed) {
                    Some(recipe) => Err(Failure::refused(format!(
                        "recipe `{id}` reads feed `{}`; that can't be changed to `{}`: delete it and apply it anew",
                        recipe.feed, applied.feed
                    ))),
                    None => Ok(()),
                }
            }
            (_, Some(recipe)) if !recipe.deleted => Ok(()),
            _ => Err(Failure::refused(format!("there is no recipe `{id}`"))),
        }
    }

    pub fn next_revision(&self, id: &RecipeId) -> u32 {
        self.recipes.get(id).map_or(1, |recipe| recipe.revision + 1)
    }

    pub(super) fn change_recipe(&mut self, change: &RecipeChange, at: Timestamp) {
        let id = &change.recipe;
        self.changed.insert(Row::Recipe(id.clone()));
        match &change.change {
            Change::Applied(applied) => self.apply_recipe(id, applied, at),
            Change::Paused => self.set_paused(id, true),
            Change::Resumed => self.set_paused(id, false),
            Change::Deleted => self.delete_recipe(id, at),
        }
    }

    fn set_paused(&mut self, id: &RecipeId, paused: bool) {
        if let Some(recipe) = self.recipes.get_mut(id) {
            recipe.paused = paused;
        }
    }

    fn apply_recipe(&mut self, id: &RecipeId, applied: &Applied, at: Timestamp) {
        let before = self.recipes.remove(id).filter(|recipe| !recipe.deleted);
        let (paused, mut texts, old) = match before {
            Some(recipe) => (recipe.paused, recipe.texts, recipe.targets),
            None => Default::default(),
        };
        texts.insert(applied.revision, applied.text.as_str().into());
        let mut targets = Few::default();
        for new in &applied.targets {
            let start = self.place_target(id, new, applied, &old, at);
            targets.insert(new.target.clone(), StoredTarget { revision: new.revision, start });
        }
        for gone in old.keys().filter(|name| !targets.contains_key(*name)) {
            self.remove_target(&key(id, gone), at);
        }
        let (revision, feed) = (applied.revision, applied.feed.clone());
        let recipe = StoredRecipe { id: id.clone(), revision, feed, paused, deleted: false, targets, texts };
        self.recipes.insert(id.clone(), Box::new(recipe));
    }

    /// Sees to it that the target is there; returns where it started.
    fn place_target(
        &mut self,
        id: &RecipeId,
        new: &AppliedTarget,
        applied: &Applied,
        old: &Few<TargetName, StoredTarget>,
        at: Timestamp,
    ) -> u64 {
        if let Some(known) = old.get(&new.target) {
            return known.start;
        }
        let still_there = |name: &TargetName| applied.targets.iter().any(|target| target.target == *name);
        let renamed = new.renamed_from.as_ref().filter(|from| !still_there(from));
        if let Some((from, known)) = renamed.and_then(|from| Some((from, old.get(from)?)))
            && self.rename_target(&key(id, from), &key(id, &new.target))
        {
            return known.start;
        }
        let (number, settled) = (self.counters.target, Settled::starting_at(new.start));
        let target = Target { id: number, settled, standing: Standing::new(at) };
        self.counters.target += 1;
        self.put_target(key(id, &new.target), Box::new(target));
        new.start
    }

    /// False if `from` is gone already: only the first of two that want its name gets it.
    fn rename_target(&mut self, from: &TargetKey, to: &TargetKey) -> bool {
        let Some(target) = self.targets.remove(from) else { return false };
        self.changed.insert(Row::Target(from.clone()));
        self.put_target(to.clone(), target);
        for ticket in self.tickets.values_mut().filter(|ticket| ticket.key == *from) {
            ticket.key = to.clone();
            if let Some(number) = self.open.remove(&(from.clone(), ticket.cause)) {
                self.open.insert((to.clone(), ticket.cause), number);
            }
            self.changed.insert(Row::Ticket(ticket.number));
        }
        for letter in self.letters.values_mut().filter(|letter| letter.key == *from) {
            letter.key = to.clone();
            self.changed.insert(Row::Letter(letter.number));
        }
        for cause in Cause::ALL {
            if let Some(count) = self.waiting.remove(&(from.clone(), cause)) {
                *self.waiting.entry((to.clone(), cause)).or_default() += count;
            }
        }
        true
    }

    fn put_target(&mut self, key: TargetKey, target: Box<Target>) {
        self.changed.insert(Row::Target(key.clone()));
        self.targets.insert(key, target);
    }

    /// Its dead letters stay; its open tickets have nothing left to ask.
    fn remove_target(&mut self, key: &TargetKey, at: Timestamp) {
        if self.targets.remove(key).is_none() {
            return;
        }
        self.changed.insert(Row::Target(key.clone()));
        let open: Vec<u64> = self.open.iter().filter(|((of, _), _)| of == key).map(|(_, &number)| number).collect();
        for number in open {
            self.resolve_ticket(number, at, "removed", Some("the target was removed".to_owned()));
        }
    }

    fn delete_recipe(&mut self, id: &RecipeId, at: Timestamp) {
        let Some(recipe) = self.recipes.get_mut(id) else { return };
        (recipe.deleted, recipe.paused) = (true, false);
        recipe.texts.clear();
        for name in std::mem::take(&mut recipe.targets).into_keys() {
            self.remove_target(&key(id, &name), at);
        }
        if self.frontiers.remove(id).is_some() {
            self.changed.insert(Row::Frontier(id.clone()));
        }
    }
}

fn key(recipe: &RecipeId, target: &TargetName) -> TargetKey {
    TargetKey { recipe: recipe.clone(), target: target.clone() }
}
