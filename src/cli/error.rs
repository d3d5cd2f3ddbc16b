//! How a command can fail, and the exit code of each way. Not an error of the node's inside: those are the heart's
//! `Failure`s, which arrive here as words of the admin endpoint.

use std::process::ExitCode;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, a file that it names, or the environment is wrong.
    #[error("{0}")]
    Usage(String),
    /// A recipe or an event that does not pass the checks: the findings, ready to print.
    #[error("{0}")]
    Invalid(String),
    /// The node said no, in its words.
    #[error("{0}")]
    Refused(String),
    /// The work was begun and failed.
    #[error("{0}")]
    Failed(String),
    /// Nobody answers.
    #[error("the node at {node} can't be reached: {why}")]
    Unreachable { node: String, why: String },
}

impl Error {
    /// 1: the node refused or the work failed; 2: wrong usage or invalid input; 3: the node can't be reached.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) | Self::Failed(_) => 1,
            Self::Usage(_) | Self::Invalid(_) => 2,
            Self::Unreachable { .. } => 3,
        })
    }
}
