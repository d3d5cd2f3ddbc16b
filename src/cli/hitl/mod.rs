//! `hms hitl`: human tickets and their answers. What an answer means for a cause is told by `page`.

mod page;

use clap::{Args, Subcommand};
use hms_actors::id::{RecipeId, TargetName, Timestamp};
use serde_json::json;

use super::ages::{ago, now};
use super::client::{Call, Client, Connection, parse};
use super::table::{self, Column};
use super::{Error, render, words};
use crate::admin::views::{TicketList, TicketState, TicketView};

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
    List(List),
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
struct List {
    /// Resolved tickets too
    #[arg(long)]
    all: bool,
    /// Only this recipe's
    #[arg(long, value_parser = RecipeId::parse)]
    recipe: Option<RecipeId>,
    /// Only those of targets with this name
    #[arg(long, value_parser = TargetName::parse)]
    target: Option<TargetName>,
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
            HitlCommand::List(wanted) => list(&client, wanted, self.connection.json).await,
            HitlCommand::Show { number } => {
                let body = client.accepted(Call::get(format!("/v1/tickets/{number}"))).await?;
                if self.connection.json {
                    render::json(&body)
                } else {
                    render::text(&page::text(&parse(&body)?, now(), render::page()))
                }
            }
            HitlCommand::Retry(answer) => give(&client, "retry", answer, self.connection.json).await,
            HitlCommand::Skip(answer) => give(&client, "skip", answer, self.connection.json).await,
            HitlCommand::Resolve(answer) => give(&client, "resolve", answer, self.connection.json).await,
        }
    }
}

async fn list(client: &Client, wanted: List, json: bool) -> Result<(), Error> {
    let state = (!wanted.all).then(|| "open".to_owned());
    let (recipe, target) = (wanted.recipe.map(String::from), wanted.target.map(String::from));
    let path = render::path("/v1/tickets", &[("state", state), ("recipe", recipe), ("target", target)]);
    let body = client.accepted(Call::get(path)).await?;
    if json {
        return render::json(&body);
    }
    let TicketList { tickets } = parse(&body)?;
    render::text(&table(&tickets, now(), render::page()))
}

const COLUMNS: [Column; 7] = [
    Column::right("TICKET"),
    Column::right("AGE"),
    Column::middle("TARGET"),
    Column::whole("CAUSE"),
    Column::right("ATTEMPTS"),
    Column::right("BACKLOG"),
    Column::end("LAST ERROR"),
];

fn table(tickets: &[TicketView], now: Timestamp, page: usize) -> String {
    if tickets.is_empty() {
        return "none\n".to_owned();
    }
    let row = |ticket: &TicketView| {
        let cause = ticket.cause.as_str();
        [
            ticket.number.to_string(),
            ago(ticket.opened_at, now),
            format!("{}/{}", ticket.recipe, ticket.target),
            match ticket.state {
                TicketState::Open => cause.to_owned(),
                TicketState::Resolved => format!("{cause}, resolved"),
            },
            ticket.attempts.to_string(),
            ticket.backlog.to_string(),
            words::in_a_few(ticket.last_error.as_deref().unwrap_or(&ticket.reason)),
        ]
    };
    table::text(&COLUMNS, &tickets.iter().map(row).collect::<Vec<_>>(), page)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::views::Moment;
    use crate::cli::scripted;
    use hms_actors::receipt::Cause;

    pub const NOW: Timestamp = Timestamp(1_763_950_000_000);

    pub fn ticket(number: u64, cause: Cause, target: &str, error: Option<&str>) -> TicketView {
        TicketView {
            number,
            state: TicketState::Open,
            recipe: "vdot.bridge_grant.sync".to_owned(),
            target: target.to_owned(),
            cause,
            reason: "`/inbox/grants_20261124.csv` is gone".to_owned(),
            opened_at: Moment(Timestamp(NOW.0 - 4_000_000)),
            resolved_at: None,
            attempts: 7,
            backlog: 1_204,
            last_error: error.map(str::to_owned),
            note: None,
        }
    }

    #[test]
    fn the_table_reads_well_on_a_hundred_columns() {
        let refused = "no connection to gis.vdot.gov: Connection refused (os error 111)";
        let mut resolved = ticket(12, Cause::Configuration, "gis", Some("401 Unauthorized: no such key"));
        resolved.state = TicketState::Resolved;
        let tickets = [
            ticket(3, Cause::Doubt, "cobol_finance", None),
            ticket(11, Cause::Outage, "geographic_information_system_of_the_commonwealth", Some(refused)),
            resolved,
        ];
        insta::assert_snapshot!(table(&tickets, NOW, 100));
        assert_eq!(table(&[], NOW, 100), "none\n");
    }

    #[tokio::test]
    async fn the_list_asks_for_open_tickets_unless_all_are_wanted() {
        let (client, requests) = scripted::node(vec![Some((200, r#"{"tickets":[]}"#)); 2]);
        let target = TargetName::parse("gis").ok();
        list(&client, List { all: false, recipe: None, target }, false).await.expect("is answered");
        list(&client, List { all: true, recipe: None, target: None }, false).await.expect("is answered");
        let asked: Vec<_> = requests.iter().collect();
        assert_eq!(asked, ["GET /v1/tickets?state=open&target=gis HTTP/1.1\n", "GET /v1/tickets HTTP/1.1\n"]);
    }
}
