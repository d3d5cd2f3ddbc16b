//! `hms audit proof`: one record, its proof and the checkpoint, checked before they are shown.

use super::super::client::{Call, Client, Connection, parse};
use super::super::{Error, render};
use super::{checkpoint, keys_of, records, senseless};
use crate::admin::views::InclusionView;
use crate::proof::{self, Bundle, Hash};

pub(super) async fn run(connection: &Connection, seq: u64) -> Result<(), Error> {
    let client = connection.client()?;
    let keys = keys_of(&client).await?;
    let signed = checkpoint(&client, &keys).await?;
    let size = signed.checkpoint.size;
    if seq >= size {
        return Err(Error::Refused(format!("there is no record {seq}: the audit has {size}, from 0 on")));
    }
    let body = records(&client, seq, 1).await?;
    let line = body.strip_suffix(b"\n").unwrap_or(&body);
    let record = String::from_utf8(line.to_vec()).map_err(|error| senseless(&error.to_string()))?;
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

pub(super) async fn inclusion(client: &Client, leaf: u64, size: u64) -> Result<Vec<Hash>, Error> {
    let body = client.accepted(Call::get(format!("/v1/audit/proof?leaf={leaf}&size={size}"))).await?;
    hashes(&parse::<InclusionView>(&body)?.proof)
}

pub(super) fn hashes(texts: &[String]) -> Result<Vec<Hash>, Error> {
    let hash = |text: &String| proof::hash_of(text).ok_or_else(|| senseless(&format!("`{text}` is no hash")));
    texts.iter().map(hash).collect()
}
