//! The words of `HMS_FAULT`. The table is in `fault.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hms_actors::id::TargetKey;

/// A fault that a test wants, and how often its place was passed.
#[derive(Debug)]
pub(super) struct Wanted {
    pub fault: Fault,
    passed: AtomicU32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Die { point: String, nth: u32 },
    Panic { place: Place, times: u32 },
    Stuck { place: Place, times: u32, wait: Duration },
    Power,
    NoSync { folder: Option<String> },
    NoPlan,
    NoEpoch,
    Ghost { of: Option<String> },
}

/// An adapter, and whose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    name: String,
    of: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Wanted>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| Ok(Wanted { fault: fault(word)?, passed: AtomicU32::new(0) })).collect()
}

impl Wanted {
    /// Counts a passage; says the how-manieth it is.
    pub fn passed(&self) -> u32 {
        self.passed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

impl Fault {
    pub fn skips_sync_of(&self, file: &Path) -> bool {
        let Self::NoSync { folder } = self else { return false };
        let of = file.parent().and_then(Path::file_name);
        folder.as_ref().is_none_or(|folder| of.is_some_and(|of| of == folder.as_str()))
    }
}

impl Place {
    pub fn is(&self, name: &str, target: &TargetKey) -> bool {
        self.name == name && names(&self.of, target)
    }
}

/// Whether this is how a test calls the target.
pub(super) fn names(of: &Option<String>, target: &TargetKey) -> bool {
    of.as_ref().is_none_or(|of| *of == target.to_string() || of == target.target.as_str())
}

fn fault(word: &str) -> Result<Fault, String> {
    let (head, rest) = word.split_once(':').map_or((word, None), |(head, rest)| (head, Some(rest)));
    Ok(match (head, rest) {
        ("panic", Some(rest)) => {
            let (place, times) = times(rest)?;
            Fault::Panic { place: self::place(place), times }
        }
        ("stuck", Some(rest)) => {
            let (rest, times) = times(rest)?;
            let (place, seconds) =
                rest.split_once('=').ok_or_else(|| format!("`{word}`: for how many seconds? stuck:PLACE=SECONDS"))?;
            Fault::Stuck { place: self::place(place), times, wait: Duration::from_secs(number(seconds)?.into()) }
        }
        ("power", None) => Fault::Power,
        ("nosync", folder) => Fault::NoSync { folder: folder.map(str::to_owned) },
        ("noplan", None) => Fault::NoPlan,
        ("noepoch", None) => Fault::NoEpoch,
        (ghost, None) if ghost.split('@').next() == Some("ghost") => Fault::Ghost { of: place(ghost).of },
        (point, nth) => Fault::Die { point: point.to_owned(), nth: nth.map_or(Ok(1), number)? },
    })
}

/// `WHAT*N`, or `WHAT` for once.
fn times(text: &str) -> Result<(&str, u32), String> {
    match text.split_once('*') {
        Some((what, times)) => Ok((what, number(times)?)),
        None => Ok((text, 1)),
    }
}

/// `NAME@TARGET`, or `NAME` for all targets.
fn place(text: &str) -> Place {
    let (name, of) = text.split_once('@').map_or((text, None), |(name, of)| (name, Some(of.to_owned())));
    Place { name: name.to_owned(), of }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| format!("`{text}` is no number: {error}"))
}

#[cfg(test)]
mod tests {
    use hms_actors::id::{RecipeId, TargetName};

    use super::*;

    fn one(text: &str) -> Fault {
        parse(text).unwrap().pop().unwrap().fault
    }

    fn at(name: &str, of: Option<&str>) -> Place {
        Place { name: name.into(), of: of.map(Into::into) }
    }

    #[test]
    fn each_word_of_the_table_is_understood() {
        assert_eq!(one("append.written:3"), Fault::Die { point: "append.written".into(), nth: 3 });
        assert_eq!(
            one("panic:adapter.rest@api*100"),
            Fault::Panic { place: at("adapter.rest", Some("api")), times: 100 }
        );
        let wait = Duration::from_secs(30);
        assert_eq!(one("stuck:adapter.sftp=30*2"), Fault::Stuck { place: at("adapter.sftp", None), times: 2, wait });
        assert_eq!(one("nosync:audit"), Fault::NoSync { folder: Some("audit".into()) });
        assert_eq!(one("ghost@a.sync/b"), Fault::Ghost { of: Some("a.sync/b".into()) });
        let all = parse("power, nosync,noplan,noepoch").unwrap();
        let all: Vec<_> = all.into_iter().map(|wanted| wanted.fault).collect();
        assert_eq!(all, [Fault::Power, Fault::NoSync { folder: None }, Fault::NoPlan, Fault::NoEpoch]);
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for text in ["append.written:x", "panic:adapter.rest*many", "stuck:adapter.rest", "stuck:adapter.rest=long"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_goes_by_its_name_alone_or_with_its_recipe() {
        let target =
            TargetKey { recipe: RecipeId::parse("a.sync").unwrap(), target: TargetName::parse("api").unwrap() };
        for (of, expected) in [(None, true), (Some("api"), true), (Some("a.sync/api"), true), (Some("a"), false)] {
            assert_eq!(at("adapter.rest", of).is("adapter.rest", &target), expected, "{of:?}");
        }
        assert!(!at("adapter.rest", None).is("adapter.file", &target));
    }

    #[test]
    fn a_folder_s_journals_are_those_directly_in_it() {
        let skips = |text: &str| one(text).skips_sync_of(Path::new("/data/events/000000000001.log"));
        assert!(skips("nosync") && skips("nosync:events") && !skips("nosync:audit") && !skips("power"));
    }
}
