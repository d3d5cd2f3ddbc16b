//! `hms dlq`: dead letters. Here are the grammar, the list and giving up; replaying is `replay`, one in full is `page`.

mod page;
mod replay;

use clap::{Args, Subcommand};
use hms_actors::id::{RecipeId, TargetName, Timestamp};
use reqwest::Method;

use super::ages::{ago, now};
use super::client::{Call, Client, Connection, parse};
use super::table::{self, Column};
use super::{Error, render, words};
use crate::admin::views::{DeadLetterList, DeadLetterView};

const EXAMPLES: &str = "\
Examples:
  hms dlq list --recipe vdot.bridge_grant.sync
  hms dlq replay 7 9                                        one after the other
  hms dlq replay --all --recipe vdot.bridge_grant.sync --rate 5/s
  hms dlq drop 7 --reason 'withdrawn by the county'";

/// Dead letters: events that a target was not given
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: DlqCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Dead letters by number, a page at a time
    List(List),
    /// One in full: why, its attempts, its event
    Show {
        number: u64,
    },
    Replay(replay::Replay),
    /// Give one up for good
    Drop {
        number: u64,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    of: Of,
    /// The first number
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

/// Whose dead letters.
#[derive(Debug, Clone, Default, Args)]
struct Of {
    /// Only this recipe's
    #[arg(long, value_parser = RecipeId::parse)]
    recipe: Option<RecipeId>,
    /// Only those of targets with this name
    #[arg(long, value_parser = TargetName::parse)]
    target: Option<TargetName>,
}

impl Of {
    /// The address of a page.
    fn page(&self, from: u64, limit: u64) -> String {
        let (recipe, target) = (self.recipe.clone().map(String::from), self.target.clone().map(String::from));
        let (from, limit) = (Some(from.to_string()), Some(limit.to_string()));
        let parameters = [("recipe", recipe), ("target", target), ("from", from), ("limit", limit)];
        render::path("/v1/dead-letters", &parameters)
    }
}

impl Dlq {
    pub async fn run(self) -> Result<(), Error> {
        let client = self.connection.client()?;
        let json = self.connection.json;
        match self.command {
            DlqCommand::List(wanted) => list(&client, &wanted, json).await,
            DlqCommand::Show { number } => {
                let body = client.accepted(Call::get(format!("/v1/dead-letters/{number}"))).await?;
                if json { render::json(&body) } else { render::text(&page::text(&body, now(), render::page())?) }
            }
            DlqCommand::Replay(replay) => replay.run(&client, json).await,
            DlqCommand::Drop { number, reason } => give_up(&client, number, reason, json).await,
        }
    }
}

async fn list(client: &Client, wanted: &List, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::get(wanted.of.page(wanted.from, wanted.limit))).await?;
    if json {
        return render::json(&body);
    }
    let DeadLetterList { dead_letters, next } = parse(&body)?;
    render::text(&table(&dead_letters, now(), render::page()))?;
    match next {
        Some(next) => render::line(&format!("\nmore: --from {next}")),
        None => Ok(()),
    }
}

async fn give_up(client: &Client, number: u64, reason: String, json: bool) -> Result<(), Error> {
    let path = render::path(&format!("/v1/dead-letters/{number}"), &[("reason", Some(reason))]);
    let body = client.accepted(Call::new(Method::DELETE, path)).await?;
    if json { render::json(&body) } else { render::line(&format!("dead letter {number} dropped")) }
}

const COLUMNS: [Column; 7] = [
    Column::right("LETTER"),
    Column::right("AGE"),
    Column::middle("TARGET"),
    Column::middle("EVENT"),
    Column::right("ATTEMPTS"),
    Column::whole("STATE"),
    Column::end("REASON"),
];

fn table(letters: &[DeadLetterView], now: Timestamp, page: usize) -> String {
    if letters.is_empty() {
        return "none\n".to_owned();
    }
    let row = |letter: &DeadLetterView| {
        [
            letter.number.to_string(),
            ago(letter.at, now),
            format!("{}/{}", letter.recipe, letter.target),
            letter.event_id.clone(),
            letter.attempts.to_string(),
            state(letter).to_owned(),
            words::in_a_few(&letter.reason),
        ]
    };
    table::text(&COLUMNS, &letters.iter().map(row).collect::<Vec<_>>(), page)
}

fn state(letter: &DeadLetterView) -> &'static str {
    match letter {
        DeadLetterView { replaying: true, .. } => "replaying",
        DeadLetterView { may_have_arrived: true, .. } => "in doubt",
        _ => "waits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::views::{LetterCause, Moment};
    use crate::cli::scripted;

    pub const NOW: Timestamp = Timestamp(1_763_950_000_000);

    pub fn letter(number: u64, target: &str, event_id: &str, reason: &str) -> DeadLetterView {
        DeadLetterView {
            number,
            recipe: "vdot.bridge_grant.sync".to_owned(),
            target: target.to_owned(),
            feed: "grants".to_owned(),
            event_id: event_id.to_owned(),
            offset: 4_711,
            reason: reason.to_owned(),
            cause: Some(LetterCause::Refused),
            attempts: 3,
            at: Moment(Timestamp(NOW.0 - 4_000_000)),
            may_have_arrived: false,
            replaying: false,
        }
    }

    #[test]
    fn the_table_reads_well_on_a_hundred_columns() {
        let refused = "422 Unprocessable Entity: {\"error\":\"no such grant\"}";
        let letters = [
            letter(7, "vdot_gis", "0199f3a1-7c1e-7d6b-8f00-5b1c2d3e4f50", refused),
            DeadLetterView { replaying: true, ..letter(9, "vdot_gis", "e-9", "target_removed") },
            DeadLetterView { may_have_arrived: true, ..letter(1_204, "cobol_finance", "e-10", "skipped") },
        ];
        insta::assert_snapshot!(table(&letters, NOW, 100));
        assert_eq!(table(&[], NOW, 100), "none\n");
    }

    #[tokio::test]
    async fn one_is_given_up_with_its_reason() {
        let (client, requests) = scripted::node(vec![Some((200, r#"{"number":7,"state":"dropped","later":[]}"#))]);
        give_up(&client, 7, "withdrawn & gone".to_owned(), false).await.expect("is dropped");
        let asked = requests.recv().expect("a request");
        assert_eq!(asked, "DELETE /v1/dead-letters/7?reason=withdrawn+%26+gone HTTP/1.1\n");
    }
}
