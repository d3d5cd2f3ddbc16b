//! `hms hitl`: human tickets and their answers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Call, Client, Connection, parse};
use super::{Error, render};

const ANSWERS: &str = "\
What an answer means:
  on a doubt ticket   retry: the rows did not arrive, write them again
                      resolve: they arrived (--note says how that is known)
                      skip: they become dead letters
  on any other        retry: try now
                      resolve: close the ticket, events untouched
                      skip: the events that failed last become dead letters, never the backlog";

/// Tickets for humans: what the courier can't decide alone
#[derive(Debug, Args)]
#[command(after_help = ANSWERS)]
pub(crate) struct Hitl {
    #[command(subcommand)]
    command: HitlCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum HitlCommand {
    /// Open tickets, or all
    List {
        /// Resolved tickets too
        #[arg(long)]
        all: bool,
    },
    /// One ticket in full
    Show { number: u64 },
    /// Try again now; on a doubt ticket: the rows did not arrive, write them again
    Retry(Answer),
    /// Make dead letters of the events in question, and go on
    Skip(Answer),
    /// Close the ticket; on a doubt ticket: the rows arrived (a note is required)
    Resolve(Answer),
}

#[derive(Debug, Args)]
struct Answer {
    number: u64,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Hitl {
    pub async fn run(self) -> Result<(), Error> {
        let client = self.connection.client()?;
        match self.command {
            HitlCommand::List { all } => list(&client, all, self.connection.json).await,
            HitlCommand::Show { number } => {
                let body = client.accepted(Call::get(format!("/v1/tickets/{number}"))).await?;
                if self.connection.json { render::json(&body) } else { show(&parse(&body)?) }
            }
            HitlCommand::Retry(answer) => give(&client, "retry", answer, self.connection.json).await,
            HitlCommand::Skip(answer) => give(&client, "skip", answer, self.connection.json).await,
            HitlCommand::Resolve(answer) => give(&client, "resolve", answer, self.connection.json).await,
        }
    }
}

async fn list(client: &Client, all: bool, json: bool) -> Result<(), Error> {
    let path = if all { "/v1/tickets" } else { "/v1/tickets?state=open" };
    let body = client.accepted(Call::get(path)).await?;
    if json {
        return render::json(&body);
    }
    let rows: Vec<_> = render::rows(&body, "tickets")?
        .iter()
        .map(|ticket| {
            ["number", "state", "recipe", "target", "opened_at", "reason"].map(|name| render::cell(ticket, name))
        })
        .collect();
    render::table(["TICKET", "STATE", "RECIPE", "TARGET", "OPENED", "REASON"], &rows)
}

fn show(ticket: &Value) -> Result<(), Error> {
    let names = [
        "number",
        "state",
        "recipe",
        "target",
        "reason",
        "opened_at",
        "resolved_at",
        "attempts",
        "backlog",
        "last_error",
        "note",
    ];
    render::fields(&names.map(|name| (name, render::field(ticket, name))))
}

async fn give(client: &Client, action: &str, answer: Answer, json: bool) -> Result<(), Error> {
    let path = format!("/v1/tickets/{}", answer.number);
    let body = json!({"action": action, "note": answer.note}).to_string();
    let body = client.accepted(Call::post(path).body("application/json", body)).await?;
    if json {
        return render::json(&body);
    }
    render::line(&format!("ticket {}: {action}", answer.number))
}
