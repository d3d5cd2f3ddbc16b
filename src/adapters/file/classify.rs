//! From what the file system says to the heart's one vocabulary of failures.

use std::io::{Error, ErrorKind};

use hms_actors::failure::Failure;
use hms_actors::ports::WriteTo;

/// What was being done to a path.
#[derive(Debug, Clone, Copy)]
pub enum During<'a> {
    Look { path: &'a str },
    Read { path: &'a str },
    Open { path: &'a str, file: WriteTo },
    Write { path: &'a str },
    Rename { from: &'a str, to: &'a str },
}

/// What an error means.
pub fn failure(during: During<'_>, error: &Error) -> Failure {
    let words = error.to_string();
    let (kind, why): (fn(String) -> Failure, &str) = match (error.kind(), during) {
        (ErrorKind::NotFound, During::Open { file: WriteTo::Fresh, .. }) => {
            (Failure::configuration, "no such directory")
        }
        (ErrorKind::NotFound, _) => (Failure::transient_definite, "it is gone"),
        (ErrorKind::AlreadyExists, _) => (Failure::transient_definite, "it exists already"),
        (
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput,
            _,
        ) => (Failure::configuration, &words),
        (ErrorKind::StorageFull, _) => (Failure::transient_definite, "the disk is full"),
        (ErrorKind::QuotaExceeded, _) => (Failure::transient_definite, "the quota is used up"),
        _ => (Failure::transient_definite, &words),
    };
    let mut failure = kind(format!("{}: {why}", during.words()));
    // Some of the bytes, or the new name, may stand already.
    failure.definite &= !matches!(during, During::Write { .. });
    failure
}

impl During<'_> {
    fn words(&self) -> String {
        match self {
            Self::Look { path } => format!("looking at `{path}`"),
            Self::Read { path } => format!("reading `{path}`"),
            Self::Open { path, .. } => format!("opening `{path}` for writing"),
            Self::Write { path } => format!("writing `{path}`"),
            Self::Rename { from, to } => format!("renaming `{from}` to `{to}`"),
        }
    }
}
