//! Errors in a text, as a compiler reports them: where, what was found, what instead; all of them at once.

use std::fmt;

use serde::Serialize;

/// More errors than this in one text are not shown: the first ones explain the rest.
const MOST: usize = 100;
/// So much of a source line is shown around an error.
const WIDTH: usize = 120;

/// Everything that is wrong with one text, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// The part of the source line that is shown, and where the mark goes under it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    indent: usize,
    mark: usize,
}

/// Where something stands in a text: line and column from 1, length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

impl At {
    pub const START: At = At { line: 1, column: 1, length: 0 };
}

impl Diagnostics {
    /// An error of the file as a whole: it can't be read, it is too large.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self(vec![Diagnostic::new(file, At::START, message.into(), None)])
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl Diagnostic {
    fn new(file: &str, at: At, message: String, excerpt: Option<Excerpt>) -> Self {
        Self { file: file.to_owned(), line: at.line, column: at.column, message, help: None, excerpt }
    }

    /// Says what to write instead.
    pub fn help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }

    /// Leaves out the source line: it may hold a secret.
    pub fn hide_source(&mut self) -> &mut Self {
        self.excerpt = None;
        self
    }
}

/// Collects the errors of one text.
#[derive(Debug)]
pub struct Collector<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    found: Vec<Diagnostic>,
    /// Takes what comes after the last error that is shown.
    beyond: Option<Diagnostic>,
}

impl<'a> Collector<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: text.lines().collect(), found: Vec::new(), beyond: None }
    }

    pub fn error(&mut self, at: At, message: impl Into<String>) -> &mut Diagnostic {
        if self.is_full() {
            return self.beyond.insert(Diagnostic::new(self.file, at, message.into(), None));
        }
        let source = (at.line as usize).checked_sub(1).and_then(|index| self.lines.get(index));
        let excerpt = source.map(|line| Excerpt::around(line, at));
        self.found.push_mut(Diagnostic::new(self.file, at, message.into(), excerpt))
    }

    /// Whether there are as many errors as will be shown: looking for more is a waste.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MOST
    }

    /// The value, if nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Diagnostics> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(self.into_errors()),
        }
    }

    /// For a text that is known to be wrong.
    pub fn into_errors(mut self) -> Diagnostics {
        if self.found.is_empty() {
            self.error(At::START, "the text is incomplete");
        }
        self.found.sort_by_key(|error| (error.line, error.column));
        Diagnostics(self.found)
    }
}

impl Excerpt {
    fn around(line: &str, at: At) -> Self {
        let column = (at.column as usize).saturating_sub(1);
        let first = if column < WIDTH - 20 { 0 } else { column - WIDTH / 2 };
        let line: String = line.chars().skip(first).take(WIDTH).map(printable).collect();
        let indent = column - first;
        let room = line.chars().count().saturating_sub(indent);
        Self { line, indent, mark: (at.length as usize).min(room).max(1) }
    }
}

/// A control character would let a text write to the reader's terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// What was found, for use in a message: in back-quotes, without control characters, not too long.
pub fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).map(printable).collect();
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// The known name that was probably meant.
pub fn nearest<'n>(found: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let found = found.get(..found.len().min(64)).unwrap_or_default();
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&found.to_ascii_lowercase(), &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `a`, `b` or `c`.
pub fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: error: {}", self.file, self.line, self.column, self.message)?;
        if let Some(Excerpt { line, indent, mark }) = &self.excerpt {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            write!(f, "\n {number} | {line}\n {gutter} | {}{}", " ".repeat(*indent), "^".repeat(*mark))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(nearest("fileds", ["fields", "feed", "from"]), Some("fields"));
        assert_eq!(nearest("Rest", ["rest", "sftp"]), Some("rest"));
        assert_eq!(nearest("kafka", ["rest", "sftp", "file"]), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_error_and_shows_no_control_characters() {
        let text = format!("{}\u{1b}[31m{}", "a".repeat(500), "b".repeat(500));
        let mut errors = Collector::new("f", &text);
        errors.error(At { line: 1, column: 501, length: 5 }, "here");
        let shown = errors.finish::<()>(None).unwrap_err().to_string();
        assert!(!shown.contains('\u{1b}'));
        assert!(shown.lines().all(|line| line.chars().count() < WIDTH + 10), "{shown}");
    }

    #[test]
    fn errors_serialise_as_a_list_with_their_position_and_help() {
        let mut errors = Collector::new("f.yaml", "a: 1");
        errors.error(At { line: 1, column: 4, length: 1 }, "no").help("yes");
        let errors = errors.finish::<()>(None).unwrap_err();
        let expected = serde_json::json!([{"file": "f.yaml", "line": 1, "column": 4, "message": "no", "help": "yes"}]);
        assert_eq!(serde_json::to_value(&errors).unwrap(), expected);
    }
}
