//! What an answer, or the lack of one, means, in the heart's vocabulary. The only place that knows status codes.
//!
//! | answer | is |
//! | --- | --- |
//! | 2xx | success |
//! | 429, 503 with Retry-After | throttled |
//! | 408, 423, 424, 425, every other 5xx, and what is no answer (1xx, 6xx and above) | transient |
//! | 3xx, 401–407, 410, 411, 417, 421, 426, 428, 451 | configuration: the way to the partner is wrong |
//! | 404, 410 where the url holds a `{field}` | refused |
//! | 409 | refused; after an attempt of unknown outcome it may be about that one, which the heart decides |
//! | every other 4xx | refused |
//!
//! An answer is definite, but for 5xx without 503: there the partner broke, or a gateway speaks, and nobody knows what
//! became of the request.

use std::error::Error;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::Timestamp;

use super::client::Answer;
use crate::egress::Refused;

/// A partner that asks for more waits no longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// So much of an answer's text stands in a failure's message, in characters.
const LONGEST_TEXT: usize = 200;

/// The failure that an answer is, or `None` if it is a success. `clean` frees the answer's text of secrets;
/// `about_event` says whether the url holds a field of the event.
pub(super) fn failure(
    answer: &Answer,
    clean: impl FnOnce(&str) -> String,
    about_event: bool,
    now: Timestamp,
) -> Option<Failure> {
    let wait = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let kind = kind(answer.status.as_u16(), about_event, wait.is_some())?;
    let message = words(answer.status, &clean(&String::from_utf8_lossy(&answer.body)));
    Some(match kind {
        FailureKind::Throttled => Failure::throttled(message, wait),
        FailureKind::Configuration => Failure::configuration(message),
        FailureKind::Refused if answer.status == StatusCode::CONFLICT => Failure::conflict(message),
        FailureKind::Refused => Failure::refused(message),
        _ if answer.status.is_server_error() && answer.status != StatusCode::SERVICE_UNAVAILABLE => {
            Failure::transient(message)
        }
        _ => Failure::transient_definite(message),
    })
}

fn kind(status: u16, about_event: bool, may_wait: bool) -> Option<FailureKind> {
    Some(match status {
        200..=299 => return None,
        429 => FailureKind::Throttled,
        503 if may_wait => FailureKind::Throttled,
        404 | 410 if about_event => FailureKind::Refused,
        300..=399 | 401..=407 | 410 | 411 | 417 | 421 | 426 | 428 | 451 => FailureKind::Configuration,
        408 | 423 | 424 | 425 => FailureKind::Transient,
        400..=499 => FailureKind::Refused,
        _ => FailureKind::Transient,
    })
}

/// Whether a fresh token may help.
pub(super) fn is_unauthorized(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
}

/// A failure on the way to a token: no event is to blame for it, and none has left.
pub(super) fn before_the_event(failure: Failure) -> Failure {
    let kind = match failure.kind {
        FailureKind::Refused => FailureKind::Configuration,
        kind => kind,
    };
    Failure { kind, definite: true, message: format!("token: {}", failure.message), ..failure }
}

/// What it means that no answer came. Definite only if no connection came about: then nothing was sent.
pub(super) fn no_answer(error: &reqwest::Error, host: &str, timeout: Duration) -> Failure {
    if error.is_builder() {
        return Failure::configuration(format!("{host}: this is not a request: {}", innermost(error)));
    }
    if let Some(refused) = refused(error) {
        return refused.into();
    }
    if error.is_connect() {
        return Failure::transient_definite(format!("no connection to {host}: {}", innermost(error)));
    }
    if error.is_timeout() {
        return Failure::transient(format!("no answer from {host} within {timeout:?}"));
    }
    Failure::transient(format!("{host} broke off: {}", innermost(error)))
}

/// The address was not to be connected to.
fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(refused) = found.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        cause = found.source();
    }
    None
}

/// The first cause, in its own words. It names neither the url nor a header.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = match error.source() {
        Some(source) => source,
        None => return "unknown".to_owned(),
    };
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string())
}

