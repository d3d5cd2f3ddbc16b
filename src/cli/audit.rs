//! `hms audit`: the records of what was delivered, and of what was not.

mod export;
mod proof;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Call, Client, Connection, parse};
use super::{Error, render};
use crate::proof::tree::Edge;
use crate::proof::{Bundle, Signed, SigningKey, VerifierKey};

const EXAMPLES: &str = "\
Examples:
  hms audit verify                                      all records of the node, against what it signed
  hms audit export --out audit.ndjson                   to be kept, and checked without the node:
  hms audit verify audit.ndjson --key audit.pub --checkpoint anchored.txt
  hms audit export --prune-before 500000                the same, and older records leave the node; their proofs stay
  hms audit proof 17 > 17.proof                         one record and what proves it
  hms audit verify 17.proof --key audit.pub";

/// Proof of delivery
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Records in order; with --json each line is the stored record, byte for byte
    List {
        /// First record, by its number [default: the oldest that the node keeps]
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    Verify(verify::Verify),
    /// One record with its proof, as a file that `verify` checks: the stored line, then a C2SP tlog-proof
    Proof {
        /// The record's number
        seq: u64,
        /// The export that has the record, if it was moved out of the node
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    Export(export::Export),
    /// The public keys that checkpoints are signed with, that in use last
    Key {
        /// Print a new signing key of the same log instead, for the secret AUDIT_SIGNING_KEY
        #[arg(long)]
        new: bool,
    },
}

impl Audit {
    pub async fn run(self) -> Result<(), Error> {
        let connection = self.connection;
        match self.command {
            AuditCommand::List { from, limit } => list(&connection, from, limit).await,
            AuditCommand::Verify(verify) => verify.run(&connection).await,
            AuditCommand::Proof { seq, export } => proof::run(&connection, seq, export.as_deref()).await,
            AuditCommand::Export(export) => export.run(&connection).await,
            AuditCommand::Key { new } => {
                let keys = keys_of(&connection.client()?).await?;
                if new {
                    let name = keys.last().map(|key| key.name().to_owned()).unwrap_or_default();
                    let (_, text) = SigningKey::generate(|_| name).map_err(Error::Failed)?;
                    return render::line(text.expose_secret());
                }
                let keys: Vec<String> = keys.iter().map(VerifierKey::to_string).collect();
                if connection.json {
                    return render::json(serde_json::json!({ "keys": keys }).to_string().as_bytes());
                }
                render::line(&keys.join("\n"))
            }
        }
    }
}

async fn list(connection: &Connection, from: Option<u64>, limit: Option<u64>) -> Result<(), Error> {
    let query = [("from", from), ("limit", limit)].map(|(name, value)| value.map(|value| format!("{name}={value}")));
    let query = query.into_iter().flatten().collect::<Vec<_>>().join("&");
    let body = connection.client()?.accepted(Call::get(format!("/v1/audit?{query}"))).await?;
    if connection.json {
        return render::json(&body);
    }
    let rows = lines(&body).map(|line| parse(line).map(|record| row(&record))).collect::<Result<Vec<_>, _>>()?;
    render::table(["SEQ", "TIME", "KIND", "TARGET", "EVENT", "RECEIPT"], &rows)
}

/// Records as the node gives them, without their newlines.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Records from a number on; fewer than are there when they are many.
async fn records(client: &Client, from: u64, limit: u64) -> Result<bytes::Bytes, Error> {
    client.accepted(Call::get(format!("/v1/audit?from={from}&limit={limit}"))).await
}

/// The oldest record that the node keeps, with its proof in the checkpoint, and the tree of what was moved out before it. Nothing was
/// moved out: an empty tree, and no record.
async fn oldest(client: &Client, signed: &Signed, keys: &[VerifierKey]) -> Result<(Edge, Option<Bundle>), Error> {
    let body = client.accepted(Call::get("/v1/audit?limit=1")).await?;
    let Some(line) = lines(&body).next() else { return Ok((Edge::default(), None)) };
    let index = parse::<Numbered>(line)?.seq;
    if index == 0 {
        return Ok((Edge::default(), None));
    }
    let record = String::from_utf8(line.to_vec()).map_err(|error| senseless(&error.to_string()))?;
    let proof = proof::inclusion(client, index, signed.checkpoint.size).await?;
    let bundle = Bundle { record, index, proof, note: signed.note.clone() };
    let edge = before(&bundle, keys).map_err(Error::Failed)?;
    Ok((edge, Some(bundle)))
}

/// The tree of the records before one of which the proof holds.
fn before(bundle: &Bundle, keys: &[VerifierKey]) -> Result<Edge, String> {
    let size = bundle.check(keys)?.checkpoint.size;
    Edge::before(bundle.index, size, &bundle.proof)
        .ok_or_else(|| "the proof does not tell of the records before".to_owned())
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// The keys that the node says are its own.
async fn keys_of(client: &Client) -> Result<Vec<VerifierKey>, Error> {
    let body = client.accepted(Call::get("/v1/audit/key")).await?;
    let text = std::str::from_utf8(&body).map_err(|error| senseless(&error.to_string()))?;
    text.lines().map(|line| line.parse().map_err(|why: String| senseless(&why))).collect()
}

/// A checkpoint over all that the node has now.
async fn checkpoint(client: &Client, keys: &[VerifierKey]) -> Result<Signed, Error> {
    let body = client.accepted(Call::get("/v1/audit/checkpoint")).await?;
    let note = std::str::from_utf8(&body).map_err(|error| senseless(&error.to_string()))?;
    Signed::open(note, keys).map_err(|why| Error::Failed(format!("the node's checkpoint: {why}")))
}

fn senseless(why: &str) -> Error {
    Error::Failed(format!("the node's answer makes no sense: {why}"))
}

fn row(record: &Value) -> [String; 6] {
    let [seq, time, kind, target, event] =
        ["seq", "time", "kind", "target", "event_id"].map(|name| render::cell(record, name));
    [seq, time, kind, target, event, proof(record)]
}

/// What the record says in a few words: the receipt, or why there is none.
fn proof(record: &Value) -> String {
    let Some(receipt) = record.get("receipt") else {
        return ["error", "reason", "path"].iter().find_map(|name| render::field(record, name)).unwrap_or_default();
    };
    let of = |name| render::field(receipt, name);
    match (of("status"), of("path")) {
        (Some(status), _) => format!("{status} {}", of("url").unwrap_or_default()),
        (None, Some(path)) => {
            format!("{path} at {} +{}", of("file_offset").unwrap_or_default(), of("length").unwrap_or_default())
        }
        (None, None) => receipt.as_str().unwrap_or("operator").to_owned(),
    }
}
