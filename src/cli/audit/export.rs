//! `hms audit export`: all records as a file, checked on the way, with a checkpoint of exactly these beside it, and their hashes,
//! by which a changed record is found again.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::client::Connection;
use super::super::{Error, render, words};
use super::{checkpoint, keys_of, lines, records};
use crate::proof::base64;
use crate::proof::records::Check;
use crate::proof::tree::{self, Edge};

/// Write all records into a file (NDJSON, as stored), with a signed checkpoint beside it (FILE.checkpoint)
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file, which must not be there yet [default: audit-N.ndjson, N records]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Export {
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        let client = connection.client()?;
        let keys = keys_of(&client).await?;
        let signed = checkpoint(&client, &keys).await?;
        let size = signed.checkpoint.size;
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("audit-{size}.ndjson")));
        let mut file = New::create(&out)?;
        let mut hashes = New::create(&beside(&out, HASHES))?;
        let mut check = Check::new(Edge::default());
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
        let mut note = New::create(&beside(&out, CHECKPOINT))?;
        note.write(&[signed.note.as_bytes()])?;
        note.finish()?;
        if connection.json {
            let file = out.display().to_string();
            return render::json(serde_json::json!({ "file": file, "records": size }).to_string().as_bytes());
        }
        let (file, key) = (out.display(), keys.last().map(ToString::to_string).unwrap_or_default());
        render::line(&format!(
            "✓ {} in {file}, as signed\n\n`hms audit verify {file} --key {key}` checks it without the node.",
            words::counted(size, "record")
        ))
    }
}

pub(super) const CHECKPOINT: &str = "checkpoint";
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
