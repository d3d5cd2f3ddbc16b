//! What an open plan means when the file is looked at again: the recovery table, and nothing else.

use crate::settings::WriteMode;
use crate::work::FileWork;

/// What the path shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Length of the file; `None` if it is gone.
    pub length: Option<u64>,
    /// The file ends before what of the plan is settled.
    pub cut: bool,
    /// The bytes before the planned offset are those that were there when it was planned.
    pub anchor_matches: bool,
    pub range: Range,
    /// The temporary file of a new file is there.
    pub temporary: bool,
    /// The recipe would put rows planned now somewhere else: the path's date has passed.
    pub date_passed: bool,
}

/// What stands from the planned offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The file ends at the planned offset.
    Nothing,
    /// All our bytes, perhaps with more after them.
    AllOurs,
    /// The file ends in a prefix of our bytes.
    PrefixOfOurs,
    /// Other bytes, and no row of ours up to the end of the file.
    Foreign,
    /// A row of ours and other bytes, or too much to look at.
    Mixed,
}

/// What to do with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same bytes at the same offset; a new file from its beginning.
    Write,
    /// It arrived.
    Settle,
    /// Nothing of ours is there and somebody else writes here: a new plan at the new end.
    PlanAgain { why: String },
    /// Nobody can know whether the rows were read.
    Doubt { why: String },
    /// A file of the batch's name holds other bytes: a human must look, and nothing is ever sent again by itself.
    Taken { why: String },
}

/// The table of docs/delivery.md, row by row. `work` is a plan whose write may have happened.
pub fn verdict(work: &FileWork, mode: WriteMode, seen: &Seen) -> Verdict {
    if work.plan.new_file { new_file(work, mode, seen) } else { existing_file(work, seen) }
}

fn new_file(work: &FileWork, mode: WriteMode, seen: &Seen) -> Verdict {
    let renamed_perhaps = work.ready && !seen.temporary;
    let exact = seen.length == Some(work.plan.bytes.len() as u64);
    match (renamed_perhaps, seen.length, seen.range) {
        (_, Some(_), Range::AllOurs) if mode == WriteMode::FilePerBatch && exact => Verdict::Settle,
        (true, Some(_), Range::AllOurs) if mode == WriteMode::Append => Verdict::Settle,
        // The rename was done as link and unlink, and only the first happened.
        (false, Some(_), Range::AllOurs) if work.ready => Verdict::Settle,
        (false, Some(_), Range::Mixed) if work.ready => {
            doubt("rows of ours and other bytes stand mixed in the new file")
        }
        (false, None, _) => Verdict::Write,
        (false, Some(_), _) if mode == WriteMode::FilePerBatch => {
            Verdict::Taken { why: "a file of this name is there with other bytes; it is never overwritten".into() }
        }
        (false, Some(_), _) => {
            Verdict::PlanAgain { why: "somebody else made this file before ours got its name".into() }
        }
        (true, None, _) => doubt("the file was put in place, perhaps, and is gone: it may have been picked up"),
        (true, Some(_), _) => doubt("the file was put in place, perhaps, and another one stands there now"),
    }
}

fn existing_file(work: &FileWork, seen: &Seen) -> Verdict {
    let offset = work.plan.file_offset;
    let Some(length) = seen.length else {
        return doubt("the file is gone: it may have been picked up with the rows in it");
    };
    if length < offset {
        return doubt(&format!(
            "the file has {length} bytes, fewer than the {offset} that it had when the rows were planned"
        ));
    }
    if seen.cut {
        return doubt("the file was cut: rows that stood there are gone, and the others of their plan may have been");
    }
    if !seen.anchor_matches {
        return doubt("the bytes before the rows are not those that were there when the rows were planned");
    }
    match seen.range {
        Range::AllOurs => Verdict::Settle,
        Range::Mixed => doubt("rows of ours and other bytes stand mixed where the rows were planned"),
        Range::Nothing | Range::Foreign if seen.date_passed => {
            doubt("the date in the path has passed and none of the rows are in the file")
        }
        Range::Nothing | Range::PrefixOfOurs if offset == 0 => {
            doubt("the file was empty when the rows were planned: it may have been emptied after they were read")
        }
        Range::Nothing | Range::PrefixOfOurs => Verdict::Write,
        Range::Foreign if offset == 0 => doubt(
            "the file was empty when the rows were planned and holds other bytes now: ours may have been read before",
        ),
        Range::Foreign => Verdict::PlanAgain { why: "somebody else wrote where our rows were planned".into() },
    }
}

fn doubt(why: &str) -> Verdict {
    Verdict::Doubt { why: why.into() }
}
