//! The envelope: from a publisher's HTTP request to checked events, for the content types of the admin endpoint.
//! It follows CloudEvents 1.0 (JSON format, JSON batch format, HTTP binding). Not here: whether an id is known
//! already, which is the log's affair.
//!
//! Decided here, where the specification leaves it open:
//! - A plain JSON body is an event of source `/hms-sync/publish`, whose type is the feed's name and whose id is
//!   `ce-id` or a new UUIDv7. Any other `ce-*` header means binary mode, which needs `ce-specversion`.
//! - `dataschema` travels as an extension. `datacontenttype` has to be JSON and is not kept: what partners get
//!   is the projection, which is `application/json`.
//! - Blank lines of NDJSON are passed over; a body with nothing else is refused. An empty batch is taken.
//! - In the structured types `ce-*` headers are not looked at: the body says it all.

mod attributes;
mod binary;
mod error;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use hms_actors::id::FeedName;

use self::attributes::Attributes;
pub use self::error::{EnvelopeError, Place};
use super::batch::Batch;
use super::draft::Draft;
use super::json::{self, MAX_DEPTH, Scanner, Span};

/// The content types that are taken.
pub const CONTENT_TYPES: [&str; 4] =
    [STRUCTURED, BATCH, NDJSON, "application/json (plain, or with ce-* headers in binary mode)"];

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const NDJSON: &str = "application/x-ndjson";

/// The headers of a request that say something about events: `content-type` and `ce-*`, names in lower case,
/// in the order in which they came.
pub type Headers = [(String, Vec<u8>)];

/// The events of a request, all of them or none, as they will stand in the journal.
pub fn read(feed: &FeedName, headers: &Headers, body: &[u8]) -> Result<Batch, EnvelopeError> {
    let mut batch = Batch::new(feed, body.len());
    each(feed, headers, body, |event| batch.push(&event))?;
    Ok(batch)
}

/// Shows the events of a request one by one. After an error those that were shown are not to be taken.
///
/// Each byte is looked at once. Where there is more than one mistake, those in the JSON are told before those in what it says.
fn each<'a>(
    feed: &'a FeedName,
    headers: &'a Headers,
    body: &'a [u8],
    mut show: impl FnMut(Draft<'a>),
) -> Result<(), EnvelopeError> {
    let content_type = binary::content_type(headers)?;
    match content_type.as_str() {
        STRUCTURED => document(body, MAX_DEPTH + 1, event)?.map(show).map_err(EnvelopeError::request),
        BATCH => batch(body, show),
        NDJSON => lines(body, show),
        other if attributes::is_json(other) => {
            let attributes = binary::attributes(headers, feed).map_err(EnvelopeError::request)?;
            let data = document(body, MAX_DEPTH, |scanner| scanner.span(Scanner::value))?;
            show(object(data).and_then(|data| attributes.into_event(data)).map_err(EnvelopeError::request)?);
            Ok(())
        }
        other => Err(EnvelopeError::content_type(other)),
    }
}

/// A body that is one JSON value.
fn document<'a, T>(
    body: &'a [u8],
    max_depth: usize,
    value: impl FnOnce(&mut Scanner<'a>) -> Result<T, json::JsonError>,
) -> Result<T, EnvelopeError> {
    let read = json::text_of(body).and_then(|text| Scanner::new(text, max_depth).document(value));
    read.map_err(|error| EnvelopeError::json(body, 1, 0, error))
}

fn batch<'a>(body: &'a [u8], mut show: impl FnMut(Draft<'a>)) -> Result<(), EnvelopeError> {
    let mut taken = Ok(());
    document(body, MAX_DEPTH + 2, |scanner| {
        if scanner.peek() != Some(b'[') {
            let found = json::kind(scanner.span(Scanner::value)?.text.as_bytes());
            taken = Err(EnvelopeError::request(format!("a batch must be a JSON array of events, found {found}")));
            return Ok(());
        }
        let mut number = 0;
        scanner.array(|scanner| {
            number += 1;
            match event(scanner)? {
                Ok(event) => show(event),
                Err(message) if taken.is_ok() => taken = Err(EnvelopeError::event(number, message)),
                Err(_) => {}
            }
            Ok(())
        })
    })?;
    taken
}

fn lines<'a>(body: &'a [u8], mut show: impl FnMut(Draft<'a>)) -> Result<(), EnvelopeError> {
    let (text, bad) = match std::str::from_utf8(body) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = std::str::from_utf8(&body[..error.valid_up_to()]).expect("it was found to be valid");
            (valid, Some(error.valid_up_to()))
        }
    };
    let mut scanner = Scanner::new("", 0);
    let (mut start, mut found) = (0, false);
    for (line, number) in text.split('\n').zip(1..) {
        let byte = start;
        start += line.len() + 1;
        // The line that is not valid is the last, and goes on behind the text.
        if let Some(bad) = bad.filter(|&bad| bad < start) {
            return Err(EnvelopeError::json(&body[byte..], number, byte, json::not_utf8(bad - byte)));
        }
        if line.bytes().all(|byte| byte.is_ascii_whitespace()) {
            continue;
        }
        scanner.restart(line, MAX_DEPTH + 1);
        let read = scanner.document(event);
        let read = read.map_err(|error| EnvelopeError::json(line.as_bytes(), number, byte, error))?;
        show(read.map_err(|message| EnvelopeError::line(number, message))?);
        found = true;
    }
    if found { Ok(()) } else { Err(EnvelopeError::request("the body holds no event: send one JSON object a line")) }
}

/// An event in the JSON format: what is no JSON is the outer error, what is no event the inner one.
fn event<'a>(scanner: &mut Scanner<'a>) -> Result<Result<Draft<'a>, String>, json::JsonError> {
    if scanner.peek() != Some(b'{') {
        let found = json::kind(scanner.span(Scanner::value)?.text.as_bytes());
        return Ok(Err(format!("an event must be a JSON object with CloudEvents attributes, found {found}")));
    }
    let mut attributes = Attributes::default();
    let mut data = None;
    let mut taken = Ok(());
    scanner.object(|scanner, name| {
        let read = match (name, scanner.peek()) {
            ("data", _) => {
                data = Some(scanner.span(Scanner::value)?);
                Ok(())
            }
            ("data_base64", _) => {
                scanner.value()?;
                Err("`data_base64` is not taken: send a JSON object as `data`".to_owned())
            }
            (_, Some(b'"')) => attributes.set(name, scanner.string()?),
            _ => attributes.set_json(name, scanner.span(Scanner::value)?.text),
        };
        if taken.is_ok() {
            taken = read;
        }
        Ok(())
    })?;
    Ok(taken.and_then(|()| {
        attributes.need_specversion("`specversion`")?;
        let data = data.ok_or("`data` is missing: send a JSON object")?;
        attributes.into_event(object(data)?)
    }))
}

fn object(data: Span<'_>) -> Result<Cow<'_, [u8]>, String> {
    match json::kind(data.text.as_bytes()) {
        "an object" => Ok(data.tight()),
        other => Err(format!("the data must be a JSON object, found {other}")),
    }
}
