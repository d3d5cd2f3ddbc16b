//! Checking records: the form of each line, their numbers, and that all of them together are what was signed.
//! It sees lines and checkpoints; files and nodes are the caller's affair.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::canonical;
use super::checkpoint::Checkpoint;
use super::tree::{self, Edge, Hash};

/// What every record says, whatever it is about.
#[derive(Deserialize)]
struct Head {
    seq: u64,
    time: String,
    kind: String,
}

/// Whether this is the line of record `seq`, without its newline.
pub fn check(line: &[u8], seq: u64) -> Result<(), String> {
    let value = serde_json::from_slice::<serde_json::Value>(line).map_err(|error| format!("not JSON: {error}"))?;
    let form = canonical::to_vec(&value).map_err(|failure| failure.message)?;
    if form != line {
        let at = form.iter().zip(line).take_while(|(a, b)| a == b).count();
        return Err(format!("not in the canonical form of RFC 8785, from byte {at} of the line on"));
    }
    let head = Head::deserialize(value).map_err(|error| format!("not a record: {error}"))?;
    if head.seq != seq {
        return Err(format!("its seq is {}, expected {seq}", head.seq));
    }
    let time = chrono::DateTime::parse_from_rfc3339(&head.time).map_err(|error| format!("its time: {error}"))?;
    if head.kind.is_empty() || time.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true) != head.time {
        return Err("its kind or its time is not as the node writes it".to_owned());
    }
    Ok(())
}

/// Goes through the records in order.
#[derive(Debug, Default)]
pub struct Check {
    edge: Edge,
    /// Where checkpoints claim a root, and from where each is.
    claims: BTreeMap<u64, Vec<(String, Hash)>>,
    /// The last place where a checkpoint agreed.
    agreed: u64,
}

impl Check {
    /// From record 0, or from where the edge of the tree is known.
    pub fn new(edge: Edge) -> Self {
        Self { agreed: edge.size(), edge, claims: BTreeMap::new() }
    }

    /// What the records have to agree with. `source` is for messages.
    pub fn claim(&mut self, source: &str, checkpoint: &Checkpoint) {
        self.claims.entry(checkpoint.size).or_default().push((source.to_owned(), checkpoint.root));
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.edge.size()
    }

    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Begins: an empty log has its claims too.
    pub fn begin(&mut self) -> Result<(), String> {
        self.compare()
    }

    pub fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let seq = self.edge.size();
        check(line, seq).map_err(|why| format!("record {seq}: {why}"))?;
        self.edge.push(tree::leaf(line));
        self.compare()
    }

    fn compare(&mut self) -> Result<(), String> {
        let size = self.edge.size();
        let Some(claims) = self.claims.remove(&size) else { return Ok(()) };
        let root = self.edge.root();
        if let Some((source, _)) = claims.iter().find(|(_, claimed)| *claimed != root) {
            let (from, to) = (self.agreed, size.saturating_sub(1));
            let before = match from {
                0 => String::new(),
                from => format!(", and those below {from} are as signed"),
            };
            return Err(format!(
                "records {from} to {to} are not those that were signed: the root of the first {size} records is another than in \
                 {source}{before}"
            ));
        }
        self.agreed = size;
        Ok(())
    }

    /// All records are there: how many are covered by a checkpoint. An error if one speaks of more of them, or of none that can
    /// be looked at any more.
    pub fn finish(&self) -> Result<u64, String> {
        let size = self.edge.size();
        match self.claims.iter().find(|(claimed, _)| **claimed > size) {
            None => Ok(self.agreed),
            Some((claimed, sources)) => Err(format!(
                "there are {size} records, and {} was signed over {claimed}: records {size} to {} are missing",
                sources.first().map(|(source, _)| source.as_str()).unwrap_or_default(),
                claimed - 1
            )),
        }
    }
}
