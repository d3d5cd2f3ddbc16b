//! Tables that fit a page: which column gives way when there is too little room. What is in them, and where they
//! are printed, is not known here.

use std::fmt::Write as _;

const GAP: usize = 2;

/// A column narrower than this says nothing.
const LEAST: usize = 4;

/// One column: its heading, and how its cells are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    heading: &'static str,
    fit: Fit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    /// Whole, to the right: for numbers and times.
    Right,
    /// Shortened in the middle where there is no room: both ends of a name tell it from others.
    Middle,
    /// Cut at the end where there is no room.
    End,
}

impl Column {
    pub const fn whole(heading: &'static str) -> Self {
        Self { heading, fit: Fit::Whole }
    }
    pub const fn right(heading: &'static str) -> Self {
        Self { heading, fit: Fit::Right }
    }
    pub const fn middle(heading: &'static str) -> Self {
        Self { heading, fit: Fit::Middle }
    }
    pub const fn end(heading: &'static str) -> Self {
        Self { heading, fit: Fit::End }
    }

    fn gives_way(self) -> bool {
        matches!(self.fit, Fit::Middle | Fit::End)
    }
}

/// The rows under their headings, no line longer than `page` columns.
pub(crate) fn text<const N: usize>(columns: &[Column; N], rows: &[[String; N]], page: usize) -> String {
    let widths = widths(columns, rows, page);
    let mut text = String::new();
    push(&mut text, columns, &widths, std::array::from_fn(|at| columns[at].heading), page);
    for row in rows {
        push(&mut text, columns, &widths, std::array::from_fn(|at| row[at].as_str()), page);
    }
    text
}

/// What the columns would like to have; where that is too much, those that give way share what the others leave,
/// the narrow ones first.
fn widths<const N: usize>(columns: &[Column; N], rows: &[[String; N]], page: usize) -> [usize; N] {
    let natural =
        |at: usize| rows.iter().map(|row| length(&row[at])).chain([length(columns[at].heading)]).max().unwrap_or(0);
    let mut widths: [usize; N] = std::array::from_fn(natural);
    let mut flexible: Vec<usize> = (0..N).filter(|&at| columns[at].gives_way()).collect();
    flexible.sort_by_key(|&at| widths[at]);
    let fixed: usize = (0..N).filter(|at| !flexible.contains(at)).map(|at| widths[at]).sum();
    let mut left = page.saturating_sub(fixed + GAP * N.saturating_sub(1));
    for (nth, &at) in flexible.iter().enumerate() {
        let share = left / (flexible.len() - nth);
        widths[at] = widths[at].min(share.max(LEAST));
        left = left.saturating_sub(widths[at]);
    }
    widths
}

fn push<const N: usize>(text: &mut String, columns: &[Column; N], widths: &[usize; N], row: [&str; N], page: usize) {
    let mut line = String::new();
    for (at, (value, &width)) in row.iter().zip(widths).enumerate() {
        if at > 0 {
            line.extend([' '; GAP]);
        }
        let _ = match columns[at].fit {
            Fit::Whole => write!(line, "{value:width$}"),
            Fit::Right => write!(line, "{value:>width$}"),
            Fit::Middle => write!(line, "{:width$}", shorten(value, width)),
            Fit::End => write!(line, "{:width$}", cut(value, width)),
        };
    }
    text.push_str(cut(line.trim_end(), page).trim_end());
    text.push('\n');
}

/// Cut at the end to so many columns.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Shortened in the middle to so many columns; the end is what tells siblings apart, so more of it is kept.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let length = length(text);
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 3, kept - kept / 3);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::middle("NAME"), Column::right("N"), Column::end("WHY")];

    fn row(name: &str, why: &str) -> [String; 3] {
        [name.to_owned(), "7".to_owned(), why.to_owned()]
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        assert_eq!(text(&COLUMNS, &[row("a/b", "down")], 100), "NAME  N  WHY\na/b   7  down\n");
    }

    #[test]
    fn a_narrow_column_leaves_its_room_to_a_wide_one() {
        let shown = text(&COLUMNS, &[row("a/b", &"é".repeat(50))], 30);
        assert_eq!(shown.lines().nth(1), Some(format!("a/b   7  {}…", "é".repeat(20)).as_str()));
    }

    #[test]
    fn two_wide_columns_share_the_page_and_no_line_is_longer() {
        for page in 1..120 {
            let shown = text(&COLUMNS, &[row(&"n".repeat(60), &"w".repeat(60)), row("ü", "")], page);
            assert!(shown.lines().all(|line| length(line) <= page), "{page}:\n{shown}");
        }
        let shown = text(&COLUMNS, &[row(&"n".repeat(60), &"w".repeat(60))], 35);
        assert_eq!(shown.lines().nth(1), Some("nnnn…nnnnnnnnnn  7  wwwwwwwwwwwwww…"));
    }

    #[test]
    fn a_name_keeps_both_its_ends() {
        assert_eq!(shorten("vdot.bridge_grant.sync/cobol_finance", 21), "vdot.b…/cobol_finance");
        assert_eq!(shorten("éé", 2), "éé");
        assert_eq!(shorten("abc", 1), "…");
    }
}
