//! One record with its proof, as a file that can be checked by itself: the stored line, then a C2SP `tlog-proof`.
//!
//! ```text
//! {"attempt":1, … }
//! c2sp.org/tlog-proof@v1
//! index 73894
//! <base64 of a hash>
//! …
//!
//! <checkpoint>
//! ```

use std::fmt;

use super::checkpoint::Signed;
use super::note::VerifierKey;
use super::tree::{self, Hash};
use super::{base64, hash_of, number};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The exact stored bytes, without the newline.
    pub record: String,
    pub index: u64,
    pub proof: Vec<Hash>,
    pub note: String,
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{HEADER}\nindex {}\n", self.record, self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash)))?;
        write!(f, "\n{}", self.note)
    }
}

impl Bundle {
    /// Whether a file is one, and not an export: those have records only.
    pub fn is_one(text: &str) -> bool {
        text.lines().nth(1) == Some(HEADER)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let (head, note) = text.split_once("\n\n").ok_or("it has no checkpoint")?;
        let mut lines = head.split('\n');
        let record = lines.next().unwrap_or_default().to_owned();
        if lines.next() != Some(HEADER) {
            return Err(format!("its second line is not `{HEADER}`"));
        }
        let mut next = lines.next();
        if next.is_some_and(|line| line.starts_with("extra ")) {
            next = lines.next();
        }
        let index = next.and_then(|line| number(line.strip_prefix("index ")?)).ok_or("it has no index")?;
        let hash = |line: &str| hash_of(line).ok_or_else(|| format!("`{line}` is no hash"));
        Ok(Self { record, index, proof: lines.map(hash).collect::<Result<_, _>>()?, note: note.to_owned() })
    }

    /// The checkpoint that the record is in, if all of it holds.
    pub fn check(&self, keys: &[VerifierKey]) -> Result<Signed, String> {
        let signed = Signed::open(&self.note, keys).map_err(|why| format!("the checkpoint: {why}"))?;
        let checkpoint = &signed.checkpoint;
        super::records::check(self.record.as_bytes(), self.index)
            .map_err(|why| format!("record {}: {why}", self.index))?;
        let leaf = tree::leaf(self.record.as_bytes());
        if tree::includes(leaf, self.index, checkpoint.size, &self.proof, &checkpoint.root) {
            return Ok(signed);
        }
        Err(format!(
            "record {}: the proof does not lead to the root of the checkpoint of {} records: this is not the record that was signed, \
             or not its proof",
            self.index, checkpoint.size
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{Checkpoint, SigningKey};

    #[test]
    fn a_record_with_its_proof_is_checked_by_itself_and_holds_no_other_byte() {
        let line = |seq: u64| format!("{{\"kind\":\"operator\",\"seq\":{seq},\"time\":\"2026-11-03T10:00:00.000Z\"}}");
        let (one, other) = (tree::leaf(line(0).as_bytes()), tree::leaf(line(1).as_bytes()));
        let (key, _) = SigningKey::generate(|_| "log".to_owned()).unwrap();
        let checkpoint = Checkpoint { origin: "log".to_owned(), size: 2, root: tree::join(&one, &other) };
        let note = Signed::sign(checkpoint, &key).note;
        let bundle = Bundle { record: line(1), index: 1, proof: vec![one], note };
        let text = bundle.to_string();
        assert!(Bundle::is_one(&text) && !Bundle::is_one(&format!("{}\n{}\n", line(0), line(1))));
        assert_eq!(Bundle::parse(&text).unwrap(), bundle);
        let keys = [key.public().clone()];
        assert_eq!(bundle.check(&keys).unwrap().checkpoint.size, 2);
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(wrong) = String::from_utf8(bytes) else { continue };
            let holds = Bundle::parse(&wrong).is_ok_and(|bundle| bundle.check(&keys).is_ok());
            assert!(!holds, "byte {at}: {wrong}");
        }
    }
}
