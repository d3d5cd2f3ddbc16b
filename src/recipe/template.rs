//! Path templates: checked, rendered, and compared. It knows nothing of files.

use std::fmt::Write as _;

use chrono::{DateTime, TimeZone};

use crate::yaml::diagnostics::{nearest, one_of, quoted};
use crate::yaml::values::FromText;

const LONGEST_PATH: usize = 1024;
/// File systems allow 255 bytes; the rest is for the temporary name of a new file.
const LONGEST_SEGMENT: usize = 240;
/// What Linux takes. It bounds what [`paths_can_meet`] costs, too.
const LONGEST_RENDERED: usize = 4096;

/// A path with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    /// A part of the date, as chrono writes it, and how many digits that are.
    Date(&'static str, usize),
    Recipe,
    Batch,
}

const PLACEHOLDERS: [(&str, Placeholder); 8] = [
    ("YYYY", Placeholder::Date("%Y", 4)),
    ("MM", Placeholder::Date("%m", 2)),
    ("DD", Placeholder::Date("%d", 2)),
    ("YYYYMMDD", Placeholder::Date("%Y%m%d", 8)),
    ("HH", Placeholder::Date("%H", 2)),
    ("mm", Placeholder::Date("%M", 2)),
    ("recipe", Placeholder::Recipe),
    ("batch", Placeholder::Batch),
];

/// Whose file it is: what `{recipe}` and `{batch}` are made of.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub recipe: &'a str,
    pub target: &'a str,
}

impl Template {
    /// Compiles a template; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_path(text)?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let close = rest[open..].find('}').map(|length| open + length);
            let Some(close) = close.filter(|close| *close > open) else {
                return Err("a `{` and its `}` belong together".to_owned());
            };
            parts.push(Part::Literal(rest[..open].to_owned()));
            parts.push(Part::Placeholder(placeholder(&rest[open + 1..close])?));
            rest = &rest[close + 1..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The path at a moment, for the batch from the first to the last offset.
    pub fn render<Z: TimeZone>(&self, moment: &DateTime<Z>, owner: Owner<'_>, batch: (u64, u64)) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Placeholder(Placeholder::Date(format, _)) => {
                    // Writing to a String can't fail.
                    let _ = write!(path, "{}", moment.naive_local().format(format));
                }
                Part::Placeholder(Placeholder::Recipe) => path.push_str(owner.recipe),
                Part::Placeholder(Placeholder::Batch) => path.push_str(&owner.batch(batch)),
            }
        }
        path
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the path changes with time.
    pub fn dated(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Placeholder(Placeholder::Date(..))))
    }

    pub fn has_batch(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::Batch))
    }

    /// What is too long for a file system in what can come out, in words.
    pub fn too_long(&self, owner: Owner<'_>) -> Option<String> {
        let longest = self.render(&DateTime::UNIX_EPOCH, owner, (u64::MAX, u64::MAX));
        let name = longest.split('/').map(str::len).max().unwrap_or_default();
        if longest.len() > LONGEST_RENDERED {
            return Some(format!("this path can become {} bytes long, systems take {LONGEST_RENDERED}", longest.len()));
        }
        (name > LONGEST_SEGMENT)
            .then(|| format!("a name in this path can become {name} bytes long, file systems take {LONGEST_SEGMENT}"))
    }

    fn symbols(&self, owner: Owner<'_>) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => symbols.extend(literal(text)),
                Part::Placeholder(Placeholder::Date(_, digits)) => symbols.extend(vec![Symbol::Digit; *digits]),
                Part::Placeholder(Placeholder::Recipe) => symbols.extend(literal(owner.recipe)),
                Part::Placeholder(Placeholder::Batch) => {
                    symbols.extend(literal(&format!("{}-{}-", owner.recipe, owner.target)));
                    symbols.extend([Symbol::Digit, Symbol::MoreDigits]);
                    symbols.extend([Symbol::Byte(b'-'), Symbol::Digit, Symbol::MoreDigits]);
                }
            }
        }
        symbols
    }
}

impl Owner<'_> {
    /// `<recipe>-<target>-<first offset>-<last offset>`
    fn batch(&self, (first, last): (u64, u64)) -> String {
        format!("{}-{}-{first}-{last}", self.recipe, self.target)
    }
}

