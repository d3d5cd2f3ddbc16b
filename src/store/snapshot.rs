//! What follows from the records that were moved out: `audit/<N, 20 digits>.snapshot`, the state before record N and the right
//! edge of the tree of these N records. It is made from the records themselves and not from the cache, and its hash stands in a
//! later record (`pruning.rs`): a rebuild believes no other.
//!
//! | line | what |
//! | --- | --- |
//! | first | `{"records":N,"edge":[base64 of a hash …]}`, the largest subtree first |
//! | each other | a row of the state as the cache has it (`cache.rs`): its name, a tab, its value |

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use hms_actors::failure::Failure;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::audit::numbered;
use super::file::at;
use super::state::{Row, State};
use crate::proof::tree::Edge;
use crate::proof::{self, Hash};

const ENDING: &str = ".snapshot";

#[derive(Serialize, Deserialize)]
struct Head {
    records: u64,
    edge: Vec<String>,
}

pub(super) struct Snapshot {
    pub state: State,
    /// Of the whole file.
    pub sha256: String,
}

pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{ENDING}"))
}

/// The snapshots that are there, by the first record that they do not include.
pub(super) fn all(dir: &Path) -> Result<Vec<u64>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| at(dir, "list", &e))? {
        let name = entry.map_err(|e| at(dir, "list", &e))?.file_name();
        found.extend(name.to_str().and_then(|name| numbered(name, ENDING)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes and syncs a snapshot; its hash.
pub(super) fn write(path: &Path, edge: &Edge, state: &State) -> Result<String, Failure> {
    let written = File::create(path).and_then(|file| {
        let mut out = Hashed { hash: Sha256::new(), out: BufWriter::with_capacity(1 << 20, file) };
        encode(edge, state, &mut out)?;
        out.out.into_inner()?.sync_all()?;
        Ok(hex::encode(out.hash.finalize()))
    });
    written.map_err(|e| at(path, "write", &e))
}

/// The edge alone: what a start needs whose cache is whole.
pub(super) fn read_edge(dir: &Path, first: u64) -> Result<Edge, Failure> {
    let path = path(dir, first);
    let mut line = Vec::new();
    let read = File::open(&path).and_then(|file| BufReader::new(file).read_until(b'\n', &mut line));
    read.map_err(|e| at(&path, "read", &e))?;
    let damaged = || unusable(&path, "its first line is no edge of a tree");
    let edge = parse_edge(&line).ok_or_else(damaged)?;
    if edge.size() == first { Ok(edge) } else { Err(damaged()) }
}

pub(super) fn read(dir: &Path, first: u64) -> Result<Snapshot, Failure> {
    let path = path(dir, first);
    let bytes = fs::read(&path).map_err(|e| at(&path, "read", &e))?;
    let (_, state) = parse(&bytes).map_err(|why| unusable(&path, &why))?;
    Ok(Snapshot { state, sha256: hex::encode(Sha256::digest(&bytes)) })
}

pub(super) fn unusable(path: &Path, why: &str) -> Failure {
    Failure::node(format!(
        "{} is not the snapshot that was made when older records were moved out: {why}. It says what followed from them: restore it from a \
         backup, or put the exported records back in its place (audit/ as it was before)",
        path.display()
    ))
}

pub(super) fn encode(edge: &Edge, state: &State, out: &mut impl Write) -> io::Result<()> {
    let hashes = edge.roots().iter().map(|hash| proof::base64(hash)).collect();
    serde_json::to_writer(&mut *out, &Head { records: edge.size(), edge: hashes })?;
    out.write_all(b"\n")?;
    for row in state.rows() {
        let value = state.row(&row).expect("a row that is listed is there");
        serde_json::to_writer(&mut *out, &row)?;
        // Rows and values are JSON on one line: a tab can't be within them.
        out.write_all(b"\t")?;
        out.write_all(&value)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

pub(super) fn parse(bytes: &[u8]) -> Result<(Edge, State), String> {
    let mut lines = bytes.strip_suffix(b"\n").ok_or("it is cut off")?.split(|byte| *byte == b'\n');
    let edge = parse_edge(lines.next().unwrap_or_default()).ok_or("its first line is no edge of a tree")?;
    let mut state = State::default();
    for line in lines {
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or("a line has no value")?;
        let row: Row = serde_json::from_slice(&line[..tab]).map_err(|e| e.to_string())?;
        state.put_row(row.clone(), &line[tab + 1..])?;
        state.changed.insert(row);
    }
    if state.counters.seq != edge.size() {
        return Err(format!("its rows include {} records, its tree {}", state.counters.seq, edge.size()));
    }
    state.index();
    Ok((edge, state))
}

fn parse_edge(line: &[u8]) -> Option<Edge> {
    let head: Head = serde_json::from_slice(line).ok()?;
    let roots: Option<Vec<Hash>> = head.edge.iter().map(|text| proof::hash_of(text)).collect();
    Edge::from_roots(head.records, roots?)
}

/// Hashes what passes through.
struct Hashed<W> {
    hash: Sha256,
    out: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
