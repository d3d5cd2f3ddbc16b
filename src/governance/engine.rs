//! The one place where a policy is asked. An evaluation that fails lets a request through as far as Cedar goes (a
//! `forbid` that can't be evaluated forbids nothing), so any diagnostic is a no.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Response,
    RestrictedExpression, Schema,
};
use hms_actors::ports::{Denial, Verdict};

use super::facts::Facts;
use super::load;
use crate::yaml::diagnostics::Diagnostics;

/// A set of policies that is valid, and whether it could be evaluated so far.
pub struct Governance {
    schema: Schema,
    policies: PolicySet,
    authorizer: Authorizer,
    /// Why it could not, at the last time.
    broken: Mutex<Option<String>>,
    #[cfg(test)]
    asked: std::sync::atomic::AtomicU64,
}

/// A target as policies see it, made once.
pub struct Asked {
    facts: Facts,
    recipe: EntityUid,
    target: EntityUid,
    entities: Entities,
}

type Attributes = [(&'static str, RestrictedExpression); 9];

impl Governance {
    /// The node's own policies, and those of the folder.
    pub fn load(folder: Option<&Path>) -> Result<Self, Diagnostics> {
        let (schema, policies) = load::load(folder)?;
        Ok(Self {
            schema,
            policies,
            authorizer: Authorizer::new(),
            broken: Mutex::default(),
            #[cfg(test)]
            asked: Default::default(),
        })
    }

    /// What is asked about a target.
    pub fn target(&self, facts: Facts) -> Result<Asked, String> {
        let recipe = uid("Recipe", &facts.recipe)?;
        let target = uid("Target", &format!("{}/{}", facts.recipe, facts.name))?;
        let feed = [("feed".to_owned(), text(&facts.feed))].into();
        let words = |error: &dyn std::fmt::Display| format!("policies can't be told of this target: {error}");
        let entities = [
            Entity::new(recipe.clone(), feed, [].into()).map_err(|error| words(&error))?,
            Entity::new(target.clone(), named(attributes(&facts)).collect(), [].into())
                .map_err(|error| words(&error))?,
        ];
        let entities = Entities::from_entities(entities, Some(&self.schema)).map_err(|error| words(&error))?;
        Ok(Asked { facts, recipe, target, entities })
    }

    /// Whether an event with these labels may be pushed to the target: the one decision, at `check`, at `apply` and
    /// before each push. `labels` are those of fields in the clear.
    pub fn decide<'l>(
        &self,
        target: &Asked,
        labels: impl IntoIterator<Item = &'l str>,
        protected: impl IntoIterator<Item = &'l str>,
    ) -> Verdict {
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let labels: Vec<&str> = labels.into_iter().collect();
        let context = [("labels", set(labels.iter().copied())), ("protected_labels", set(protected))];
        let response = match self.ask(target, "push", context) {
            Ok(response) => response,
            Err(words) => return self.can_not_tell(words),
        };
        match response.decision() {
            Decision::Allow => Verdict::Allow,
            Decision::Deny => Verdict::Deny(self.denial(target, &labels, &response)),
        }
    }

    /// Whether the values of a label may be sent as they are to a target that is classified external.
    pub fn may_disclose(&self, target: &Asked, label: &str) -> bool {
        match self.ask(target, "disclose", [("label", text(label))]) {
            Ok(response) => response.decision() == Decision::Allow,
            Err(words) => {
                self.can_not_tell(words);
                false
            }
        }
    }

    /// Why policies can't be evaluated, if they could not at the last time.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(test)]
    pub fn asked_to_push(&self) -> u64 {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn ask<const N: usize>(
        &self,
        target: &Asked,
        action: &str,
        context: [(&'static str, RestrictedExpression); N],
    ) -> Result<Response, String> {
        let action = uid("Action", action)?;
        let context = Context::from_pairs(named(context)).map_err(|error| error.to_string())?;
        let (recipe, resource) = (target.recipe.clone(), target.target.clone());
        let request = Request::new(recipe, action, resource, context, Some(&self.schema));
        let request = request.map_err(|error| error.to_string())?;
        let response = self.authorizer.is_authorized(&request, &self.policies, &target.entities);
        let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        if errors.is_empty() { Ok(response) } else { Err(errors.join("; ")) }
    }

    fn can_not_tell(&self, why: String) -> Verdict {
        let words = format!("policies can't be evaluated, so nothing may go: {why}");
        tracing::error!("{words}");
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.clone());
        Verdict::CannotTell { words }
    }

    fn denial(&self, target: &Asked, labels: &[&str], response: &Response) -> Denial {
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort();
        let says = |id: &String| {
            let policy = self.policies.policies().find(|policy| policy.id().to_string() == *id);
            match policy.and_then(|policy| policy.annotation("says")) {
                Some(says) => format!("policy `{id}`: {says}"),
                None => format!("policy `{id}` forbids it"),
            }
        };
        let why = match policies.is_empty() {
            true => "no policy permits it".to_owned(),
            false => policies.iter().map(says).collect::<Vec<_>>().join("; "),
        };
        let clear = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let words = format!("{why} (target: {}; labels in the clear: {clear})", target.facts.place());
        Denial { policies, words }
    }
}

impl Asked {
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

fn attributes(facts: &Facts) -> Attributes {
    [
        ("name", text(&facts.name)),
        ("adapter", text(facts.adapter)),
        ("host", text(&facts.host)),
        ("residency", text(&facts.residency)),
        ("classification", text(facts.classification)),
        ("transport", text(facts.transport)),
        ("encrypted", RestrictedExpression::new_bool(facts.encrypted)),
        ("approved_algorithms", RestrictedExpression::new_bool(facts.approved_algorithms)),
        ("fips_required", RestrictedExpression::new_bool(facts.fips_required)),
    ]
}

fn named<const N: usize>(
    pairs: [(&'static str, RestrictedExpression); N],
) -> impl Iterator<Item = (String, RestrictedExpression)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value))
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|error: cedar_policy::ParseErrors| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set<'l>(labels: impl IntoIterator<Item = &'l str>) -> RestrictedExpression {
    RestrictedExpression::new_set(labels.into_iter().map(text))
}
