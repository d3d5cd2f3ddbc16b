//! `hms token`: who may come in at the admin endpoint, with which role and until when.

use std::time::Duration;

use clap::{Args, Subcommand};
use hms_actors::id::{FeedName, Timestamp};
use reqwest::Method;

use super::ages::{ago, now};
use super::client::{Call, Client, Connection, parse};
use super::table::{self, Column};
use super::{Error, render};
use crate::access::Role;
use crate::admin::views::{NewToken, TokenCreated, TokenList, TokenView};
use crate::yaml::values::FromText;

const EXAMPLES: &str = "\
Examples:
  hms token create grants-office --role publisher --feed grants.bridge_repair.updated
  hms token create prometheus --role viewer
  hms token create ann --role operator --expires 30d > ann.token
  hms token revoke ann

A token is printed once; the node keeps only a hash of it. The audit names who did something by the token's name.";

/// Tokens: who may do what at the admin endpoint
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once
    Create(Create),
    /// The tokens, without themselves
    List,
    /// End a token, at once
    Revoke { name: String },
}

#[derive(Debug, Args)]
struct Create {
    /// Who it is for, as the audit will name them
    name: String,
    #[arg(long)]
    role: Role,
    /// A publisher's feed, more than once for several; without it all feeds
    #[arg(long = "feed", value_name = "FEED", value_parser = FeedName::parse)]
    feeds: Vec<FeedName>,
    /// It ends after so long, such as 12h or 30d; never if absent
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
}

impl Token {
    pub async fn run(self) -> Result<(), Error> {
        let client = self.connection.client()?;
        match self.command {
            TokenCommand::Create(wanted) => create(&client, wanted, self.connection.json).await,
            TokenCommand::List => list(&client, self.connection.json).await,
            TokenCommand::Revoke { name } => revoke(&client, &name, self.connection.json).await,
        }
    }
}

async fn create(client: &Client, wanted: Create, json: bool) -> Result<(), Error> {
    let Create { name, role, feeds, expires } = wanted;
    let feeds = feeds.into_iter().map(String::from).collect();
    // A part of a second counts as one: nothing ends before it should.
    let expires_in_seconds = expires.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    let wanted = NewToken { name, role, feeds, expires_in_seconds };
    let wanted = serde_json::to_string(&wanted).map_err(|error| Error::Failed(error.to_string()))?;
    let body = client.accepted(Call::post("/v1/tokens").body("application/json", wanted)).await?;
    if json {
        return render::json(&body);
    }
    let TokenCreated { token, about } = parse(&body)?;
    eprintln!("{}; this is the only time that it is shown:", described(&about));
    render::line(&token)
}

fn described(token: &TokenView) -> String {
    let feeds = if token.feeds.is_empty() { String::new() } else { format!(" of {}", token.feeds.join(", ")) };
    let until = token.expires_at.map_or_else(|| "for ever".to_owned(), |at| format!("until {}", String::from(at)));
    format!("token `{}`, {}{feeds}, {until}", token.name, token.role)
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::get("/v1/tokens")).await?;
    if json {
        return render::json(&body);
    }
    let TokenList { tokens } = parse(&body)?;
    render::text(&table(&tokens, now(), render::page()))
}

const COLUMNS: [Column; 5] = [
    Column::whole("NAME"),
    Column::whole("ROLE"),
    Column::right("AGE"),
    Column::whole("EXPIRES"),
    Column::end("FEEDS"),
];

fn table(tokens: &[TokenView], now: Timestamp, page: usize) -> String {
    if tokens.is_empty() {
        return "none\n".to_owned();
    }
    let row = |token: &TokenView| {
        let feeds = match token.role {
            Role::Publisher if token.feeds.is_empty() => "all".to_owned(),
            _ if token.feeds.is_empty() => "-".to_owned(),
            _ => token.feeds.join(" "),
        };
        let expires = match token.expires_at {
            None => "never".to_owned(),
            Some(_) if token.expired => "expired".to_owned(),
            Some(at) => String::from(at),
        };
        [token.name.clone(), token.role.to_string(), ago(token.created_at, now), expires, feeds]
    };
    table::text(&COLUMNS, &tokens.iter().map(row).collect::<Vec<_>>(), page)
}

async fn revoke(client: &Client, name: &str, json: bool) -> Result<(), Error> {
    // Whatever stands there is one segment of the path.
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    let body = client.accepted(Call::new(Method::DELETE, format!("/v1/tokens/{name}"))).await?;
    if json {
        return render::json(&body);
    }
    let revoked: TokenView = parse(&body)?;
    render::line(&format!("token `{}` is revoked: it is not valid any more", revoked.name))
}

fn duration(text: &str) -> Result<Duration, String> {
    Duration::from_text(text).map_err(|help| help.unwrap_or_else(|| format!("expected {}", Duration::EXPECTED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::views::Moment;
    use crate::cli::scripted;

    const NOW: Timestamp = Timestamp(1_763_950_000_000);

    fn token(name: &str, role: Role, feeds: &[&str], expires: Option<i64>) -> TokenView {
        TokenView {
            name: name.to_owned(),
            role,
            feeds: feeds.iter().map(|&feed| feed.to_owned()).collect(),
            created_at: Moment(Timestamp(NOW.0 - 90_000_000)),
            expires_at: expires.map(|millis| Moment(Timestamp(NOW.0 + millis))),
            expired: expires.is_some_and(|millis| millis <= 0),
        }
    }

    #[test]
    fn the_table_says_who_what_and_until_when() {
        let tokens = [
            token("admin", Role::Admin, &[], None),
            token("ann", Role::Operator, &[], Some(-1)),
            token("grants-office", Role::Publisher, &["grants", "grants.updated"], Some(86_400_000)),
            token("ppe", Role::Publisher, &[], None),
        ];
        insta::assert_snapshot!(table(&tokens, NOW, 100));
        assert_eq!(table(&[], NOW, 100), "none\n");
    }

    #[tokio::test]
    async fn a_token_is_asked_for_with_role_feeds_and_end() {
        let made = r#"{"token":"hms_x","name":"ann","role":"publisher","feeds":["grants"],"created_at":"2026-01-01T00:00:00Z","expires_at":null,"expired":false}"#;
        let (client, requests) = scripted::node(vec![Some((201, made))]);
        let feeds = vec![FeedName::parse("grants").expect("a name")];
        let expires = duration("30d").ok();
        let wanted = Create { name: "ann".to_owned(), role: Role::Publisher, feeds, expires };
        create(&client, wanted, false).await.expect("is answered");
        let asked = requests.recv().expect("one request");
        let expected = r#"{"name":"ann","role":"publisher","feeds":["grants"],"expires_in_seconds":2592000}"#;
        assert_eq!(asked, format!("POST /v1/tokens HTTP/1.1\n{expected}"));
    }

    #[tokio::test]
    async fn a_name_stays_one_segment_of_the_path() {
        let (client, requests) = scripted::node(vec![Some((404, "{}"))]);
        revoke(&client, "../x", false).await.expect_err("is not there");
        assert_eq!(requests.recv().expect("one request"), "DELETE /v1/tokens/%2E%2E%2Fx HTTP/1.1\n");
    }
}
