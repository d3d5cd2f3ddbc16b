//! `hms ppe event publish`: one event, or the lines of a file. An id is made before the first try and kept over
//! all tries, so a try whose answer was lost does no harm.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use hms_actors::id::FeedName;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::client::{Answer, Call, Client, Connection, parse};
use super::envelope::{self, Attributes};
use super::lines::{Batches, without_position};
use super::{Error, render};

const EVENT: &str = "application/cloudevents+json; charset=utf-8";
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";
/// First pause between two tries; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Events of the Policy & Process Engine
#[derive(Debug, Args)]
pub(crate) struct Ppe {
    #[command(subcommand)]
    command: PpeCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum PpeCommand {
    /// Publish events
    Event {
        #[command(subcommand)]
        command: EventCommand,
    },
}

#[derive(Debug, Subcommand)]
enum EventCommand {
    Publish(Publish),
}

const EXAMPLES: &str = "\
Examples:
  hms ppe event publish grants.bridge_repair.updated --data '{\"grant_id\":\"GR-42\",\"status\":\"Approved\"}'
  hms ppe event publish grants.bridge_repair.updated --file changes.ndjson
  export-changes | hms ppe event publish grants.bridge_repair.updated --file -

A line of a file is a structured CloudEvent (it has `specversion`) or the data of an event.
Data is carried as it was written, digit for digit. An id must not be personal data.";

/// Publish one event, or one per line of a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Publish {
    /// The feed, which is also the type of the events
    #[arg(value_parser = FeedName::parse)]
    feed: FeedName,
    /// The data of one event
    #[arg(long, value_name = "JSON", required_unless_present = "file", conflicts_with = "file")]
    data: Option<String>,
    /// Events one per line (NDJSON); `-` reads standard input
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// Its id; the same id again with the same content is the same event. Made if absent
    #[arg(long, conflicts_with = "file")]
    id: Option<String>,
    /// What the event is about: order is kept by it where a recipe names no key
    #[arg(long, conflicts_with = "file")]
    subject: Option<String>,
    /// When it happened, RFC 3339
    #[arg(long, conflicts_with = "file")]
    time: Option<String>,
    /// Seconds to go on trying while the node can't be reached or is overloaded
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

impl Ppe {
    pub async fn run(self) -> Result<(), Error> {
        let PpeCommand::Event { command: EventCommand::Publish(publish) } = self.command;
        let sender = Sender {
            client: self.connection.client()?,
            path: format!("/v1/feeds/{}/events", publish.feed),
            patience: Duration::from_secs(publish.timeout),
        };
        match (publish.data, publish.file) {
            (Some(data), _) => {
                let attributes = Attributes { id: publish.id, subject: publish.subject, time: publish.time };
                one(&sender, publish.feed.as_str(), &data, attributes, self.connection.json).await
            }
            (None, Some(file)) => many(&sender, publish.feed.as_str(), &file, self.connection.json).await,
            (None, None) => Err(Error::Usage("give --data JSON or --file F".to_owned())),
        }
    }
}

/// What the node did with a request's events.
#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
    duplicates: u64,
    #[serde(default)]
    events: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    id: String,
    offset: u64,
}

async fn one(sender: &Sender, feed: &str, data: &str, attributes: Attributes, json: bool) -> Result<(), Error> {
    let data: &RawValue = serde_json::from_str(data).map_err(|error| {
        let what = without_position(&error);
        Error::Invalid(format!("--data:{}:{}: not JSON: {what}", error.line(), error.column()))
    })?;
    let event = envelope::wrap(feed, attributes, data).map_err(|error| Error::Invalid(error.to_string()))?;
    let answer = sender.send(EVENT, event).await?;
    if json {
        return render::json(&answer);
    }
    let accepted: Accepted = parse(&answer)?;
    for place in &accepted.events {
        let known = if accepted.duplicates > 0 { "  (published before)" } else { "" };
        render::line(&format!("{feed} offset {} id {}{known}", place.offset, place.id))?;
    }
    Ok(())
}

/// The sums over all requests of a file.
#[derive(Debug, Default, Serialize)]
struct Totals {
    accepted: u64,
    duplicates: u64,
}

