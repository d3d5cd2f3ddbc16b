//! From what libssh2, SFTP and the socket say to the heart's one vocabulary of failures. Nothing else in this
//! adapter knows their codes.

use std::time::Duration;

use async_ssh2_lite::Error;
use hms_actors::failure::Failure;
use hms_actors::ports::WriteTo;
use libssh2_sys as raw;
use ssh2::ErrorCode;

/// What was being done.
#[derive(Debug, Clone, Copy)]
pub enum During<'a> {
    Connect,
    Handshake,
    /// With the name of the secret.
    Login {
        secret: &'a str,
    },
    OpenSftp,
    Look {
        path: &'a str,
    },
    Read {
        path: &'a str,
    },
    Open {
        path: &'a str,
        file: WriteTo,
    },
    Write {
        path: &'a str,
    },
    Rename {
        from: &'a str,
        to: &'a str,
    },
}

/// What an error means. `host` is the `user@host:port` of the message.
pub fn failure(host: &str, during: During<'_>, error: &Error) -> Failure {
    let io_status = error.as_io().and_then(|error| status_of(&error.to_string()));
    match (status(error).or(io_status), error) {
        (Some(status), _) => during.settle(answered(host, during, status), true),
        (None, Error::Ssh2(error)) => during.settle(session(host, during, error), false),
        (None, Error::Io(error)) => during.settle(unanswered(host, during, &error.to_string()), false),
        (None, Error::Other(error)) => during.settle(unanswered(host, during, &error.to_string()), false),
    }
}

/// No answer within the target's `timeout`.
pub fn timed_out(host: &str, during: During<'_>, after: Duration) -> Failure {
    during.settle(unanswered(host, during, &format!("no answer within {after:?}")), false)
}

/// The line was ended by something else: an earlier failure, or a newer connection.
pub fn ended(host: &str, during: During<'_>) -> Failure {
    during.settle(unanswered(host, during, "the connection was closed"), true)
}

/// Whether the server answered that nothing is there.
pub fn is_missing(error: &Error) -> bool {
    matches!(status(error), Some(raw::LIBSSH2_FX_NO_SUCH_FILE | raw::LIBSSH2_FX_NO_SUCH_PATH))
}

/// Whether the server answered that it doesn't offer this, or not to us.
pub fn is_not_offered(error: &Error) -> bool {
    matches!(status(error), Some(raw::LIBSSH2_FX_OP_UNSUPPORTED | raw::LIBSSH2_FX_PERMISSION_DENIED))
}

/// Whether a handshake failed of algorithms that only one side has. libssh2 says the same of some broken exchanges.
pub fn has_nothing_in_common(error: &Error) -> bool {
    let code = error.as_ssh2().map(ssh2::Error::code);
    matches!(
        code,
        Some(ErrorCode::Session(
            raw::LIBSSH2_ERROR_KEX_FAILURE
                | raw::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
                | raw::LIBSSH2_ERROR_METHOD_NONE
                | raw::LIBSSH2_ERROR_HOSTKEY_INIT
        ))
    )
}

/// Whether the server answered at all: the session can be used further.
pub fn is_answer(error: &Error) -> bool {
    status(error).is_some()
}

fn status(error: &Error) -> Option<i32> {
    match error.as_ssh2()?.code() {
        ErrorCode::SFTP(status) => Some(status),
        ErrorCode::Session(_) => None,
    }
}

/// Reads and writes go through `io::Error`, which keeps only the words of a status.
fn status_of(words: &str) -> Option<i32> {
    (raw::LIBSSH2_FX_EOF..=raw::LIBSSH2_FX_LINK_LOOP).find(|&status| words_of(status) == words)
}

fn words_of(status: i32) -> String {
    ssh2::Error::from_errno(ErrorCode::SFTP(status)).message().to_owned()
}

/// The server answered with a status.
fn answered(host: &str, during: During<'_>, status: i32) -> Failure {
    let words = words_of(status);
    let (kind, why): (fn(String) -> Failure, &str) = match (status, during) {
        (raw::LIBSSH2_FX_NO_SUCH_FILE | raw::LIBSSH2_FX_NO_SUCH_PATH, During::Open { file: WriteTo::Fresh, .. }) => {
            (Failure::configuration, "no such directory")
        }
        (raw::LIBSSH2_FX_NO_SUCH_FILE | raw::LIBSSH2_FX_NO_SUCH_PATH, _) => (Failure::transient, "it is gone"),
        (raw::LIBSSH2_FX_OP_UNSUPPORTED, _) => (Failure::configuration, "the server does not offer this"),
        (
            raw::LIBSSH2_FX_PERMISSION_DENIED
            | raw::LIBSSH2_FX_WRITE_PROTECT
            | raw::LIBSSH2_FX_NOT_A_DIRECTORY
            | raw::LIBSSH2_FX_INVALID_FILENAME
            | raw::LIBSSH2_FX_LINK_LOOP,
            _,
        ) => (Failure::configuration, &words),
        (raw::LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM, _) => (Failure::transient, "the partner's disk is full"),
        (raw::LIBSSH2_FX_QUOTA_EXCEEDED, _) => (Failure::transient, "the partner's quota is used up"),
        (raw::LIBSSH2_FX_FAILURE, _) => {
            (Failure::transient, "the server says only `failure`; its disk or quota may be full")
        }
        _ => (Failure::transient, &words),
    };
    kind(format!("{host}: {}: {why}", during.words()))
}

