//! What is done with each field on its way to one target, and which of them go there at all.

use std::collections::{BTreeMap, BTreeSet};

use super::Disclosure;
use crate::catalog::{Catalog, FieldLabels, Labels};
use crate::recipe::model::{Adapter, Classification, Protection, Source, Target};

/// How a value goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As published.
    Clear,
    Protected(Protection),
}

impl Way {
    /// As it stands in a recipe.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Protected(Protection::Token) => "token",
            Self::Protected(Protection::Redact) => "redact",
            Self::Protected(Protection::Last4) => "last4",
            Self::Protected(Protection::Ff1) => "ff1",
        }
    }
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treatment {
    pub labels: Labels,
    pub way: Way,
}

/// All fields of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treatments {
    named: BTreeMap<String, Treatment>,
    /// A field that is named nowhere.
    otherwise: Treatment,
    /// The fields that are copied; absent = all.
    copied: Option<BTreeSet<String>>,
    in_url: BTreeSet<String>,
    attributes: Attributes,
    /// Whether any value that may go to the target carries a label.
    labelled: bool,
}

/// The envelope's attributes that go along, beside those that always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attributes {
    All,
    Only(BTreeSet<String>),
}

impl Attributes {
    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl Treatments {
    pub fn new(source: &Source, target: &Target, catalog: &Catalog, disclosure: &dyn Disclosure) -> Self {
        let labels = catalog.labels(source);
        let in_url: BTreeSet<String> = match &target.adapter {
            Adapter::Rest(rest) => rest.url_fields().map(str::to_owned).collect(),
            Adapter::Sftp(_) | Adapter::File(_) => BTreeSet::new(),
        };
        let external = target.classification == Classification::External;
        let way = |field: Option<&str>, labels: &Labels| {
            let asked = target.protect.iter().find(|(name, _)| field == Some(name)).map(|(_, how)| *how);
            let must = external && labels.iter().any(|label| !disclosure.may_disclose(label));
            asked.or(must.then_some(Protection::Token)).map_or(Way::Clear, Way::Protected)
        };
        let treatment = |field: &str| {
            let labels = labels.of(field);
            (field.to_owned(), Treatment { way: way(Some(field), &labels), labels })
        };
        let otherwise = Treatment { labels: labels.default().clone(), way: way(None, labels.default()) };
        let mut treatments = Self {
            named: names(source, target, &labels, &in_url).into_iter().map(treatment).collect(),
            otherwise,
            copied: source.fields.as_ref().map(|fields| fields.iter().cloned().collect()),
            attributes: match catalog.feed(&source.feed) {
                _ if !external => Attributes::All,
                Some(feed) => Attributes::Only(feed.envelope.clone()),
                None => Attributes::Only(BTreeSet::new()),
            },
            in_url,
            labelled: false,
        };
        treatments.labelled = treatments.any(|treatment| !treatment.labels.is_empty());
        treatments
    }

    /// What is done with a top-level field.
    pub fn of(&self, field: &str) -> &Treatment {
        self.named.get(field).unwrap_or(&self.otherwise)
    }

    /// The fields that are known by name and go to the target, in order.
    pub fn sent(&self) -> impl Iterator<Item = (&str, &Treatment)> {
        self.named.iter().map(|(name, treatment)| (name.as_str(), treatment)).filter(|(name, _)| self.sends(name))
    }

    /// What is done with fields that are named nowhere, if such fields go to the target.
    pub fn unnamed(&self) -> Option<&Treatment> {
        self.copied.is_none().then_some(&self.otherwise)
    }

    /// Whether a top-level field goes to the target, in its body or its url.
    pub fn sends(&self, field: &str) -> bool {
        self.in_url.contains(field) || self.copied.as_ref().is_none_or(|copied| copied.contains(field))
    }

    /// Whether any value that may go to the target is protected.
    pub fn protects(&self) -> bool {
        self.any(|treatment| treatment.way != Way::Clear)
    }

    /// Whether any value that may go to the target carries a label.
    pub fn labelled(&self) -> bool {
        self.labelled
    }

    /// Whether protection needs the partner's key.
    pub fn needs_key(&self) -> bool {
        let keyed = |way| matches!(way, Way::Protected(Protection::Token | Protection::Ff1));
        self.any(|treatment| keyed(treatment.way))
    }

    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    fn any(&self, is: impl Fn(&Treatment) -> bool) -> bool {
        self.unnamed().is_some_and(&is) || self.sent().any(|(_, treatment)| is(treatment))
    }
}

/// Every field that is not simply one of the others.
fn names<'a>(
    source: &'a Source,
    target: &'a Target,
    labels: &'a FieldLabels,
    in_url: &'a BTreeSet<String>,
) -> BTreeSet<&'a str> {
    let protected = target.protect.iter().map(|(field, _)| field.as_str());
    let copied = source.fields.iter().flatten().map(String::as_str);
    let mut names = labels.named();
    names.extend(protected.chain(copied).chain(in_url.iter().map(String::as_str)));
    names
}
