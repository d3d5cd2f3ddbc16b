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
    let because = |why: &str| format!("{}: {why}", during.words());
    match error.kind() {
        ErrorKind::NotFound => match during {
            During::Open { file: WriteTo::Fresh, .. } => Failure::configuration(because("no such directory")),
            _ => Failure::transient_definite(because("it is gone")),
        },
        ErrorKind::AlreadyExists => Failure::transient_definite(because("it exists already")),
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput => Failure::configuration(because(&error.to_string())),
        ErrorKind::StorageFull => after_effects(during, because("the disk is full")),
        ErrorKind::QuotaExceeded => after_effects(during, because("the quota is used up")),
        _ => after_effects(during, because(&error.to_string())),
    }
}

/// Definite, unless bytes may have been written before.
fn after_effects(during: During<'_>, message: String) -> Failure {
    if matches!(during, During::Write { .. }) {
        Failure::transient(message)
    } else {
        Failure::transient_definite(message)
    }
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
