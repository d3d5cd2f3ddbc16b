//! `hms audit verify`: of a running node, of an export, or of one record with its proof. Whatever does not hold is said, with the
//! record where it begins, and the exit code is 1.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::client::{Call, Client, Connection, parse};
use super::super::{Error, render, words};
use super::export::{CHECKPOINT, HASHES, PROOF, beside};
use super::{before, checkpoint, keys_of, lines, oldest, proof, records};
use crate::admin::views::ConsistencyView;
use crate::proof::checkpoint::notes;
use crate::proof::records::Check;
use crate::proof::tree::{self, Edge, Hash};
use crate::proof::{self as proofs, Bundle, Checkpoint, Signed, VerifierKey};

/// Check that no record was changed, dropped, added or moved since it was signed
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// An export, or a record with its proof; without it, the running node
    file: Option<PathBuf>,
    /// The public key (NAME+ID+KEY), or a file with one a line (audit.pub); a running node is asked for its own
    #[arg(long, value_name = "PUB")]
    key: Vec<String>,
    /// A file of checkpoints that were kept elsewhere: the records have to continue all of them
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// A checkpoint, and where it is from.
struct Claim {
    source: String,
    signed: Signed,
}

impl Verify {
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        let Some(file) = &self.file else { return self.node(connection).await };
        let keys = keys(&self.key)?;
        if keys.is_empty() {
            let why =
                "a file is checked with the public key: give --key PUB or --key audit.pub (`hms audit key` shows it)";
            return Err(Error::Usage(why.to_owned()));
        }
        let known = claims(&self.checkpoint, &keys)?;
        let found = match bundle(file)? {
            Some(bundle) => check_bundle(&bundle, &keys, &known).map_err(|why| in_file(file, &why))?,
            None => check_export(file, &keys, known)?,
        };
        found.show(connection)
    }

    async fn node(&self, connection: &Connection) -> Result<(), Error> {
        let client = connection.client()?;
        let given = keys(&self.key)?;
        let by = if given.is_empty() {
            Some("the key is the one that the node gave: compare it (hms audit key), or give --key")
        } else {
            None
        };
        let keys = if given.is_empty() { keys_of(&client).await? } else { given };
        let known = claims(&self.checkpoint, &keys)?;
        let signed = checkpoint(&client, &keys).await?;
        let size = signed.checkpoint.size;
        let (edge, _) = oldest(&client, &signed, &keys).await?;
        let first = edge.size();
        for claim in known.iter().filter(|claim| claim.signed.checkpoint.size < first) {
            continued(&client, claim, &signed.checkpoint).await?;
        }
        let mut check = Check::new(edge.clone());
        known.iter().for_each(|claim| check.claim(&claim.source, &claim.signed.checkpoint));
        check.claim("the node's checkpoint", &signed.checkpoint);
        // Every so many records, for finding the one that is wrong.
        let mut edges = vec![edge];
        let bar = render::progress(Some(size), "records");
        let mut checked = check.begin();
        while checked.is_ok() && check.next() < size {
            let body = records(&client, check.next(), (size - check.next()).min(STEP)).await?;
            if body.is_empty() {
                return Err(Error::Failed(format!(
                    "record {} is missing: the node signed {size} records",
                    check.next()
                )));
            }
            checked = lines(&body).try_for_each(|line| check.add(line));
            edges.push(check.edge().clone());
            bar.set_position(check.next());
        }
        bar.finish_and_clear();
        if let Err(why) = checked.and_then(|()| check.finish().map(drop)) {
            let exactly = locate(&client, &signed.checkpoint, &edges).await.unwrap_or_default();
            return Err(Error::Failed(
                exactly.map_or(why.clone(), |seq| format!("record {seq} is not the one that was signed; {why}")),
            ));
        }
        let mut remarks: Vec<String> = by.map(str::to_owned).into_iter().collect();
        if first > 0 {
            remarks.push(format!(
                "records below {first} were moved out: `hms audit verify FILE` checks the exports that have them"
            ));
        }
        Found { records: (first, size), checkpoint: signed.checkpoint, known: known.len(), remarks }.show(connection)
    }
}

/// Records that are asked for at once.
const STEP: u64 = 5000;

/// What holds.
struct Found {
    /// From, and up to but without.
    records: (u64, u64),
    checkpoint: Checkpoint,
    known: usize,
    remarks: Vec<String>,
}

