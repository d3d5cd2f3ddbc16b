//! Whether two targets of a node can write to one file: then neither is its only writer, and they are refused.

use std::collections::BTreeMap;

use hms_actors::id::{RecipeId, TargetName};

use super::model::{Adapter, Recipe};
use super::template::{Owner, Template, paths_can_meet};

/// Two targets whose paths can meet on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// `recipe/target`
    pub one: String,
    /// `recipe/target`
    pub other: String,
    pub paths: (String, String),
}

impl std::fmt::Display for Meeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { one, other, paths } = self;
        write!(f, "{one} ({}) and {other} ({}) can write to one file: give each a path of its own", paths.0, paths.1)
    }
}

/// Where the targets of many recipes write, ordered so that a new one is compared with few of them: two paths can meet
/// only if what stands before the first placeholder of one is how the other begins.
#[derive(Debug, Default)]
pub struct Places {
    /// Host (empty for this machine) and beginning of the path, both in lower case → who writes there.
    known: BTreeMap<(String, String), Vec<Place>>,
    /// Recipe → where it is in `known`.
    of: BTreeMap<RecipeId, Vec<(String, String)>>,
}

/// Where a target writes. Port and user are not looked at: behind another one may be the same files.
#[derive(Debug, Clone)]
struct Place {
    recipe: RecipeId,
    target: TargetName,
    path: String,
}

impl Places {
    /// Takes a recipe up, in place of the one that had its id.
    pub fn put(&mut self, recipe: &Recipe) {
        self.remove(&recipe.id);
        for (at, place) in places(recipe) {
            self.of.entry(recipe.id.clone()).or_default().push(at.clone());
            self.known.entry(at).or_default().push(place);
        }
    }

    pub fn remove(&mut self, id: &RecipeId) {
        for at in self.of.remove(id).unwrap_or_default() {
            if let Some(there) = self.known.get_mut(&at) {
                there.retain(|place| place.recipe != *id);
                if there.is_empty() {
                    self.known.remove(&at);
                }
            }
        }
    }

    /// The first pair of targets that can meet: two of `recipe`, or one of it and one that is known.
    /// A known recipe that has the same id is what `recipe` replaces, and left out.
    pub fn find(&self, recipe: &Recipe) -> Option<Meeting> {
        let mut own = Self::default();
        for (at, place) in places(recipe) {
            let known = self.near(&at).filter(|other| other.recipe != recipe.id);
            if let Some(other) = known.chain(own.near(&at)).find(|other| place.meets(other)) {
                let paths = (place.path.clone(), other.path.clone());
                return Some(Meeting { one: place.name(), other: other.name(), paths });
            }
            own.known.entry(at).or_default().push(place);
        }
        None
    }

    /// Those whose path begins as this one, as far as both are told.
    fn near<'s>(&'s self, (host, start): &(String, String)) -> impl Iterator<Item = &'s Place> + use<'s> {
        let (at, from) = ((host.clone(), start.clone()), (host.clone(), start.clone()));
        let longer =
            self.known.range(from..).take_while(move |(other, _)| other.0 == at.0 && other.1.starts_with(&at.1));
        let ends = start.char_indices().map(|(end, _)| (host.clone(), start[..end].to_owned()));
        let shorter: Vec<&Vec<Place>> = ends.filter_map(|at| self.known.get(&at)).collect();
        longer.map(|(_, places)| places).chain(shorter).flatten()
    }
}

/// The targets of a recipe that write files, each with where it is looked for.
fn places(recipe: &Recipe) -> impl Iterator<Item = ((String, String), Place)> {
    recipe.targets.iter().filter_map(|target| {
        let (host, file) = match &target.adapter {
            Adapter::Sftp(sftp) => (sftp.host.as_str(), &sftp.file),
            Adapter::File(file) => ("", file),
            Adapter::Rest(_) => return None,
        };
        let place = Place { recipe: recipe.id.clone(), target: target.name.clone(), path: file.path.clone() };
        let start = place.path.split('{').next().unwrap_or_default();
        Some(((host.to_ascii_lowercase(), start.to_ascii_lowercase()), place))
    })
}

