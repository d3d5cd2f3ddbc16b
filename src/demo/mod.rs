//! `hms demo`: the walk-through of the seed on one machine, with real HTTPS, real SSH and a real node, each step
//! checked. This file is the story; what it plays on is `stage`, the node is `node`.

mod http_partner;
mod node;
mod sftp_fs;
mod ssh_partner;
mod stage;
mod tell;

use std::collections::HashSet;
use std::fs;
use std::time::Instant;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Error;
use node::Node;
use stage::{COBOL, GIS, RECIPE_FILE, Stage};
use tell::{Checks, chapter, indented, say};

const FEED: &str = "grants.bridge_repair.updated";
const RECIPE: &str = "vdot.bridge_grant.sync";
/// Events that are under way when the node is killed.
const MANY: usize = 200;
/// As many of them have reached GIS at that moment.
const KILL_AFTER: usize = 40;

/// See it work: the whole story on this machine, in under a minute, nothing else needed
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running until Ctrl-C, to look around
    #[arg(long)]
    keep: bool,
}

/// What keeps the demo from going on. It ends the demo; nobody has to tell its kinds apart.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(String);

macro_rules! trouble_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}
trouble_from!(std::io::Error, serde_json::Error, reqwest::Error);

impl Demo {
    pub fn run(self) -> Result<(), Error> {
        actix_rt::System::new().block_on(self.play()).map_err(|trouble| Error::Failed(trouble.to_string()))
    }

    async fn play(&self) -> Result<(), Trouble> {
        let (stage, node, checks) = tokio::select! {
            told = tell() => told?,
            // What has been started ends with its value, and the folder goes.
            () = told_to_stop() => return Err(Trouble("stopped".to_owned())),
        };
        if self.keep {
            look_around(&stage, &node).await;
        }
        node.kill().await?;
        stage.gis.stop().await;
        checks.verdict()
    }
}

/// The story, and what it leaves.
async fn tell() -> Result<(Stage, Node, Checks), Trouble> {
    let started = Instant::now();
    let mut checks = Checks::default();
    let mut stage = Stage::set()?;
    let node = opening(&stage).await?;
    first_event(&stage, &node, &mut checks).await?;
    outage(&mut stage, &node, &mut checks).await?;
    let node = crash(&stage, node, &mut checks).await?;
    proof(&stage, &node, &mut checks).await?;
    say("");
    say(&format!("Done in {:.0} seconds.", started.elapsed().as_secs_f64()));
    Ok((stage, node, checks))
}

/// Partners, node, recipe.
async fn opening(stage: &Stage) -> Result<Node, Trouble> {
    chapter("Two partners and a node, all on this machine");
    say(&format!("GIS    https://{GIS}           is {}, real TLS", stage.gis.address()));
    say(&format!("COBOL  sftp://{COBOL}    is {}, real SSH", stage.cobol.address()));
    let node = Node::start(stage.folder(), ([127, 0, 0, 1], 0).into()).await?;
    say(&format!("node   http://{}   process {}", node.address(), node.pid()));
    chapter("The recipe of the walk-through");
    type_in(&node, &["sync", "apply", RECIPE_FILE]).await?;
    Ok(node)
}

async fn first_event(stage: &Stage, node: &Node, checks: &mut Checks) -> Result<(), Trouble> {
    chapter("A grant changes; both partners hear of it");
    let data = r#"{"grant_id":"GR-42","status":"Approved","amount_usd":125000.10,"lat":37.5,"lon":-78.4}"#;
    type_in(node, &["ppe", "event", "publish", FEED, "--data", data]).await?;
    say("The schedule would deliver within 60 seconds. We do not wait for it:");
    type_in(node, &["sync", "run", RECIPE]).await?;
    let seen = stage.gis.seen();
    let applied = seen.applied.first().ok_or_else(|| Trouble("nothing has arrived at GIS".to_owned()))?;
    say("At GIS:   POST /api/bridge, with its API key and");
    indented(&format!("Idempotency-Key: {}\n{}", applied.key, applied.body));
    say("At COBOL:");
    indented(&shown(stage)?);
    checks.expect("the amount is the publisher's, digit for digit", applied.body.contains("125000.10"));
    checks.expect("one row for one event", stage.rows()? == ["GR-42,Approved,125000.10,37.5,-78.4"]);
    Ok(())
}

async fn outage(stage: &mut Stage, node: &Node, checks: &mut Checks) -> Result<(), Trouble> {
    chapter("COBOL's machine goes down; GIS goes on");
    stage.cobol.down();
    fs::write(stage.folder().join("changes.ndjson"), events(1, 3))?;
    type_in(node, &["ppe", "event", "publish", FEED, "--file", "changes.ndjson"]).await?;
    type_in(node, &["sync", "run", RECIPE]).await?;
    type_in(node, &["sync", "show", RECIPE]).await?;
    let cobol = node.target(RECIPE, "cobol_finance").await?;
    checks.expect("GIS has all four", stage.gis.seen().applied.len() == 4);
    checks.expect("COBOL's three wait, with the reason", cobol.backlog == 3 && cobol.last_error.is_some());

    chapter("It comes back; nobody has to do anything");
    stage.cobol.up()?;
    node.drained(RECIPE, "cobol_finance").await?;
    say("At COBOL:");
    indented(&shown(stage)?);
    checks.expect("every row once, in the order of the changes", grants(&stage.rows()?) == expected(3));
    Ok(())
}

