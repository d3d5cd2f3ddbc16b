//! What applying a recipe changes in the one that runs: as people wrote it, key by key, target by target.

use std::collections::BTreeMap;
use std::fmt;

use hms_actors::id::TargetName;
use serde::Serialize;

use super::model::{Recipe, Target};
use crate::yaml::tree::{self, Node, Value};

/// What changes. Defaults that nobody wrote are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipeDiff {
    /// Keys of the recipe and its source.
    pub fields: Vec<Change>,
    pub targets: Vec<TargetDiff>,
    /// Why it can't be applied, if it can't.
    pub refused: Vec<String>,
    /// What all targets are shaped by has changed: the projection, the key, or `retries`.
    #[serde(skip)]
    shape_changed: bool,
}

/// One key: added, removed, or another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetDiff {
    pub name: TargetName,
    pub change: TargetChange,
    pub fields: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetChange {
    Added,
    Removed,
    Changed,
    RenamedFrom(TargetName),
}

/// What applying `new` changes in `old`.
pub fn diff(old: &Recipe, new: &Recipe) -> RecipeDiff {
    let (old_keys, new_keys) = (Written::of(old), Written::of(new));
    let added_or_changed = new.targets.iter().filter_map(|target| {
        let before = predecessor(old, target);
        let change = match before {
            None => TargetChange::Added,
            Some(before) if before.name != target.name => TargetChange::RenamedFrom(before.name.clone()),
            Some(before) if same_settings(before, target) => return None,
            Some(_) => TargetChange::Changed,
        };
        let was = before.map(|before| old_keys.target(&before.name)).unwrap_or_default();
        Some(TargetDiff { name: target.name.clone(), change, fields: changes(&was, &new_keys.target(&target.name)) })
    });
    let removed = removed(old, new).map(|target| TargetDiff {
        name: target.name.clone(),
        change: TargetChange::Removed,
        fields: Vec::new(),
    });
    RecipeDiff {
        fields: changes(&old_keys.recipe, &new_keys.recipe),
        targets: added_or_changed.chain(removed).collect(),
        refused: refused(old, new),
        shape_changed: shape(old) != shape(new),
    }
}

impl RecipeDiff {
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.targets.is_empty()
    }

    /// Whether the target's delivery has to start again with new settings.
    pub fn restarts(&self, target: &TargetName) -> bool {
        self.shape_changed || self.targets.iter().any(|diff| diff.name == *target)
    }

    /// The targets that go: each must have nothing waiting, or be abandoned.
    pub fn removed(&self) -> impl Iterator<Item = &TargetName> {
        self.targets.iter().filter(|diff| diff.change == TargetChange::Removed).map(|diff| &diff.name)
    }
}

/// Everything that each target's bytes and patience depend on.
fn shape(recipe: &Recipe) -> impl PartialEq + '_ {
    let source = &recipe.source;
    (&source.fields, &source.key, &source.required, &source.labels, recipe.retries)
}

/// The target of the old recipe that this one goes on from: the one of its name, else its old name.
fn predecessor<'r>(old: &'r Recipe, target: &Target) -> Option<&'r Target> {
    let named = |name: &TargetName| old.targets.iter().find(|old| old.name == *name);
    named(&target.name).or_else(|| target.renamed_from.as_ref().and_then(named))
}

fn removed<'r>(old: &'r Recipe, new: &'r Recipe) -> impl Iterator<Item = &'r Target> {
    let goes_on = |target: &Target| {
        new.targets.iter().filter_map(|new| predecessor(old, new)).any(|before| before.name == target.name)
    };
    old.targets.iter().filter(move |target| !goes_on(target))
}

/// `renamed_from` has had its effect once the target has its new name.
fn same_settings(old: &Target, new: &Target) -> bool {
    old.adapter == new.adapter
        && old.map == new.map
        && old.classification == new.classification
        && old.protect == new.protect
        && old.residency == new.residency
}

fn refused(old: &Recipe, new: &Recipe) -> Vec<String> {
    let mut refused = Vec::new();
    if old.source.feed != new.source.feed {
        let (was, is) = (&old.source.feed, &new.source.feed);
        refused.push(format!(
            "`source.feed` of a recipe can't be changed ({was} → {is}): its checkpoints are offsets of that feed. \
             Apply it under another id"
        ));
    }
    for target in &new.targets {
        let Some(from) = &target.renamed_from else { continue };
        let has = |name: &TargetName| old.targets.iter().any(|old| old.name == *name);
        match (has(from), has(&target.name)) {
            (true, true) => {
                refused.push(format!("`{}` can't take over from `{from}`: it has a checkpoint of its own", target.name))
            }
            (false, false) => refused.push(format!(
                "`renamed_from: {from}` of `{}`: the recipe that runs has no target of that name",
                target.name
            )),
            _ => {}
        }
    }
    refused
}

type Keys = BTreeMap<String, String>;

/// The keys of a recipe as they were written: dotted name → value.
struct Written {
    recipe: Keys,
    targets: BTreeMap<String, Keys>,
}

impl Written {
    fn of(recipe: &Recipe) -> Self {
        let mut written = Self { recipe: Keys::new(), targets: BTreeMap::new() };
        let tree = tree::parse("", &recipe.text).expect("the text of a checked recipe is YAML");
        for (key, node) in entries(&tree) {
            match (key, &node.value) {
                ("targets", Value::List(targets)) => targets.iter().for_each(|target| written.add_target(target)),
                _ => flatten(key, node, &mut written.recipe),
            }
        }
        written
    }

