//! Which incarnation of a delivery may write. In memory only: no incarnation outlives the process.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, RecipeId, TargetKey};

use super::group::lock;
use crate::fault;

#[derive(Default)]
pub(super) struct Fences(Mutex<Epochs>);

#[derive(Default)]
struct Epochs {
    /// One counter for all targets: a name that is used again never meets an epoch of its predecessor.
    last: Epoch,
    current: BTreeMap<TargetKey, Epoch>,
}

impl Fences {
    /// A new epoch, which fences off the one before.
    pub fn next(&self, target: &TargetKey) -> Epoch {
        let mut epochs = lock(&self.0);
        epochs.last += 1;
        let epoch = epochs.last;
        epochs.current.insert(target.clone(), epoch);
        epoch
    }

    pub fn check(&self, target: &TargetKey, epoch: Epoch) -> Result<(), Failure> {
        match lock(&self.0).current.get(target) {
            Some(&current) if current == epoch || fault::no_epoch() => Ok(()),
            _ => Err(Failure::fenced(format!(
                "fenced: a newer incarnation of {target} has begun or the target is gone (epoch {epoch})"
            ))),
        }
    }

    /// No incarnation of the target may write any more.
    pub fn close(&self, target: &TargetKey) {
        lock(&self.0).current.remove(target);
    }

    /// Closes the fences of all targets of a recipe but these.
    pub fn retain(&self, recipe: &RecipeId, lives: impl Fn(&TargetKey) -> bool) {
        let current = &mut lock(&self.0).current;
        let of_it = current.range(TargetKey::first_of(recipe)..).map(|(target, _)| target);
        let of_it = of_it.take_while(|target| target.recipe == *recipe);
        let gone: Vec<TargetKey> = of_it.filter(|target| !lives(target)).cloned().collect();
        for target in gone {
            current.remove(&target);
        }
    }
}