async fn many(sender: &Sender, feed: &str, file: &Path, json: bool) -> Result<(), Error> {
    // What can be read only once (standard input, a pipe) is sent as it comes.
    let total = if file.is_file() { Some(check(feed, file)?) } else { None };
    let progress = if json { ProgressBar::hidden() } else { render::progress(total, "events") };
    let mut batches = open(feed, file)?;
    let mut totals = Totals::default();
    let sent = async {
        while let Some(batch) = batches.next()? {
            let answer: Accepted = parse(&sender.send(BATCH, batch.body).await?)?;
            totals.accepted += answer.accepted;
            totals.duplicates += answer.duplicates;
            progress.inc(batch.events as u64);
        }
        Ok(())
    }
    .await;
    progress.finish_and_clear();
    if json {
        render::json(&serde_json::to_vec(&totals).map_err(|error| Error::Failed(error.to_string()))?)?;
    } else {
        render::line(&format!("accepted {}, duplicates {}", totals.accepted, totals.duplicates))?;
    }
    sent
}

/// Reads the whole file before the first event is sent: plain data gets new ids, so a file that fails half-way
/// could not be published again without repeating its first half.
fn check(feed: &str, file: &Path) -> Result<u64, Error> {
    let mut batches = open(feed, file)?;
    let mut events = 0;
    while let Some(batch) = batches.next()? {
        events += batch.events as u64;
    }
    Ok(events)
}

type Input = Box<dyn std::io::BufRead>;

fn open(feed: &str, file: &Path) -> Result<Batches<Input>, Error> {
    if file == Path::new("-") {
        return Ok(Batches::new(Box::new(std::io::stdin().lock()), "stdin", feed));
    }
    let name = file.display().to_string();
    let input = File::open(file).map_err(|error| Error::Usage(format!("{name} can't be read: {error}")))?;
    Ok(Batches::new(Box::new(BufReader::new(input)), name, feed))
}

/// Sends requests to a feed, again and again within its patience while the trouble may pass.
struct Sender {
    client: Client,
    path: String,
    patience: Duration,
}

impl Sender {
    async fn send(&self, content_type: &'static str, body: String) -> Result<bytes::Bytes, Error> {
        let body = bytes::Bytes::from(body);
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        let mut quiet = true;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            let tried = self.client.call(Call::post(&self.path).body(content_type, body.clone()).within(left)).await;
            let told = match &tried {
                Ok(answer) if !may_pass(answer) => return tried?.accepted(),
                Ok(answer) => answer.retry_after,
                Err(_) => None,
            };
            let wait = told.unwrap_or(pause);
            if Instant::now() + wait >= deadline {
                return tried?.accepted();
            }
            if std::mem::take(&mut quiet) {
                self.say_that_it_takes_longer(&tried);
            }
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Somebody who waits wants to know for what.
    fn say_that_it_takes_longer(&self, tried: &Result<Answer, Error>) {
        let why = tried.as_ref().map_or_else(ToString::to_string, Answer::reason);
        eprintln!("hms: {why}; trying again for up to {} s", self.patience.as_secs());
    }
}

/// Overload passes by itself. A full disk does not: an operator has to see it.
fn may_pass(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 429 | 503)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scripted;

    const ACCEPTED: &str = r#"{"accepted":1,"duplicates":0,"events":[{"id":"a","offset":7}]}"#;

    fn sender(client: Client) -> Sender {
        Sender { client, path: "/v1/feeds/grants/events".to_owned(), patience: Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn an_event_keeps_its_id_over_a_lost_answer_and_an_overload() {
        let (client, requests) = scripted::node(vec![None, Some((503, "")), Some((202, ACCEPTED))]);
        one(&sender(client), "grants", r#"{"n":1.10}"#, Attributes::default(), false).await.expect("is accepted");
        let requests: Vec<_> = requests.iter().collect();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| *request == requests[0]), "{requests:#?}");
        assert!(requests[0].contains(r#""data":{"n":1.10}"#), "{}", requests[0]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_at_once() {
        let (client, requests) = scripted::node(vec![Some((507, r#"{"detail":"the disk is full"}"#))]);
        let error = one(&sender(client), "grants", "{}", Attributes::default(), false).await.expect_err("is refused");
        assert!(matches!(&error, Error::Refused(why) if why == "the disk is full"), "{error:?}");
        assert_eq!(requests.iter().count(), 1);
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_told_when_patience_ends() {
        let (client, _) = scripted::node(vec![]);
        let sender = Sender { patience: Duration::from_millis(300), ..sender(client) };
        let error = one(&sender, "grants", "{}", Attributes::default(), false).await.expect_err("nobody listens");
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_file_with_a_mistake_is_not_sent_at_all() {
        let (client, requests) = scripted::node(vec![Some((202, ACCEPTED))]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{}{{\"n\":}}\n", "{}\n".repeat(600))).expect("writes");
        let error = many(&sender(client), "grants", file.path(), false).await.expect_err("line 601 is bad");
        assert!(error.to_string().contains(":601:6: not JSON"), "{error}");
        assert!(requests.try_recv().is_err());
    }
}
