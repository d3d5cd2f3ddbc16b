//! The page of `hms dlq show`: one dead letter, its attempts, and its event digit for digit.

use std::fmt::Write as _;

use hms_actors::id::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admin::views::{AttemptView, DeadLetterView, LetterCause};
use crate::cli::ages::ago;
use crate::cli::client::parse;
use crate::cli::table::{self, Column};
use crate::cli::{Error, render};

/// What a dead letter has beside the fields of the list.
#[derive(Deserialize)]
struct More {
    event: Box<RawValue>,
    history: Vec<AttemptView>,
}

const ATTEMPTS: [Column; 3] = [Column::right("AGE"), Column::whole("KIND"), Column::end("ERROR")];

pub(super) fn text(body: &[u8], now: Timestamp, page: usize) -> Result<String, Error> {
    let letter: DeadLetterView = parse(body)?;
    let More { event, history } = parse(body)?;
    let mut text = render::fields_text(&facts(&letter, now));
    if !history.is_empty() {
        let row =
            |attempt: &AttemptView| [ago(attempt.at, now), attempt.kind.clone(), render::one_line(&attempt.error)];
        let rows: Vec<_> = history.iter().map(row).collect();
        let _ = write!(text, "\nLAST ATTEMPTS\n{}", table::text(&ATTEMPTS, &rows, page));
    }
    let _ = write!(text, "\nEVENT\n{}\n\nWHAT TO DO NEXT\n", event.get());
    for line in render::wrap(&advice(&letter), page.min(100).saturating_sub(2)) {
        let _ = writeln!(text, "  {line}");
    }
    Ok(text)
}

fn facts(letter: &DeadLetterView, now: Timestamp) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("letter", Some(letter.number.to_string())),
        ("recipe", Some(letter.recipe.clone())),
        ("target", Some(letter.target.clone())),
        ("event", Some(format!("{} (feed {}, offset {})", letter.event_id, letter.feed, letter.offset))),
        ("cause", letter.cause.map(|cause| cause_in_words(cause).to_owned())),
        ("reason", Some(render::one_line(&letter.reason))),
        ("attempts", Some(letter.attempts.to_string())),
        ("since", Some(format!("{} ({} ago)", String::from(letter.at), ago(letter.at, now)))),
    ]
}

fn cause_in_words(cause: LetterCause) -> &'static str {
    match cause {
        LetterCause::Refused => "the partner refused it",
        LetterCause::Policy => "a policy forbids to send it",
        LetterCause::Doubt => "its rows were in doubt, and an operator skipped them",
    }
}

fn advice(letter: &DeadLetterView) -> String {
    let number = letter.number;
    if letter.replaying {
        return format!(
            "A replay is under way. Look again: `hms dlq show {number}` finds nothing once it is delivered."
        );
    }
    let give_up = format!("`hms dlq drop {number} --reason TEXT` gives it up for good.");
    match letter.may_have_arrived {
        true => format!(
            "Nobody knows whether {} has it: ask there first. If it has not, `hms dlq replay {number} --force` delivers \
             it; {give_up}",
            letter.target
        ),
        false => format!(
            "When the cause is gone, `hms dlq replay {number}` delivers it to {} alone, even if later events of its key \
             went before it; {give_up}",
            letter.target
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dlq::tests::{NOW, letter};

    fn body(letter: &DeadLetterView) -> Vec<u8> {
        let letter = serde_json::to_string(letter).unwrap();
        let at = String::from(letter_at());
        format!(
            "{},\"event\":{{\"specversion\":\"1.0\",\"id\":\"e-7\",\"data\":{{\"usd\":1250.10}}}},\
             \"history\":[{{\"at\":\"{at}\",\"kind\":\"refused\",\"error\":\"422 Unprocessable\\nEntity\"}}]}}",
            letter.strip_suffix('}').unwrap()
        )
        .into_bytes()
    }

    fn letter_at() -> crate::admin::views::Moment {
        letter(0, "", "", "").at
    }

    #[test]
    fn the_event_is_shown_digit_for_digit_with_what_to_do() {
        let letter = letter(7, "vdot_gis", "e-7", "422 Unprocessable Entity: no such grant");
        insta::assert_snapshot!(text(&body(&letter), NOW, 100).unwrap());
    }

    #[test]
    fn one_that_may_have_arrived_is_asked_about_first() {
        let doubtful = DeadLetterView { may_have_arrived: true, ..letter(7, "cobol", "e-7", "skipped") };
        let shown = text(&body(&doubtful), NOW, 100).unwrap();
        assert!(shown.contains("ask there first") && shown.contains("`hms dlq replay 7 --force`"), "{shown}");
        let replaying = DeadLetterView { replaying: true, ..doubtful };
        assert!(text(&body(&replaying), NOW, 100).unwrap().contains("A replay is under way"));
    }
}
