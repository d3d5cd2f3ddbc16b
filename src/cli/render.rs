//! How answers look on a terminal: lines, tables and fields that fit a hundred columns. Not what they mean, nor how
//! a table finds its widths.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Error;
use super::client::parse;
use super::table::{self, Column};

/// Columns that a table may take.
const WIDTH: usize = 100;
const GAP: &str = "  ";

/// The node's JSON, as it came.
pub(crate) fn json(body: &[u8]) -> Result<(), Error> {
    out(body)?;
    if body.is_empty() || body.ends_with(b"\n") { Ok(()) } else { out(b"\n") }
}

/// Text that is laid out already.
pub(crate) fn text(text: &str) -> Result<(), Error> {
    out(text.as_bytes())
}

/// One line, or several.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    out(format!("{text}\n").as_bytes())
}

/// Rows under their headings; the last column is cut where the line would get too long.
pub(crate) fn table<const N: usize>(heading: [&'static str; N], rows: &[[String; N]]) -> Result<(), Error> {
    let column = |at| if at + 1 == N { Column::end(heading[at]) } else { Column::whole(heading[at]) };
    print(&std::array::from_fn(column), rows)
}

/// The same for columns of every kind.
pub(crate) fn print<const N: usize>(columns: &[Column; N], rows: &[[String; N]]) -> Result<(), Error> {
    if rows.is_empty() {
        return line("none");
    }
    out(table::text(columns, rows, page()).as_bytes())
}

/// `name  value` lines, values under each other. Fields without a value are left out.
pub(crate) fn fields(rows: &[(&str, Option<String>)]) -> Result<(), Error> {
    text(&fields_text(rows))
}

pub(crate) fn fields_text(rows: &[(&str, Option<String>)]) -> String {
    let width = rows.iter().map(|(name, _)| columns(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:width$}{GAP}{value}");
        }
    }
    text
}

/// Lines of at most so many columns, broken between words; never within a `command`, so that it can be copied.
pub(crate) fn wrap(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut quoted = false;
    let words = paragraph.split(move |at: char| {
        quoted ^= at == '`';
        at.is_whitespace() && !quoted
    });
    for word in words.filter(|word| !word.is_empty()) {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && columns(line) + 1 + columns(word) > width {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// A path with those of the parameters that are given.
pub(crate) fn path(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The objects of a list answer: `{"tickets":[…]}`.
pub(crate) fn rows(body: &[u8], resource: &str) -> Result<Vec<Value>, Error> {
    let mut answer: Value = parse(body)?;
    match answer.get_mut(resource).map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => Err(Error::Failed(format!("the node's answer makes no sense: no list `{resource}`"))),
    }
}

/// The field of a JSON object as a reader wants it; nothing for null and absent.
pub(crate) fn field(object: &Value, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(one_line(text)),
        other => Some(other.to_string()),
    }
}

/// The same for a table's cell.
pub(crate) fn cell(object: &Value, name: &str) -> String {
    field(object, name).unwrap_or_else(|| "-".to_owned())
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(total: Option<u64>, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), format!("{{bar:40}} {{pos}}/{{len}} {what}  {{per_sec}}  {{eta}} left"))
        }
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {{pos}} {what}  {{per_sec}}")),
    };
    bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// `HH:MM:SS`, to the nearest second.
pub(crate) fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How wide a line may get: what `COLUMNS` says, else the terminal, else no limit: for programs that read it.
pub(crate) fn page() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let stated = columns.or_else(terminal).filter(|&columns| columns > 0);
    stated.unwrap_or(if std::io::stdout().is_terminal() { WIDTH } else { usize::MAX })
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

pub(crate) fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A reader who has seen enough (`| head`) is no failure.
fn out(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Failed(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_rounded_as_a_reader_expects() {
        assert_eq!(clock(59.98), "00:01:00");
        assert_eq!(clock(60.0), "00:01:00");
        assert_eq!(clock(0.2), "00:00:00");
        assert_eq!(clock(-1.0), "00:00:00");
        assert_eq!(clock(90_061.0), "25:01:01");
    }

    #[test]
    fn a_paragraph_is_broken_between_words() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("do `a b c` now", 5), ["do", "`a b c`", "now"]);
        assert_eq!(wrap("overlong", 3), ["overlong"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn a_path_carries_what_is_given_and_encodes_it() {
        assert_eq!(path("/v1/x", &[("a", None)]), "/v1/x");
        assert_eq!(path("/v1/x", &[("a", None), ("b", Some("c d&e".to_owned()))]), "/v1/x?b=c+d%26e");
    }

    #[test]
    fn null_and_absent_fields_are_no_value() {
        let object = serde_json::json!({"a": null, "b": "x\ny", "c": 12});
        assert_eq!(field(&object, "a"), None);
        assert_eq!(field(&object, "z"), None);
        assert_eq!(cell(&object, "b"), "x y");
        assert_eq!(cell(&object, "c"), "12");
    }
}
