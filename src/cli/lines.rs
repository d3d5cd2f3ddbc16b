//! The lines of an NDJSON file as events that are ready to send, in batches. Nothing here talks to a node.

use std::io::{BufRead, Read};

use serde_json::value::RawValue;

use super::Error;
use super::envelope::{self, Attributes};

/// Events in a request, and the bytes after which a request is full. Both stay far below the node's limits.
const BATCH_EVENTS: usize = 500;
const BATCH_BYTES: usize = 2 << 20;
/// A longer line is not an event.
const LINE_BYTES: u64 = 8 << 20;

/// Events of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// A JSON array of events.
    pub body: String,
    pub events: usize,
}

/// Reads batches from `input` until it ends.
pub(crate) struct Batches<R> {
    input: R,
    /// For messages: a path, or `stdin`.
    name: String,
    kind: String,
    line: usize,
}

impl<R: BufRead> Batches<R> {
    pub fn new(input: R, name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { input, name: name.into(), kind: kind.into(), line: 0 }
    }

    /// The next events, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Batch>, Error> {
        let mut batch = Batch::default();
        while batch.events < BATCH_EVENTS && batch.body.len() < BATCH_BYTES {
            let Some(event) = self.event()? else { break };
            batch.body.push(if batch.events == 0 { '[' } else { ',' });
            batch.body.push_str(&event);
            batch.events += 1;
        }
        batch.body.push(']');
        Ok((batch.events > 0).then_some(batch))
    }

    /// The event of the next line that isn't blank.
    fn event(&mut self) -> Result<Option<String>, Error> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let length = (&mut self.input)
                .take(LINE_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(|error| Error::Usage(format!("{} can't be read: {error}", self.name)))?;
            if length == 0 {
                return Ok(None);
            }
            if length as u64 == LINE_BYTES {
                return Err(self.wrong(1, "longer than 8 MiB"));
            }
            if !line.trim_ascii().is_empty() {
                return self.wrap(&line).map(Some);
            }
        }
    }

    fn wrap(&self, line: &[u8]) -> Result<String, Error> {
        let json: &RawValue =
            serde_json::from_slice(line).map_err(|error| self.wrong(error.column(), &without_position(&error)))?;
        if envelope::is_event(json) {
            return Ok(json.get().to_owned());
        }
        envelope::wrap(&self.kind, Attributes::default(), json).map_err(|error| self.wrong(1, &error.to_string()))
    }

    fn wrong(&self, column: usize, what: &str) -> Error {
        Error::Invalid(format!("{}:{}:{column}: not JSON: {what}", self.name, self.line))
    }
}

/// serde_json counts lines of what it was given, which here is always the first.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str) -> Batches<&[u8]> {
        Batches::new(text.as_bytes(), "events.ndjson", "grants")
    }

    #[test]
    fn events_pass_as_they_are_and_data_is_wrapped() {
        let event = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"n":1.10}}"#;
        let batch = batches(&format!("{event}\n\n{{\"n\": 2.00}}")).next().expect("good").expect("two events");
        assert_eq!(batch.events, 2);
        assert!(batch.body.starts_with(&format!("[{event},")), "{}", batch.body);
        assert!(batch.body.ends_with("\"data\":{\"n\": 2.00}}]"), "{}", batch.body);
        assert!(serde_json::from_str::<Vec<&RawValue>>(&batch.body).is_ok());
    }

    #[test]
    fn a_long_file_comes_in_batches() {
        let text = "{}\n".repeat(BATCH_EVENTS + 1);
        let mut batches = batches(&text);
        let mut sizes = Vec::new();
        while let Some(batch) = batches.next().expect("good") {
            sizes.push(batch.events);
        }
        assert_eq!(sizes, [BATCH_EVENTS, 1]);
    }

    #[test]
    fn bad_json_is_named_by_file_line_and_column() {
        let error = batches("{}\n{\"a\":}\n").next().expect_err("line 2 is bad");
        assert_eq!(error.to_string(), "events.ndjson:2:6: not JSON: expected value");
    }
}