async fn crash(stage: &Stage, node: Node, checks: &mut Checks) -> Result<Node, Trouble> {
    chapter("The node is killed in the middle of its work");
    fs::write(stage.folder().join("more.ndjson"), events(4, MANY))?;
    type_in(&node, &["ppe", "event", "publish", FEED, "--file", "more.ndjson"]).await?;
    let before = stage.gis.seen().requests;
    type_in(&node, &["sync", "run", "--no-wait", RECIPE]).await?;
    let arrived = stage.gis.wait_for(before + KILL_AFTER);
    tokio::time::timeout(node::PATIENCE, arrived).await.map_err(|_| Trouble("GIS is not served".to_owned()))?;
    say(&format!("$ kill -9 {}", node.pid()));
    let address = node.address();
    node.kill().await?;
    let seen = stage.gis.seen().applied.len().saturating_sub(4);
    say(&format!("At that moment GIS had {seen} of {MANY}, COBOL {}.", stage.rows()?.len().saturating_sub(4)));

    let node = Node::start(stage.folder(), address).await?;
    say(&format!("A new node is there, process {}, with the same data.", node.pid()));
    type_in(&node, &["sync", "run", RECIPE]).await?;
    node.drained(RECIPE, "vdot_gis").await?;
    node.drained(RECIPE, "cobol_finance").await?;
    let seen = stage.gis.seen();
    say(&format!(
        "GIS got {} requests in all. {} came twice, with the key of the first time: GIS took them for what they were.",
        seen.requests, seen.repeated
    ));
    let distinct: HashSet<_> = seen.applied.iter().map(|applied| &applied.body).collect();
    checks.expect("GIS has every change once", seen.applied.len() == 4 + MANY && distinct.len() == 4 + MANY);
    checks.expect("COBOL has every row once, in order", grants(&stage.rows()?) == expected(3 + MANY));
    Ok(node)
}

async fn proof(stage: &Stage, node: &Node, checks: &mut Checks) -> Result<(), Trouble> {
    chapter("The proof");
    type_in(node, &["sync", "show", RECIPE]).await?;
    let records = node.must(&["audit", "list", "--json"]).await?;
    let delivered = records.lines().filter(|line| line.contains(r#""kind":"delivered""#)).count();
    say(&format!("The audit has {delivered} receipts, one for each event and partner. The first of them:"));
    type_in(node, &["audit", "list", "--limit", "4"]).await?;
    let promised = node.promised()?;
    say("And the log has, for every run that completed events:");
    indented(&promised.join("\n"));
    checks.expect("a receipt for each event and partner", delivered == 2 * stage.rows()?.len());
    checks.expect("the promised line", promised.iter().any(|line| line == "sync.success.vdot.bridge_grant 1"));
    Ok(())
}

async fn look_around(stage: &Stage, node: &Node) {
    chapter("Look around; Ctrl-C ends it");
    let folder = stage.folder().display();
    let hms = std::env::args().next().unwrap_or_else(|| "hms".to_owned());
    say(&format!("export HMS_NODE=http://{}", node.address()));
    say(&format!("{hms} sync show {RECIPE}"));
    say("curl $HMS_NODE/metrics");
    say(&format!(
        "sftp -i {folder}/secrets/COBOL_FINANCE_SSH_KEY -o UserKnownHostsFile={folder}/known_hosts \\\n     \
         -o HostKeyAlias={COBOL} -P {} sync@127.0.0.1",
        stage.cobol.address().port()
    ));
    say(&format!("less {folder}/node.log"));
    told_to_stop().await;
}

/// Ctrl-C or SIGTERM. An error means that no signal will come: then there is nothing to wait for.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Shows a command, runs it, shows what it said.
async fn type_in(node: &Node, arguments: &[&str]) -> Result<(), Trouble> {
    tell::command(arguments);
    let (text, _) = node.command(arguments).await?;
    indented(&text);
    Ok(())
}

/// `count` changes as lines of a file, numbered from `first`.
fn events(first: usize, count: usize) -> String {
    let line = |n| {
        format!(
            "{{\"grant_id\":\"GR-{}\",\"status\":\"Paid\",\"amount_usd\":{n}.50,\"lat\":37.5,\"lon\":-78.4}}\n",
            42 + n
        )
    };
    (first..first + count).map(line).collect()
}

/// The grants that the rows speak of.
fn grants(rows: &[String]) -> Vec<String> {
    rows.iter().map(|row| row.split(',').next().unwrap_or_default().to_owned()).collect()
}

/// The first grant and `more` others, in the order of their publication.
fn expected(more: usize) -> Vec<String> {
    (42..=42 + more).map(|n| format!("GR-{n}")).collect()
}

/// The finance department's files, as `head` would show them.
fn shown(stage: &Stage) -> Result<String, Trouble> {
    let mut text = String::new();
    for file in stage.files()? {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        text.push_str(&format!("/inbox/{name}\n{}", fs::read_to_string(&file)?));
    }
    Ok(text)
}