/// libssh2 itself failed, or the session broke.
fn session(host: &str, during: During<'_>, error: &ssh2::Error) -> Failure {
    let ErrorCode::Session(code) = error.code() else { return unanswered(host, during, error.message()) };
    let message = error.message();
    match (during, code) {
        (During::Login { secret }, raw::LIBSSH2_ERROR_FILE | raw::LIBSSH2_ERROR_KEYFILE_AUTH_FAILED) => {
            Failure::configuration(format!(
                "{host}: secret `{secret}` is not a private key that can be used: expected OpenSSH or PEM text without \
                 a passphrase ({message})"
            ))
        }
        (
            During::Login { .. },
            raw::LIBSSH2_ERROR_AUTHENTICATION_FAILED
            | raw::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED
            | raw::LIBSSH2_ERROR_PASSWORD_EXPIRED
            | raw::LIBSSH2_ERROR_METHOD_NONE
            | raw::LIBSSH2_ERROR_METHOD_NOT_SUPPORTED
            | raw::LIBSSH2_ERROR_ALGO_UNSUPPORTED,
        )
        | (During::Handshake, raw::LIBSSH2_ERROR_HOSTKEY_INIT | raw::LIBSSH2_ERROR_HOSTKEY_SIGN) => {
            Failure::configuration(format!("{host}: {}: {message}", during.words()))
        }
        (During::OpenSftp, raw::LIBSSH2_ERROR_CHANNEL_FAILURE) if message.contains("subsystem") => {
            Failure::configuration(format!("{host}: the server does not offer SFTP to this user ({message})"))
        }
        _ => unanswered(host, during, message),
    }
}

fn unanswered(host: &str, during: During<'_>, why: &str) -> Failure {
    Failure::transient(format!("{host}: {}: {why}", during.words()))
}

impl During<'_> {
    /// Whether it is known that nothing had an effect: of a write some bytes may stand already, and what asked
    /// for one change is known only from the answer.
    fn settle(&self, mut failure: Failure, answered: bool) -> Failure {
        failure.definite = match self {
            Self::Write { .. } => false,
            Self::Open { .. } | Self::Rename { .. } => answered,
            _ => true,
        };
        failure
    }

    fn words(&self) -> String {
        match self {
            Self::Connect => "connecting".into(),
            Self::Handshake => "SSH handshake".into(),
            Self::Login { secret } => format!("logging in with secret `{secret}`"),
            Self::OpenSftp => "opening SFTP".into(),
            Self::Look { path } => format!("looking at `{path}`"),
            Self::Read { path } => format!("reading `{path}`"),
            Self::Open { path, .. } => format!("opening `{path}` for writing"),
            Self::Write { path } => format!("writing `{path}`"),
            Self::Rename { from, to } => format!("renaming `{from}` to `{to}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hms_actors::failure::FailureKind;

    fn sftp(status: i32) -> Error {
        ssh2::Error::from_errno(ErrorCode::SFTP(status)).into()
    }

    #[test]
    fn a_status_that_came_through_a_write_keeps_its_meaning() {
        let error = std::io::Error::from(ssh2::Error::from_errno(ErrorCode::SFTP(raw::LIBSSH2_FX_QUOTA_EXCEEDED)));
        let failure = failure("h", During::Write { path: "/f" }, &error.into());
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, false));
        assert!(failure.message.contains("quota is used up"), "{failure}");
    }

    #[test]
    fn a_missing_file_means_something_else_when_a_new_one_is_written() {
        let meaning = |during| failure("h", during, &sftp(raw::LIBSSH2_FX_NO_SUCH_FILE)).kind;
        assert_eq!(meaning(During::Open { path: "/d/f", file: WriteTo::Fresh }), FailureKind::Configuration);
        assert_eq!(meaning(During::Open { path: "/d/f", file: WriteTo::Existing }), FailureKind::Transient);
    }

    #[test]
    fn only_what_had_no_effect_for_sure_is_definite() {
        let after = Duration::from_secs(1);
        for during in [During::Handshake, During::Look { path: "/f" }, During::Read { path: "/f" }] {
            assert!(timed_out("h", during, after).definite, "{during:?}");
        }
        let renaming = During::Rename { from: "/a", to: "/b" };
        for during in [During::Open { path: "/f", file: WriteTo::Fresh }, During::Write { path: "/f" }, renaming] {
            assert!(!timed_out("h", during, after).definite, "{during:?}");
        }
        assert!(failure("h", renaming, &sftp(raw::LIBSSH2_FX_FAILURE)).definite);
    }

    #[test]
    fn a_broken_session_is_transient_and_a_refused_login_is_not() {
        let session = |code| Error::from(ssh2::Error::from_errno(ErrorCode::Session(code)));
        let login = During::Login { secret: "SSH_KEY" };
        let meaning = |code| failure("h", login, &session(code)).kind;
        assert_eq!(meaning(raw::LIBSSH2_ERROR_SOCKET_DISCONNECT), FailureKind::Transient);
        assert_eq!(meaning(raw::LIBSSH2_ERROR_AUTHENTICATION_FAILED), FailureKind::Configuration);
    }
}