fn placeholder(name: &str) -> Result<Placeholder, String> {
    let known = || PLACEHOLDERS.iter().map(|(known, _)| *known);
    let found = PLACEHOLDERS.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| *placeholder);
    found.ok_or_else(|| match nearest(name, known()) {
        Some(meant) => {
            format!("{{{}}} is not a placeholder, did you mean {{{meant}}}?", quoted(name).trim_matches('`'))
        }
        None => format!("{} is not a placeholder, expected {} in braces", quoted(name), one_of(known())),
    })
}

/// Names of recipes and targets have no slash and begin with a letter or digit, dates are digits: so no
/// segment can become `.` or `..` by rendering, and what is checked here holds for every path that comes out.
fn check_path(text: &str) -> Result<(), String> {
    let wrong = if !text.starts_with('/') {
        "it must begin with `/`"
    } else if text.ends_with('/') {
        "it must end in a file name"
    } else if text.len() > LONGEST_PATH {
        "it may have at most 1024 bytes"
    } else if text.chars().any(char::is_control) {
        "it may not contain control characters"
    } else if text.contains('\\') {
        "folders are separated by `/`, a backslash is not accepted"
    } else if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        "`.` and `..` may not be in it: it would lead out of its folder"
    } else if text.contains("//") {
        "`//` may not be in it"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

impl FromText for Template {
    const EXPECTED: &'static str = "the path of a file, from the root";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        Self::parse(text).map_err(Some)
    }
    fn pattern() -> Option<&'static str> {
        Some("^/.*[^/]$")
    }
}

/// One step of the set of paths that a template can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Byte(u8),
    Digit,
    /// Any number of digits, also none.
    MoreDigits,
}

/// Upper and lower case are taken as equal: the partner's file system may do so.
fn literal(text: &str) -> Vec<Symbol> {
    text.bytes().map(|byte| Symbol::Byte(byte.to_ascii_lowercase())).collect()
}

impl Symbol {
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Byte(a), Self::Byte(b)) => a == b,
            (Self::Byte(byte), _) | (_, Self::Byte(byte)) => byte.is_ascii_digit(),
            _ => true,
        }
    }
}

/// Whether two templates can give the same path, at whatever moments. It may say yes too often (dates are any
/// digits), never no wrongly.
pub fn paths_can_meet(a: (&Template, Owner<'_>), b: (&Template, Owner<'_>)) -> bool {
    let (a, b) = (a.0.symbols(a.1), b.0.symbols(b.1));
    // `reached[j]`: what comes before `a[i]` can equal what comes before `b[j]`.
    let mut reached = vec![false; b.len() + 1];
    reached[0] = true;
    skip_optional(&mut reached, &b);
    for &symbol in &a {
        let mut next = vec![false; b.len() + 1];
        let repeats = symbol == Symbol::MoreDigits;
        if repeats {
            next.clone_from(&reached);
        }
        for j in 0..b.len() {
            let stays = b[j] == Symbol::MoreDigits;
            let from = reached[j] || (repeats && next[j]);
            if from && symbol.meets(b[j]) {
                next[j + 1] = true;
                next[j] |= stays;
            }
        }
        skip_optional(&mut next, &b);
        reached = next;
    }
    reached[b.len()]
}

