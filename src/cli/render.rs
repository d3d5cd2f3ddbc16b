//! How answers look on a terminal: lines, tables and fields that fit a hundred columns. Not what they mean.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};

use serde_json::Value;

use super::Error;
use super::client::parse;

/// Columns that a table may take.
const WIDTH: usize = 100;
const GAP: &str = "  ";

/// The node's JSON, as it came.
pub(crate) fn json(body: &[u8]) -> Result<(), Error> {
    out(body)?;
    if body.is_empty() || body.ends_with(b"\n") { Ok(()) } else { out(b"\n") }
}

/// One line, or several.
pub(crate) fn line(text: &str) -> Result<(), Error> {
    out(format!("{text}\n").as_bytes())
}

/// Rows under a heading; the last column is cut where the line would get too long.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Result<(), Error> {
    if rows.is_empty() {
        return line("none");
    }
    let width = |column: usize| {
        rows.iter().map(|row| columns(&row[column])).chain([columns(heading[column])]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let page = page();
    push_row(&mut text, &widths, heading, page);
    for row in rows {
        push_row(&mut text, &widths, std::array::from_fn(|column| row[column].as_str()), page);
    }
    out(text.as_bytes())
}

/// `name  value` lines, values under each other. Fields without a value are left out.
pub(crate) fn fields(rows: &[(&str, Option<String>)]) -> Result<(), Error> {
    let width = rows.iter().map(|(name, _)| columns(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:width$}{GAP}{value}");
        }
    }
    out(text.as_bytes())
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

/// `HH:MM:SS`, to the nearest second.
pub(crate) fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How wide a line may get: what `COLUMNS` says, a hundred columns on a terminal, and no limit for programs that read it.
fn page() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(if std::io::stdout().is_terminal() { WIDTH } else { usize::MAX })
}

fn push_row<const N: usize>(text: &mut String, widths: &[usize; N], row: [&str; N], page: usize) {
    let mut line = String::new();
    for (column, (value, width)) in row.iter().zip(widths).enumerate() {
        if column > 0 {
            line.push_str(GAP);
        }
        let _ = write!(line, "{value:width$}");
    }
    let line = line.trim_end();
    match line.char_indices().nth(page) {
        Some(_) => text.extend(line.chars().take(page.saturating_sub(1)).chain(['…'])),
        None => text.push_str(line),
    }
    text.push('\n');
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

fn one_line(text: &str) -> String {
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
    fn a_long_row_is_cut_at_the_width_of_the_page() {
        let mut text = String::new();
        push_row(&mut text, &[3, 200], ["a", &"é".repeat(200)], WIDTH);
        assert_eq!(text.trim_end().chars().count(), WIDTH);
        assert!(text.starts_with("a    é") && text.ends_with("…\n"), "{text}");
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
