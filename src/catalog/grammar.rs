//! The grammar of the catalog's file, and what its keys mean together.

use std::collections::BTreeSet;

use hms_actors::id::FeedName;

use super::label::{Label, LabelList};
use super::{Catalog, Feed};
use crate::record;
use crate::yaml::diagnostics::{Collector, quoted};
use crate::yaml::grammar::{Field, Located};
use crate::yaml::values::{FromText, Pairs};

record! {
    /// Which fields of which feed carry which label.
    pub struct CatalogDoc as "the catalog" {
        /// Labels of a field that is not named, in feeds that do not say it themselves. Default restricted.
        optional default: LabelList,
        /// The feeds. One that is not here has no labels.
        optional feeds: Pairs<FeedDoc>,
    }
}

record! {
    /// One feed.
    pub struct FeedDoc as "a feed" {
        /// Labels of each field, or of a nested member by its dotted path: `{ssn: [pii]}`. `[]` is open to all.
        optional fields: Pairs<LabelList>,
        /// Labels of a field that is not named.
        optional default: LabelList,
        /// `subject` and the extension attributes that may go to external targets. Default none.
        optional envelope: Vec<Located<Attribute>>,
    }
}

/// The name of an envelope attribute that a catalog may let out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute(pub String);

impl FromText for Attribute {
    const EXPECTED: &'static str = "`subject` or the name of an extension attribute (a-z 0-9)";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        const ALWAYS: [&str; 5] = ["id", "source", "type", "time", "specversion"];
        if ALWAYS.contains(&text) {
            return Err(Some("this attribute goes to every target anyway".to_owned()));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if text.is_empty() || !text.bytes().all(plain) { Err(None) } else { Ok(Self(text.to_owned())) }
    }
    fn pattern() -> Option<&'static str> {
        Some("^[a-z0-9]+$")
    }
}

impl CatalogDoc {
    pub(super) fn checked(self, errors: &mut Collector<'_>) -> Catalog {
        let default = self.default.map_or_else(|| LabelList([Label::restricted()].into()), |list| list.value);
        let mut catalog = Catalog::default();
        for (name, doc) in self.feeds.map(|feeds| feeds.value.0).unwrap_or_default() {
            match FeedName::parse(&name.value) {
                Ok(feed) => {
                    catalog.feeds.insert(feed, doc.value.checked(&default, errors));
                }
                Err(_) => {
                    let message = format!("expected the name of a feed, found {}", quoted(&name.value));
                    errors.error(name.at, message).help(FeedName::EXPECTED);
                }
            }
        }
        catalog
    }
}

impl FeedDoc {
    fn checked(self, default: &LabelList, errors: &mut Collector<'_>) -> Feed {
        let pairs = self.fields.map(|fields| fields.value.0).unwrap_or_default();
        Feed {
            fields: fields(pairs, errors).into_iter().collect(),
            default: self.default.map_or_else(|| default.clone(), |list| list.value).0,
            envelope: names(self.envelope),
        }
    }
}

/// Fields with their labels. Also for the `labels` of a recipe.
pub fn fields(
    pairs: Vec<(Located<String>, Located<LabelList>)>,
    errors: &mut Collector<'_>,
) -> Vec<(String, super::Labels)> {
    for (path, _) in pairs.iter().filter(|(path, _)| path.value.is_empty() || path.value.contains("..")) {
        errors.error(path.at, format!("expected a field or a dotted path, found {}", quoted(&path.value)));
    }
    pairs.into_iter().map(|(path, labels)| (path.value, labels.value.0)).collect()
}

fn names(list: Field<Vec<Located<Attribute>>>) -> BTreeSet<String> {
    list.map(|list| list.value.into_iter().map(|name| name.value.0).collect()).unwrap_or_default()
}
