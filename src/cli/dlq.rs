//! `hms dlq`: dead letters, as far as they can be looked at.

use clap::{Args, Subcommand};

use super::client::{Call, Connection};
use super::{Error, render};

/// Dead letters: events that a target was not given
#[derive(Debug, Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: DlqCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// All of them
    List,
    /// One in full
    Show { number: u64 },
}

const NAMES: [&str; 9] = ["number", "recipe", "target", "feed", "event_id", "offset", "reason", "attempts", "at"];

impl Dlq {
    pub async fn run(self) -> Result<(), Error> {
        let client = self.connection.client()?;
        let body = client.accepted(Call::get("/v1/dead-letters")).await?;
        match self.command {
            DlqCommand::List if self.connection.json => render::json(&body),
            DlqCommand::List => {
                let rows: Vec<_> = render::rows(&body, "dead_letters")?
                    .iter()
                    .map(|letter| {
                        ["number", "recipe", "target", "event_id", "at", "reason"]
                            .map(|name| render::cell(letter, name))
                    })
                    .collect();
                render::table(["LETTER", "RECIPE", "TARGET", "EVENT", "AT", "REASON"], &rows)
            }
            DlqCommand::Show { number } => {
                let letters = render::rows(&body, "dead_letters")?;
                let letter = letters
                    .iter()
                    .find(|letter| letter.get("number").and_then(serde_json::Value::as_u64) == Some(number))
                    .ok_or_else(|| Error::Refused(format!("there is no dead letter {number}")))?;
                if self.connection.json {
                    return render::line(&letter.to_string());
                }
                render::fields(&NAMES.map(|name| (name, render::field(letter, name))))
            }
        }
    }
}