fn skip_optional(reached: &mut [bool], b: &[Symbol]) {
    for j in 0..b.len() {
        if reached[j] && b[j] == Symbol::MoreDigits {
            reached[j + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use proptest::prelude::*;

    const OWNER: Owner<'static> = Owner { recipe: "vdot.sync", target: "cobol" };

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn meet(a: &str, b: &str) -> bool {
        let other = Owner { recipe: "other", target: "cobol" };
        let answer = paths_can_meet((&template(a), OWNER), (&template(b), other));
        assert_eq!(answer, paths_can_meet((&template(b), other), (&template(a), OWNER)), "{a} {b}");
        answer
    }

    #[test]
    fn every_placeholder_is_rendered() {
        let moment = "2024-04-30T09:05:59Z".parse::<DateTime<Utc>>().unwrap();
        let all = template("/{YYYY}/{MM}-{DD}/{YYYYMMDD}T{HH}{mm}/{recipe}/{batch}.csv");
        let expected = "/2024/04-30/20240430T0905/vdot.sync/vdot.sync-cobol-7-12.csv";
        assert_eq!(all.render(&moment, OWNER, (7, 12)), expected);
        assert!(all.dated() && all.has_batch());
        assert!(!template("/in/{recipe}.csv").dated());
    }

    #[test]
    fn dates_are_those_of_the_time_zone() {
        let moment = "2024-04-30T23:30:00Z".parse::<DateTime<Utc>>().unwrap();
        let berlin = moment.with_timezone(&chrono_tz::Europe::Berlin);
        assert_eq!(template("/{YYYYMMDD}").render(&berlin, OWNER, (0, 0)), "/20240501");
    }

    #[test]
    fn paths_that_are_no_file_or_lead_elsewhere_are_refused() {
        for text in
            ["", "a", "/", "/a/", "/a/../b", "/..", "/a/./b", "/a//b", "/a\\..\\b", "/a\nb", "/{", "/}", "/a}{b"]
        {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
        assert!(Template::parse("/a..b/.hidden").is_ok());
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_the_nearest() {
        let error = Template::parse("/in/{YYYYMMD}").unwrap_err();
        assert_eq!(error, "{YYYYMMD} is not a placeholder, did you mean {YYYYMMDD}?");
    }

    #[test]
    fn a_name_that_no_file_system_takes_is_found() {
        let long = "r".repeat(128);
        let owner = Owner { recipe: &long, target: &long };
        let words = template("/in/{batch}.csv").too_long(owner).unwrap();
        let length = 128 + 1 + 128 + 1 + 20 + 1 + 20 + 4;
        assert_eq!(words, format!("a name in this path can become {length} bytes long, file systems take 240"));
        assert_eq!(template("/in/{recipe}.csv").too_long(owner), None);
    }

    #[test]
    fn a_path_that_no_system_takes_is_found() {
        let recipe = "r".repeat(119);
        let owner = Owner { recipe: &recipe, target: "cobol" };
        let folders = |names: usize| template(&"/{recipe}".repeat(names));
        assert_eq!(folders(34).too_long(owner), None, "4080 bytes");
        let words = folders(35).too_long(owner).unwrap();
        assert_eq!(words, "this path can become 4200 bytes long, systems take 4096");
    }

    #[test]
    fn paths_meet_where_some_moment_gives_the_same() {
        assert!(meet("/in/a.csv", "/in/a.csv"));
        assert!(meet("/in/A.csv", "/in/a.csv"));
        assert!(meet("/in/{YYYYMMDD}.csv", "/in/{YYYY}{MM}{DD}.csv"));
        assert!(meet("/in/{YYYYMMDD}.csv", "/in/20240430.csv"));
        assert!(meet("/in/{batch}", "/in/vdot.sync-cobol-1-22"));
        assert!(!meet("/in/a_{YYYYMMDD}.csv", "/in/b_{YYYYMMDD}.csv"));
        assert!(!meet("/in/{YYYYMMDD}.csv", "/in/{YYYY}.csv"));
        assert!(!meet("/in/{recipe}.csv", "/in/{recipe}.csv"));
        assert!(!meet("/in/{batch}.csv", "/in/{batch}.csv"));
        assert!(!meet("/in/{batch}", "/in/vdot.sync-cobol--22"));
    }

    proptest! {
        #[test]
        fn what_two_templates_render_alike_is_never_called_apart(
            parts in proptest::collection::vec(prop_oneof!["[a1-]{1,2}", Just("{YYYY}".to_owned()), Just("{batch}".to_owned())], 1..5),
            millis in 0i64..4_000_000_000_000, first in 0u64..2000, last in 0u64..2000,
        ) {
            let path = format!("/{}", parts.concat());
            let moment = DateTime::from_timestamp_millis(millis).unwrap();
            let rendered = template(&path).render(&moment, OWNER, (first, last));
            prop_assert!(paths_can_meet((&template(&path), OWNER), (&template(&rendered), OWNER)));
            prop_assert!(paths_can_meet((&template(&rendered), OWNER), (&template(&path), OWNER)));
        }
    }
}
