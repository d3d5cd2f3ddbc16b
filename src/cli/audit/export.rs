//! `hms audit export`: all records as a file, checked on the way, with a checkpoint of exactly these beside it, and their hashes,
//! by which a changed record is found again. With `--prune-before` the node then removes what is safe in it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::super::client::{Call, Client, Connection, parse};
use super::super::{Error, render, words};
use super::{checkpoint, keys_of, lines, oldest, records};
use crate::admin::views::{PruneOrder, PrunedView};
use crate::proof::base64;
use crate::proof::records::Check;
use crate::proof::tree;

/// Write all records into a file (NDJSON, as stored), with a signed checkpoint beside it (FILE.checkpoint)
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file, which must not be there yet [default: audit-N.ndjson, N records]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Then remove the records before SEQ from the node. An anchored checkpoint has to cover them; their hashes stay, so that they are
    /// proved as before (`hms audit proof N --export FILE`). This file, and those beside it, are then the only place where they are
    #[arg(long, value_name = "SEQ")]
    prune_before: Option<u64>,
}

impl Export {
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        let client = connection.client()?;
        let keys = keys_of(&client).await?;
        let signed = checkpoint(&client, &keys).await?;
        let size = signed.checkpoint.size;
        if let Some(before) = self.prune_before.filter(|before| *before > size) {
            return Err(Error::Refused(format!("--prune-before {before}: there are only {size} records")));
        }
        let (edge, oldest) = oldest(&client, &signed, &keys).await?;
        let first = edge.size();
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("audit-{size}.ndjson")));
        let mut file = New::create(&out)?;
        let mut hashes = New::create(&beside(&out, HASHES))?;
        let mut check = Check::new(edge);
        check.claim("the node's checkpoint", &signed.checkpoint);
        check.begin().map_err(Error::Failed)?;
        let bar = render::progress(Some(size), "records");
        while check.next() < size {
            let body = records(&client, check.next(), (size - check.next()).min(10_000)).await?;
            for line in lines(&body) {
                check.add(line).map_err(Error::Failed)?;
                file.write(&[line, b"\n"])?;
                hashes.write(&[base64(&tree::leaf(line)).as_bytes(), b"\n"])?;
            }
            bar.set_position(check.next());
            if body.is_empty() {
                return Err(Error::Failed(format!("the node signed {size} records and has only {}", check.next())));
            }
        }
        bar.finish_and_clear();
        file.finish()?;
        hashes.finish()?;
        if let Some(oldest) = &oldest {
            let mut proof = New::create(&beside(&out, PROOF))?;
            proof.write(&[oldest.to_string().as_bytes()])?;
            proof.finish()?;
        }
        let mut note = New::create(&beside(&out, CHECKPOINT))?;
        note.write(&[signed.note.as_bytes()])?;
        note.finish()?;
        sync_folder(&out)?;
        let (file, key) = (out.display(), keys.last().map(ToString::to_string).unwrap_or_default());
        if !connection.json {
            render::line(&format!(
                "✓ {} in {file}, as signed\n\n`hms audit verify {file} --key {key}` checks it without the node.",
                words::counted(size - first, "record")
            ))?;
        }
        let pruned = match self.prune_before {
            Some(before) => Some(prune(&client, before).await?),
            None => None,
        };
        if connection.json {
            let mut json = serde_json::json!({ "file": file.to_string(), "first": first, "records": size - first });
            if let Some(pruned) = &pruned {
                json["pruned"] = serde_json::json!(pruned);
            }
            return render::json(json.to_string().as_bytes());
        }
        match pruned {
            None => Ok(()),
            Some(PrunedView { first, moved: 0 }) => {
                render::line(&format!("Nothing was left to move out: the node keeps records from {first} on."))
            }
            Some(PrunedView { first, moved }) => render::line(&format!(
                "✓ {} moved out of the node, which keeps those from {first} on",
                words::counted(moved, "record")
            )),
        }
    }
}

/// It may have to read millions of records again.
async fn prune(client: &Client, before: u64) -> Result<PrunedView, Error> {
    let body = serde_json::to_vec(&PruneOrder { before }).expect("a number is JSON");
    let order = Call::post("/v1/audit/prune").body("application/json", body).within(Duration::from_secs(600));
    parse(&client.accepted(order).await?)
}

/// The names of new files are on disk to stay as well.
fn sync_folder(file: &Path) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::Failed(format!("{}: {error}", folder.display())))
}

pub(super) const CHECKPOINT: &str = "checkpoint";
/// The first record with its proof, where an export does not begin at record 0.
pub(super) const PROOF: &str = "proof";
pub(super) const HASHES: &str = "hashes";

pub(super) fn beside(file: &Path, what: &str) -> PathBuf {
    file.with_added_extension(what)
}

/// A file that is made here, and was not there before.
struct New {
    path: PathBuf,
    file: BufWriter<File>,
}

impl New {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        written.map_err(|error| Error::Failed(format!("{}: {error}", self.path.display())))
    }

    fn finish(mut self) -> Result<(), Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| Error::Failed(format!("{}: {error}", self.path.display())))
    }
}