impl Found {
    fn show(self, connection: &Connection) -> Result<(), Error> {
        let (from, to) = self.records;
        let Checkpoint { origin, size, root } = &self.checkpoint;
        if connection.json {
            let json = serde_json::json!({
                "verified": true, "origin": origin, "from": from, "to": to, "size": size, "root": proofs::base64(root), "anchored": self.known,
            });
            return render::json(json.to_string().as_bytes());
        }
        let whose = match to - from {
            1 if *size != 1 => format!("record {from} is the one that was signed"),
            count => format!("{}: as signed, none missing, none moved", words::counted(count, "record")),
        };
        let anchored = match self.known {
            0 => "  no checkpoint of elsewhere was given (--checkpoint): an older state as a whole would not be noticed\n".to_owned(),
            known => format!("  and they continue {} of elsewhere\n", words::counted(known as u64, "checkpoint")),
        };
        let remarks: String = self.remarks.iter().map(|remark| format!("  {remark}\n")).collect();
        render::text(&format!(
            "✓ {whose}\n  log {origin}, {size} records, root {}\n{anchored}{remarks}",
            proofs::base64(root)
        ))
    }
}

/// Keys as they are given: by themselves, or in files.
fn keys(given: &[String]) -> Result<Vec<VerifierKey>, Error> {
    let mut keys = Vec::new();
    for text in given {
        let text = match text.parse::<VerifierKey>() {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(_) if Path::new(text).exists() => read(Path::new(text))?,
            Err(why) => return Err(Error::Usage(format!("--key: {why}, and there is no such file"))),
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            keys.push(line.parse().map_err(|why| Error::Usage(format!("--key: {why}")))?);
        }
    }
    Ok(keys)
}

fn claims(files: &[PathBuf], keys: &[VerifierKey]) -> Result<Vec<Claim>, Error> {
    let mut claims = Vec::new();
    for file in files {
        let found = notes(&read(file)?);
        if found.is_empty() {
            return Err(in_file(file, "there is no checkpoint in it"));
        }
        for (number, note) in (1..).zip(found) {
            let signed =
                Signed::open(&note, keys).map_err(|why| in_file(file, &format!("checkpoint {number}: {why}")))?;
            claims.push(Claim { source: format!("{} (checkpoint {number})", file.display()), signed });
        }
    }
    Ok(claims)
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| Error::Usage(format!("{}: {error}", file.display())))
}

fn in_file(file: &Path, why: &str) -> Error {
    Error::Failed(format!("{}: {why}", file.display()))
}

/// A record with its proof, if the file is one. They are small.
fn bundle(file: &Path) -> Result<Option<Bundle>, Error> {
    let opened = File::open(file).map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
    let mut head = BufReader::new(opened).lines().take(2);
    let is_one = head.nth(1).and_then(Result::ok).is_some_and(|line| Bundle::is_one(&format!("\n{line}")));
    if !is_one {
        return Ok(None);
    }
    Bundle::parse(&read(file)?).map(Some).map_err(|why| in_file(file, &why))
}

/// A single record can only be compared with checkpoints of the same size: others need the records between.
fn check_bundle(bundle: &Bundle, keys: &[VerifierKey], known: &[Claim]) -> Result<Found, String> {
    let checkpoint = bundle.check(keys)?.checkpoint;
    for Claim { source, signed } in known.iter().filter(|claim| claim.signed.checkpoint.size == checkpoint.size) {
        if signed.checkpoint != checkpoint {
            return Err(format!("its checkpoint is another than that in {source}"));
        }
    }
    let same = known.iter().filter(|claim| claim.signed.checkpoint == checkpoint).count();
    Ok(Found { records: (bundle.index, bundle.index + 1), checkpoint, known: same, remarks: Vec::new() })
}

fn check_export(file: &Path, keys: &[VerifierKey], known: Vec<Claim>) -> Result<Found, Error> {
    let own = beside(file, CHECKPOINT);
    let count = known.len();
    let mut all = known;
    if own.exists() {
        all.extend(claims(&[own], keys)?);
    }
    let Some(last) = all.iter().map(|claim| &claim.signed.checkpoint).max_by_key(|checkpoint| checkpoint.size).cloned()
    else {
        let missing =
            format!("{}: there is no {}: give --checkpoint FILE", file.display(), beside(file, CHECKPOINT).display());
        return Err(Error::Usage(missing));
    };
    let edge = moved_before(file, keys)?;
    let first = edge.size();
    let older = all.iter().filter(|claim| claim.signed.checkpoint.size < first).count();
    let checked = check_lines(file, edge.clone(), &all);
    checked.map_err(|why| {
        let seq = differs(file, edge, &last);
        in_file(file, &seq.map_or(why.clone(), |seq| format!("record {seq} is not the one that was signed; {why}")))
    })?;
    let mut remarks = Vec::new();
    if older > 0 {
        let older = words::counted(older as u64, "checkpoint");
        remarks.push(format!("{older} speak of records below {first} only: check the export that has them"));
    }
    Ok(Found { records: (first, last.size), checkpoint: last, known: count.saturating_sub(older), remarks })
}