    fn add_target(&mut self, target: &Node) {
        let mut keys = Keys::new();
        entries(target).for_each(|(key, node)| flatten(key, node, &mut keys));
        keys.remove("renamed_from");
        if let Some(name) = keys.remove("name") {
            self.targets.insert(name, keys);
        }
    }

    fn target(&self, name: &TargetName) -> Keys {
        self.targets.get(name.as_str()).cloned().unwrap_or_default()
    }
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(key, node)| (key.name.as_str(), node))
}

fn flatten(key: &str, node: &Node, into: &mut Keys) {
    match &node.value {
        Value::Map(_) => entries(node).for_each(|(inner, node)| flatten(&format!("{key}.{inner}"), node, into)),
        _ => {
            into.insert(key.to_owned(), inline(node));
        }
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Map(_) => {
            let pairs: Vec<String> = entries(node).map(|(key, node)| format!("{key}: {}", inline(node))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn changes(old: &Keys, new: &Keys) -> Vec<Change> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let change = |key: &String| Change { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() };
    keys.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {}: {old} → {new}", self.key),
            (None, Some(new)) => write!(f, "+ {}: {new}", self.key),
            (Some(old), None) => write!(f, "- {}: {old}", self.key),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for TargetDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            TargetChange::Added => write!(f, "+ target {}", self.name)?,
            TargetChange::Removed => write!(f, "- target {}", self.name)?,
            TargetChange::Changed => write!(f, "~ target {}", self.name)?,
            TargetChange::RenamedFrom(old) => write!(f, "~ target {} (was {old})", self.name)?,
        }
        self.fields.iter().try_for_each(|change| write!(f, "\n    {change}"))
    }
}

impl fmt::Display for RecipeDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(ToString::to_string);
        let targets = self.targets.iter().map(ToString::to_string);
        let refused = self.refused.iter().map(|reason| format!("! {reason}"));
        f.write_str(&fields.chain(targets).chain(refused).collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    const OLD: &str = "id: a.sync
source: {feed: grants, fields: [id, amount]}
targets:
  - {name: gis, adapter: rest, url: 'https://gis.vdot.gov/', headers: {X-A: a}}
  - {name: cobol, adapter: sftp, host: h, path: /a.csv, format: csv}
schedule: every 60s
";

    fn recipe(text: &str) -> Recipe {
        parse("f", text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn name(text: &str) -> TargetName {
        TargetName::parse(text).unwrap()
    }

    #[test]
    fn the_same_recipe_written_otherwise_changes_nothing() {
        let other = OLD.replace("{name: gis, adapter: rest,", "{adapter: rest, name: gis, # first\n    timeout: 10s,");
        assert!(diff(&recipe(OLD), &recipe(&other)).is_empty());
        assert!(!diff(&recipe(OLD), &recipe(&other)).restarts(&name("gis")));
    }

    #[test]
    fn each_key_and_target_is_told_with_old_and_new() {
        let new = "id: a.sync
source: {feed: grants, fields: [id, amount]}
targets:
  - {name: gis, adapter: rest, url: 'https://gis.vdot.gov/v2', headers: {X-A: b}, concurrency: 4}
  - {name: finance, renamed_from: cobol, adapter: sftp, host: h, path: /a.csv, format: csv}
  - {name: drop, adapter: file, path: /b, format: jsonl}
schedule: on_change
retries: 5
";
        let expected = "+ retries: 5
~ schedule: every 60s → on_change
~ target gis
    + concurrency: 4
    ~ headers.X-A: a → b
    ~ url: https://gis.vdot.gov/ → https://gis.vdot.gov/v2
~ target finance (was cobol)
+ target drop
    + adapter: file
    + format: jsonl
    + path: /b";
        let diff = diff(&recipe(OLD), &recipe(new));
        assert_eq!(diff.to_string(), expected);
        assert_eq!(diff.removed().count(), 0);
        assert!(diff.restarts(&name("gis")) && diff.refused.is_empty());
    }

    #[test]
    fn a_target_that_is_gone_is_named_and_the_others_stay() {
        let new = OLD.replace("  - {name: cobol, adapter: sftp, host: h, path: /a.csv, format: csv}\n", "");
        let diff = diff(&recipe(OLD), &recipe(&new));
        assert_eq!(diff.removed().collect::<Vec<_>>(), [&name("cobol")]);
        assert!(!diff.restarts(&name("gis")));
    }

    #[test]
    fn another_projection_restarts_every_target() {
        let diff = diff(&recipe(OLD), &recipe(&OLD.replace("[id, amount]", "[amount, id]")));
        assert!(diff.targets.is_empty() && diff.restarts(&name("gis")) && diff.restarts(&name("cobol")));
    }

    #[test]
    fn the_feed_can_not_be_changed_and_only_a_target_that_was_there_can_be_taken_over() {
        let other_feed = recipe(&OLD.replace("feed: grants", "feed: bridges"));
        assert!(diff(&recipe(OLD), &other_feed).refused[0].contains("(grants → bridges)"));
        let nobody = recipe(&OLD.replace("{name: cobol,", "{name: new, renamed_from: old,"));
        assert!(diff(&recipe(OLD), &nobody).refused[0].contains("no target of that name"));
        let applied_again = recipe(&OLD.replace("{name: cobol,", "{name: cobol, renamed_from: old,"));
        assert!(diff(&recipe(OLD), &applied_again).refused.is_empty());
    }
}
