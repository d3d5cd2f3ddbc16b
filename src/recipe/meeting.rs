//! Whether two targets of a node can write to one file: then neither is its only writer, and they are refused.

use super::model::{Adapter, FileTarget, Recipe, Target};
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

/// The first pair of targets that can meet: two of `recipe`, or one of it and one of the `others`.
/// A recipe among the `others` that has the same id is what `recipe` replaces, and left out.
pub fn find<'r>(recipe: &'r Recipe, others: impl IntoIterator<Item = &'r Recipe>) -> Option<Meeting> {
    let mut known: Vec<Place<'r>> = others.into_iter().filter(|other| other.id != recipe.id).flat_map(places).collect();
    for place in places(recipe) {
        if let Some(other) = known.iter().find(|other| place.meets(other)) {
            let paths = (place.file.path.clone(), other.file.path.clone());
            return Some(Meeting { one: place.name(), other: other.name(), paths });
        }
        known.push(place);
    }
    None
}

/// Where a target writes. Port and user are not looked at: behind another one may be the same files.
struct Place<'r> {
    recipe: &'r Recipe,
    target: &'r Target,
    /// Empty for this machine.
    host: &'r str,
    file: &'r FileTarget,
    template: Template,
}

fn places(recipe: &Recipe) -> impl Iterator<Item = Place<'_>> {
    recipe.targets.iter().filter_map(|target| {
        let (host, file) = match &target.adapter {
            Adapter::Sftp(sftp) => (sftp.host.as_str(), &sftp.file),
            Adapter::File(file) => ("", file),
            Adapter::Rest(_) => return None,
        };
        Some(Place { recipe, target, host, file, template: Template::parse(&file.path).ok()? })
    })
}

impl Place<'_> {
    fn meets(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && paths_can_meet((&self.template, self.owner()), (&other.template, other.owner()))
    }

    fn owner(&self) -> Owner<'_> {
        Owner { recipe: self.recipe.id.as_str(), target: self.target.name.as_str() }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.recipe.id, self.target.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    fn recipe(id: &str, targets: &[(&str, &str, &str)]) -> Recipe {
        let target = |(name, host, path): &(&str, &str, &str)| {
            format!("  - {{name: {name}, adapter: sftp, host: {host}, path: '{path}', format: jsonl}}\n")
        };
        let targets: String = targets.iter().map(target).collect();
        parse("f", &format!("id: {id}\nsource: {{feed: f}}\ntargets:\n{targets}schedule: on_change\n")).unwrap()
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
}
