//! `hms audit`: the records of what was delivered, and of what was not.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Call, Connection};
use super::{Error, render};

/// Proof of delivery
#[derive(Debug, Args)]
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
        /// First record, by its number
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        from: u64,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
}

impl Audit {
    pub async fn run(self) -> Result<(), Error> {
        let AuditCommand::List { from, limit } = self.command;
        let limit = limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
        let body = self.connection.client()?.accepted(Call::get(format!("/v1/audit?from={from}{limit}"))).await?;
        if self.connection.json {
            return render::json(&body);
        }
        let rows = body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| super::client::parse(line).map(|record| row(&record)))
            .collect::<Result<Vec<_>, _>>()?;
        render::table(["SEQ", "TIME", "KIND", "TARGET", "EVENT", "RECEIPT"], &rows)
    }
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
