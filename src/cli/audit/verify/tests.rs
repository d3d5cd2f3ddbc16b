//! Ten thousand ways of bending an export, drawn from a seed: each is found, also by whoever renumbers what comes after.

use std::fs;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::proof::SigningKey;
use crate::proof::canonical;

const RECORDS: u64 = 24;

fn line(seq: u64, amount: u64) -> String {
    let record = serde_json::json!({
        "seq": seq, "time": "2026-11-03T10:00:00.000Z", "kind": "delivered", "event_id": format!("GR-{seq}"), "amount": amount,
    });
    String::from_utf8(canonical::to_vec(&record).unwrap()).unwrap()
}

/// As whoever forges it would: the seq is right again.
fn renumbered(lines: &[String]) -> Vec<String> {
    let number = |(seq, line): (usize, &String)| {
        let mut record: serde_json::Value = serde_json::from_str(line).ok()?;
        record["seq"] = seq.into();
        String::from_utf8(canonical::to_vec(&record).ok()?).ok()
    };
    lines.iter().enumerate().map(|at| number(at).unwrap_or_else(|| at.1.clone())).collect()
}

struct Export {
    dir: TempDir,
    key: SigningKey,
    lines: Vec<String>,
}

impl Export {
    fn new() -> Self {
        let (key, _) = SigningKey::generate(|_| "log".to_owned()).unwrap();
        Self { dir: tempdir().unwrap(), key, lines: (0..RECORDS).map(|seq| line(seq, seq * 10)).collect() }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("audit.ndjson")
    }

    fn note(&self, lines: &[String]) -> Signed {
        let mut edge = Edge::default();
        lines.iter().for_each(|line| edge.push(tree::leaf(line.as_bytes())));
        let checkpoint = Checkpoint { origin: "log".to_owned(), size: edge.size(), root: edge.root() };
        Signed::sign(checkpoint, &self.key)
    }

    fn check(&self, text: &str, checkpoint: &str, anchored: &[&Signed]) -> Result<(), String> {
        fs::write(self.file(), text).unwrap();
        fs::write(beside(&self.file(), CHECKPOINT), checkpoint).unwrap();
        let claim = |signed: &&Signed| Claim { source: "the anchor".to_owned(), signed: (*signed).clone() };
        let known = anchored.iter().map(claim).collect();
        check_export(&self.file(), &[self.key.public().clone()], known).map(drop).map_err(|error| error.to_string())
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Some change of the lines, and what it is called.
fn bend(lines: &[String], random: &mut SmallRng) -> (&'static str, String) {
    let mut bent = lines.to_vec();
    let at = random.random_range(0..bent.len());
    let what = match random.random_range(0..9) {
        0 => {
            bent[at] = line(at as u64, random.random_range(1_000..1_000_000));
            "another value"
        }
        1 => {
            let whole = text(&bent);
            let mut bytes = whole.into_bytes();
            let byte = random.random_range(0..bytes.len());
            bytes[byte] ^= 1 << random.random_range(0..7);
            return ("a flipped bit", String::from_utf8_lossy(&bytes).into_owned());
        }
        2 => {
            bent.remove(at);
            "a record less"
        }
        3 => {
            bent.insert(at, line(at as u64, 7));
            "a record more"
        }
        4 => {
            bent.push(line(RECORDS, 7));
            "a record more at the end"
        }
        5 => {
            let other = (at + random.random_range(1..bent.len())) % bent.len();
            bent.swap(at, other);
            "two in the other order"
        }
        6 => {
            bent.truncate(at);
            "an end that is missing"
        }
        7 => {
            let whole = text(&bent);
            return ("a file that is cut off", whole[..random.random_range(0..whole.len())].to_owned());
        }
        _ => {
            let other = *(0..bent.len()).filter(|other| *other != at).collect::<Vec<_>>().choose(random).unwrap();
            bent[at] = bent[other].clone();
            "one twice"
        }
    };
    let bent = if random.random() { renumbered(&bent) } else { bent };
    (what, text(&bent))
}

#[test]
fn ten_thousand_bent_exports_are_all_found() {
    let export = Export::new();
    let whole = text(&export.lines);
    let (now, before) = (export.note(&export.lines), export.note(&export.lines[..10]));
    export.check(&whole, &now.note, &[]).unwrap();
    export.check(&whole, &now.note, &[&before, &now]).unwrap();
    let mut random = SmallRng::seed_from_u64(6962);
    let mut bent = 0;
    while bent < 10_000 {
        let (what, changed) = bend(&export.lines, &mut random);
        if changed == whole {
            continue;
        }
        bent += 1;
        let found = export.check(&changed, &now.note, &[]);
        assert!(found.is_err(), "{bent}: {what} was not found:\n{changed}");
    }
}

#[test]
fn an_older_export_with_its_own_checkpoint_is_found_by_what_was_anchored() {
    let export = Export::new();
    let now = export.note(&export.lines);
    for size in 0..RECORDS as usize {
        let older = &export.lines[..size];
        let own = export.note(older).note;
        export.check(&text(older), &own, &[]).unwrap();
        let why = export.check(&text(older), &own, &[&now]).unwrap_err();
        assert!(why.contains(&format!("records {size} to 23 are missing")), "{why}");
        // And one that went on in another way.
        let mut fork = older.to_vec();
        fork.extend((size as u64..30).map(|seq| line(seq, 99)));
        let why = export.check(&text(&fork), &export.note(&fork).note, &[&now]).unwrap_err();
        assert!(why.contains("are not those that were signed"), "{why}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let export = Export::new();
    let (now, before) = (export.note(&export.lines), export.note(&export.lines[..10]));
    let mut bent = export.lines.clone();
    bent[17] = line(17, 1);
    let why = export.check(&text(&bent), &now.note, &[&before]).unwrap_err();
    assert!(why.contains("records 10 to 23 are not those that were signed"), "{why}");
    assert!(why.contains("those below 10 are as signed"), "{why}");
    let hashes: String = export.lines.iter().map(|l| proofs::base64(&tree::leaf(l.as_bytes())) + "\n").collect();
    fs::write(beside(&export.file(), HASHES), hashes).unwrap();
    let why = export.check(&text(&bent), &now.note, &[]).unwrap_err();
    assert!(why.contains("record 17 is not the one that was signed"), "{why}");
    for (bent, words) in [
        (text(&export.lines).replacen("GR-5\"", "GR-5\" ", 1), "record 5: not in the canonical form of RFC 8785"),
        (text(&export.lines).replacen("\"seq\":5", "\"seq\":6", 1), "record 5: its seq is 6, expected 5"),
        (text(&export.lines)[..40].to_owned(), "record 0: the file is cut off within it"),
        (text(&export.lines[..20]), "records 20 to 23 are missing"),
        (text(&export.lines) + &line(24, 1) + "\n", "records 24 to 24 were signed by nobody"),
    ] {
        let why = export.check(&bent, &now.note, &[]).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    let (other, _) = SigningKey::generate(|_| "log".to_owned()).unwrap();
    let why = export.check(&text(&export.lines), &Signed::sign(now.checkpoint, &other).note, &[]).unwrap_err();
    assert!(why.contains("it is signed by log+"), "{why}");
}