/// `Retry-After`: seconds, or an HTTP date in any of its three forms. A date that has passed is no wait.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp::default().plus(since_epoch).since(now).min(LONGEST_WAIT))
}

fn words(status: StatusCode, text: &str) -> String {
    let reason = status.canonical_reason().unwrap_or("unknown status");
    match printable(text) {
        text if text.is_empty() => format!("{} {reason}", status.as_u16()),
        text => format!("{} {reason}: {text}", status.as_u16()),
    }
}

/// The beginning of a text, on one line.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(LONGEST_TEXT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>, body: &str, about_event: bool) -> Option<Failure> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(str::to_owned),
            body: body.as_bytes().to_vec(),
            took: Duration::ZERO,
            agreed: None,
        };
        failure(&answer, str::to_owned, about_event, Timestamp(0))
    }

    fn classified(status: u16, retry_after: Option<&str>, about_event: bool) -> Option<(FailureKind, bool)> {
        answered(status, retry_after, "", about_event).map(|failure| (failure.kind, failure.definite))
    }

    #[test]
    fn every_status_has_its_meaning() {
        use FailureKind::{Configuration, Refused, Throttled, Transient};
        let configuration = [401, 402, 403, 404, 405, 406, 407, 410, 411, 417, 421, 426, 428, 451];
        for status in 100..=599 {
            let expected = match status {
                200..=299 => None,
                300..=399 => Some((Configuration, true)),
                429 => Some((Throttled, true)),
                408 | 423 | 424 | 425 => Some((Transient, true)),
                500..=599 if status != 503 => Some((Transient, false)),
                _ if configuration.contains(&status) => Some((Configuration, true)),
                400..=499 => Some((Refused, true)),
                _ => Some((Transient, true)),
            };
            assert_eq!(classified(status, None, false), expected, "{status}");
            let about_event = if matches!(status, 404 | 410) { Some((Refused, true)) } else { expected };
            assert_eq!(classified(status, None, true), about_event, "{status} about an event");
            let told_to_wait = if status == 503 { Some((Throttled, true)) } else { expected };
            assert_eq!(classified(status, Some("1"), false), told_to_wait, "{status} with Retry-After");
        }
        assert_eq!(classified(999, None, false), Some((Transient, true)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        let now = Timestamp(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
        let wait = |text: &str| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(wait(" 120 "), Some(120));
        assert_eq!(wait("0"), Some(0));
        assert_eq!(wait("86400"), Some(3600));
        assert_eq!(wait("99999999999999999999999"), Some(3600));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(wait("Sunday, 06-Nov-94 08:50:07 GMT"), Some(30));
        assert_eq!(wait("Sun Nov  6 08:50:07 1994"), Some(30));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(wait("Sat, 06 Nov 2094 08:00:00 GMT"), Some(3600));
        for nonsense in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994 08:50:07 GMT"] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
        assert_eq!(classified(503, Some("soon"), false), Some((FailureKind::Transient, true)));
    }

    #[test]
    fn a_message_has_the_status_and_the_beginning_of_the_text_on_one_line() {
        let text = format!("\n{{\"error\":\"no\"}}\r\n\u{1b}[31m{}", "é".repeat(500));
        let message = answered(422, None, &text, false).unwrap().message;
        assert!(message.starts_with("422 Unprocessable Entity: {\"error\":\"no\"}   [31mé"), "{message}");
        assert!(!message.contains(char::is_control));
        assert_eq!(message.chars().count(), "422 Unprocessable Entity: ".len() + LONGEST_TEXT);
        assert_eq!(answered(500, None, " ", false).unwrap().message, "500 Internal Server Error");
    }

    #[test]
    fn a_token_endpoint_never_blames_the_event() {
        for status in 300..=599 {
            let failure = before_the_event(answered(status, None, "", false).unwrap());
            assert!(failure.kind != FailureKind::Refused && failure.definite, "{status}");
        }
        assert!(before_the_event(Failure::transient("late")).definite);
    }
}
