//! `hms audit proof`: one record, its proof and the checkpoint, checked before they are shown.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::super::client::{Call, Client, Connection, parse};
use super::super::{Error, render};
use super::{Numbered, checkpoint, keys_of, records, senseless};
use crate::admin::views::InclusionView;
use crate::proof::{self, Bundle, Hash};

/// `export` has the record, if the node has it no more.
pub(super) async fn run(connection: &Connection, seq: u64, export: Option<&Path>) -> Result<(), Error> {
    let client = connection.client()?;
    let keys = keys_of(&client).await?;
    let signed = checkpoint(&client, &keys).await?;
    let size = signed.checkpoint.size;
    if seq >= size {
        return Err(Error::Refused(format!("there is no record {seq}: the audit has {size}, from 0 on")));
    }
    let record = match export {
        Some(file) => exported(file, seq)?,
        None => {
            let body = records(&client, seq, 1).await?;
            let line = body.strip_suffix(b"\n").unwrap_or(&body);
            String::from_utf8(line.to_vec()).map_err(|error| senseless(&error.to_string()))?
        }
    };
    let bundle = Bundle { record, index: seq, proof: inclusion(&client, seq, size).await?, note: signed.note };
    bundle.check(&keys).map_err(Error::Failed)?;
    if !connection.json {
        return render::text(&bundle.to_string());
    }
    let hashes: Vec<String> = bundle.proof.iter().map(|hash| proof::base64(hash)).collect();
    let json = serde_json::json!({
        "record": bundle.record, "leaf": seq, "size": size, "proof": hashes, "checkpoint": bundle.note,
    });
    render::json(json.to_string().as_bytes())
}

/// The line of a record in an export.
fn exported(file: &Path, seq: u64) -> Result<String, Error> {
    let failed = |error: &dyn Display| Error::Failed(format!("{}: {error}", file.display()));
    let lines = BufReader::new(File::open(file).map_err(|error| failed(&error))?).lines();
    let mut skip = None;
    for line in lines {
        let line = line.map_err(|error| failed(&error))?;
        let first = || parse::<Numbered>(line.as_bytes()).ok().and_then(|first| seq.checked_sub(first.seq));
        let Some(left) = skip.or_else(first) else { break };
        if left == 0 {
            return Ok(line);
        }
        skip = Some(left - 1);
    }
    Err(failed(&format!("there is no record {seq} in it")))
}

pub(super) async fn inclusion(client: &Client, leaf: u64, size: u64) -> Result<Vec<Hash>, Error> {
    let body = client.accepted(Call::get(format!("/v1/audit/proof?leaf={leaf}&size={size}"))).await?;
    hashes(&parse::<InclusionView>(&body)?.proof)
}

pub(super) fn hashes(texts: &[String]) -> Result<Vec<Hash>, Error> {
    let hash = |text: &String| proof::hash_of(text).ok_or_else(|| senseless(&format!("`{text}` is no hash")));
    texts.iter().map(hash).collect()
}
