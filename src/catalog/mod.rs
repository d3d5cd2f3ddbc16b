//! The data catalog: which fields of which feed carry which label. It is a file of the node's, `catalog` in hms.yaml,
//! and not of a recipe's author, who may add labels and never remove one. Not here: what follows from a label (that
//! is `privacy` and the policies).
//!
//! A feed without an entry has no labels. In a feed that has one, a field that isn't named counts as `default` says.

mod grammar;
mod label;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hms_actors::id::FeedName;

use crate::recipe::model::Source;
use crate::yaml::diagnostics::{Collector, Diagnostics};
use crate::yaml::grammar::{Grammar, Reader};
use crate::yaml::tree::{self, Value};

pub use grammar::{CatalogDoc, fields};
pub use label::{Label, LabelList, Labels};

/// What the node knows of the feeds' fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    feeds: BTreeMap<FeedName, Feed>,
}

/// One feed's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Field, or dotted path of a nested member → its labels; none for a field that is open to all.
    pub fields: BTreeMap<String, Labels>,
    /// Labels of a field that isn't named.
    pub default: Labels,
    /// `subject` and extension attributes that may go to external targets.
    pub envelope: BTreeSet<String>,
}

impl Catalog {
    /// Reads the file; an empty catalog without a path.
    pub fn load(path: Option<&Path>) -> Result<Self, Diagnostics> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|error| Diagnostics::of_file(&file, format!("not readable: {error}")))?;
        Self::parse(&file, tree::text(&file, &bytes)?)
    }

    /// Parses and checks a catalog. `file` is for the errors alone.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut tree = tree::parse(file, text)?;
        if tree.value == Value::Null {
            tree.value = Value::Map(Vec::new());
        }
        let mut reader = Reader::new(Collector::new(file, text));
        let doc = CatalogDoc::read(&tree, &mut reader);
        let catalog = doc.map(|doc| doc.checked(&mut reader.errors));
        reader.errors.finish(catalog)
    }

    pub fn feed(&self, feed: &FeedName) -> Option<&Feed> {
        self.feeds.get(feed)
    }

    /// The labels of a recipe's fields: the catalog's, and those that the recipe adds.
    pub fn labels(&self, source: &Source) -> FieldLabels {
        let feed = self.feeds.get(&source.feed);
        let mut fields = feed.map(|feed| feed.fields.clone()).unwrap_or_default();
        let default = feed.map(|feed| feed.default.clone()).unwrap_or_default();
        for (path, added) in &source.labels {
            // A field that the catalog does not name keeps what it counts as; a nested member counts with its field.
            let nested = path.contains('.');
            let labels =
                fields.entry(path.clone()).or_insert_with(|| if nested { Labels::new() } else { default.clone() });
            labels.extend(added.iter().cloned());
        }
        FieldLabels { fields, default }
    }
}

/// Labels of the fields that a recipe reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldLabels {
    /// Field, or dotted path of a nested member.
    fields: BTreeMap<String, Labels>,
    default: Labels,
}

impl FieldLabels {
    /// Whether no field can have a label.
    pub fn is_empty(&self) -> bool {
        self.default.is_empty() && self.fields.values().all(Labels::is_empty)
    }

    /// The labels of a top-level field: its own (else the default), and those of all that may be in it.
    pub fn of(&self, field: &str) -> Labels {
        let mut labels = self.fields.get(field).unwrap_or(&self.default).clone();
        let inside =
            self.fields.iter().filter(|(path, _)| path.strip_prefix(field).is_some_and(|rest| rest.starts_with('.')));
        inside.for_each(|(_, inner)| labels.extend(inner.iter().cloned()));
        labels
    }

    /// What a field that is named nowhere counts as.
    pub fn default(&self) -> &Labels {
        &self.default
    }

    /// Every top-level field whose labels may differ from the default. A dotted name may be a path or a field of that
    /// very name, so it stands for itself and for each of its beginnings.
    pub fn named(&self) -> BTreeSet<&str> {
        let beginnings = |path: &'_ str| -> Vec<usize> { path.match_indices('.').map(|(at, _)| at).collect() };
        self.fields
            .keys()
            .flat_map(|path| beginnings(path).into_iter().map(|at| &path[..at]).chain([path.as_str()]))
            .collect()
    }
}

#[cfg(test)]
mod tests;
