//! How each target is, put together from its delivery's status and what the store knows.

use hms_actors::id::{TargetKey, TargetName};
use hms_actors::policy::circuit::CircuitState;
use hms_actors::supervisor::RecipeSnapshot;

use super::endpoint::{Endpoint, Result};
use super::shapes::{activity, guarantee, mailbox_view};
use crate::admin::AdminError;
use crate::admin::views::{self, Activity, Guarantee, Moment};
use crate::recipe::model;
use crate::store::StoredRecipe;

impl Endpoint {
    pub(super) async fn target_now(&self, target: &TargetKey) -> Result<views::TargetView> {
        let none = || AdminError::not_found(format!("there is no target {target}"));
        let stored = self.stored(&target.recipe)?;
        let snapshot = self.snapshot(&target.recipe).await;
        let mut targets = self.targets_now(&stored, snapshot.as_ref()).into_iter();
        targets.find(|found| found.target == target.target.as_str()).ok_or_else(none)
    }

    pub(super) fn targets_now(
        &self,
        stored: &StoredRecipe,
        snapshot: Option<&RecipeSnapshot>,
    ) -> Vec<views::TargetView> {
        let parsed = self.world.current(stored).ok();
        let view = |name| self.target_view(stored, name, parsed.as_deref(), snapshot);
        stored.targets.keys().map(view).collect()
    }

    fn target_view(
        &self,
        stored: &StoredRecipe,
        name: &TargetName,
        recipe: Option<&model::Recipe>,
        snapshot: Option<&RecipeSnapshot>,
    ) -> views::TargetView {
        let key = TargetKey { recipe: stored.id.clone(), target: name.clone() };
        let spec = recipe.and_then(|recipe| recipe.targets.iter().find(|target| target.name == *name));
        let status = snapshot.and_then(|snapshot| snapshot.targets.iter().find(|status| status.target == *name));
        let circuit = self.world.store.circuit(&key);
        let checkpoint = self.world.store.settled(&key).map_or(0, |settled| settled.below());
        let backlog = self.operations.waiting(&key);
        let oldest = (backlog > 0).then(|| self.world.feeds.first_published(&stored.feed, checkpoint));
        let oldest = oldest.and_then(|found| found.ok().flatten());
        views::TargetView {
            recipe: key.recipe.to_string(),
            target: key.target.to_string(),
            adapter: spec.map_or("", |target| target.adapter.word()).to_owned(),
            guarantee: spec.map_or(Guarantee::AtLeastOnce, guarantee),
            state: state(circuit.state),
            since: Moment(circuit.since),
            consecutive_failures: status.map_or(0, |status| status.consecutive_failures),
            opened_total: circuit.opened_total,
            next_probe_at: circuit.probe_at.map(Moment),
            mailbox: mailbox_view(status.map(|status| status.mailbox).unwrap_or_default()),
            rate_limit: status.and_then(|status| status.rate).map(|rate| views::RateLimitView {
                rate: rate.per_second,
                burst: rate.burst,
                available: rate.available,
            }),
            activity: status.map_or(Activity::Restarting, |status| activity(status.phase)),
            checkpoint,
            backlog,
            oldest_waiting_at: oldest.map(Moment),
            in_flight: status.map_or(0, |status| status.in_flight as u64),
            last_error: self.held_because(&key).or_else(|| status.and_then(|status| status.last_error.clone())),
            next_attempt_at: status.and_then(|status| status.next_attempt_at).map(Moment),
            restarts: status.map_or(0, |status| status.restarts),
            held_by_ticket: self.world.store.held_by(&key),
        }
    }

    /// Why a human is waited for, also after a restart.
    fn held_because(&self, key: &TargetKey) -> Option<String> {
        let ticket = self.world.store.ticket(self.world.store.held_by(key)?)?;
        Some(format!("ticket {}: {}", ticket.number, ticket.reason))
    }
}

fn state(state: CircuitState) -> views::CircuitState {
    match state {
        CircuitState::Closed => views::CircuitState::Closed,
        CircuitState::Open => views::CircuitState::Open,
        CircuitState::HalfOpen => views::CircuitState::HalfOpen,
        CircuitState::ForcedOpen => views::CircuitState::ForcedOpen,
    }
}