impl Place {
    fn meets(&self, other: &Self) -> bool {
        let (Ok(one), Ok(another)) = (Template::parse(&self.path), Template::parse(&other.path)) else { return false };
        paths_can_meet((&one, self.owner()), (&another, other.owner()))
    }

    fn owner(&self) -> Owner<'_> {
        Owner { recipe: self.recipe.as_str(), target: self.target.as_str() }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.recipe, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;
    use proptest::prelude::*;

    fn recipe(id: &str, targets: &[(&str, &str, &str)]) -> Recipe {
        let target = |(name, host, path): &(&str, &str, &str)| {
            format!("  - {{name: {name}, adapter: sftp, host: {host}, path: '{path}', format: jsonl}}\n")
        };
        let targets: String = targets.iter().map(target).collect();
        parse("f", &format!("id: {id}\nsource: {{feed: f}}\ntargets:\n{targets}schedule: on_change\n")).unwrap()
    }

    fn find<'r>(recipe: &Recipe, others: impl IntoIterator<Item = &'r Recipe>) -> Option<Meeting> {
        let mut places = Places::default();
        others.into_iter().for_each(|other| places.put(other));
        places.find(recipe)
    }

    #[test]
    fn two_targets_that_can_write_to_one_file_are_found() {
        let one = recipe("one", &[("a", "h", "/in/{YYYYMMDD}.csv")]);
        let two = recipe("two", &[("b", "H", "/in/{YYYY}0430.csv")]);
        let meeting = find(&two, [&one]).unwrap().to_string();
        assert!(meeting.starts_with("two/b (/in/{YYYY}0430.csv) and one/a (/in/{YYYYMMDD}.csv)"), "{meeting}");
        assert!(find(&recipe("one", &[("a", "h", "/x"), ("b", "h", "/x")]), []).is_some());
    }

    #[test]
    fn other_hosts_other_recipes_and_what_is_replaced_do_not_meet() {
        let one = recipe("one", &[("a", "h", "/in/{recipe}.csv")]);
        assert_eq!(find(&recipe("two", &[("a", "h", "/in/{recipe}.csv")]), [&one]), None);
        assert_eq!(find(&recipe("two", &[("a", "g", "/in/one.csv")]), [&one]), None);
        assert_eq!(find(&recipe("one", &[("b", "h", "/in/{recipe}.csv")]), [&one]), None);
    }

    #[test]
    fn what_was_replaced_or_removed_is_met_no_more() {
        let mut places = Places::default();
        places.put(&recipe("one", &[("a", "h", "/in/x.csv"), ("b", "h", "/in/x.json")]));
        let two = recipe("two", &[("a", "h", "/in/{YYYY}.csv"), ("b", "h", "/IN/X.csv")]);
        assert!(places.find(&two).is_some());
        places.put(&recipe("one", &[("a", "h", "/in/y.csv")]));
        assert_eq!(places.find(&two), None);
        places.put(&two);
        assert!(places.find(&recipe("three", &[("a", "h", "/in/1999.csv")])).is_some());
        places.remove(&two.id);
        assert_eq!(places.find(&recipe("three", &[("a", "h", "/in/1999.csv")])), None);
    }

    proptest! {
        /// Whoever is left out when two paths are compared can't meet.
        #[test]
        fn the_order_hides_no_meeting(
            paths in proptest::collection::vec(proptest::collection::vec(prop_oneof!["[aA1-]{1,2}", Just("/1".to_owned()), Just("{YYYY}".to_owned()), Just("{recipe}".to_owned())], 1..4), 2..8),
        ) {
            let recipes: Vec<Recipe> = (0..).zip(&paths).map(|(n, path)| {
                recipe(&format!("a{n}"), &[("t", "h", &format!("/in{}x", path.concat()))])
            }).collect();
            let place = |recipe| places(recipe).next().unwrap().1;
            for (n, one) in recipes.iter().enumerate() {
                let others = recipes.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, other)| other);
                let meets = others.clone().any(|other| place(one).meets(&place(other)));
                prop_assert_eq!(find(one, others).is_some(), meets);
            }
        }
    }
}