/// The tree of the records before those of an export, which its first record's proof tells of.
fn moved_before(file: &Path, keys: &[VerifierKey]) -> Result<Edge, Error> {
    let path = beside(file, PROOF);
    if !path.exists() {
        return Ok(Edge::default());
    }
    let found = Bundle::parse(&read(&path)?).and_then(|bundle| before(&bundle, keys));
    found.map_err(|why| in_file(&path, &why))
}

/// That the node's audit continues a checkpoint of which it has the records no more: the hashes tell.
async fn continued(client: &Client, claim: &Claim, signed: &Checkpoint) -> Result<(), Error> {
    let Checkpoint { size, root, .. } = &claim.signed.checkpoint;
    let shown = consistency(client, *size, signed.size).await?;
    if tree::extends((*size, root), (signed.size, &signed.root), &shown) {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "the node's audit does not continue {}: the first {size} records are others",
        claim.source
    )))
}

async fn consistency(client: &Client, from: u64, to: u64) -> Result<Vec<Hash>, Error> {
    let body = client.accepted(Call::get(format!("/v1/audit/consistency?from={from}&to={to}"))).await?;
    proof::hashes(&parse::<ConsistencyView>(&body)?.consistency)
}

fn check_lines(file: &Path, edge: Edge, claims: &[Claim]) -> Result<(), String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let mut check = Check::new(edge);
    claims.iter().for_each(|claim| check.claim(&claim.source, &claim.signed.checkpoint));
    check.begin()?;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())? > 0 {
        if line.pop() != Some(b'\n') {
            return Err(format!("record {}: the file is cut off within it", check.next()));
        }
        check.add(&line)?;
        line.clear();
    }
    let covered = check.finish()?;
    if covered < check.next() {
        let last = check.next() - 1;
        return Err(format!(
            "records {covered} to {last} were signed by nobody: the last checkpoint is of {covered} records"
        ));
    }
    Ok(())
}

/// The first record that is not in the list of hashes beside the export, if that list is the one that was signed.
fn differs(file: &Path, mut edge: Edge, signed: &Checkpoint) -> Option<u64> {
    let text = std::fs::read_to_string(beside(file, HASHES)).ok()?;
    let hashes: Vec<Hash> = text.lines().map(proofs::hash_of).collect::<Option<_>>()?;
    let begin = edge.size();
    hashes.iter().for_each(|hash| edge.push(*hash));
    if edge.size() != signed.size || edge.root() != signed.root {
        return None;
    }
    let mut lines = BufReader::new(File::open(file).ok()?).split(b'\n');
    let same = |hash: &Hash| lines.next().and_then(Result::ok).is_some_and(|line| tree::leaf(&line) == *hash);
    let first = hashes.iter().take_while({
        let mut same = same;
        move |hash| same(hash)
    });
    let first = begin + first.count() as u64;
    (first < signed.size).then_some(first)
}

/// The first record that the node can't prove to be in its own checkpoint, given the edges of what it gave us.
async fn locate(client: &Client, signed: &Checkpoint, edges: &[Edge]) -> Result<Option<u64>, Error> {
    let (mut good, mut bad) = (0, edges.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        let edge = &edges[middle];
        let shown = consistency(client, edge.size(), signed.size).await?;
        match tree::extends((edge.size(), &edge.root()), (signed.size, &signed.root), &shown) {
            true => good = middle,
            false => bad = middle,
        }
    }
    let from = edges[good].size();
    let body = records(client, from, STEP.min(signed.size.saturating_sub(from))).await?;
    for (seq, line) in (from..).zip(lines(&body)) {
        let shown = proof::inclusion(client, seq, signed.size).await?;
        if !tree::includes(tree::leaf(line), seq, signed.size, &shown, &signed.root) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
