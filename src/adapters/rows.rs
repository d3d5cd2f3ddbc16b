//! What the two file adapters share: how events become rows, and where a path comes from.
//! Not here: how bytes get into a file.

use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::ports::Rows;
use hms_actors::work::Row;

use crate::formats::{Records, Shape};
use crate::recipe::model::{FileFormat, FileTarget};

/// A compiled path template: the moment of the plan and the batch's `(first, last)` offset → the path.
pub type PathOf = Box<dyn Fn(Timestamp, (Offset, Offset)) -> String>;

/// The rows of one target.
pub struct RowFormat {
    shape: Shape,
    target: FileTarget,
}

impl RowFormat {
    pub fn new(shape: Shape, target: &FileTarget) -> Self {
        Self { shape, target: target.clone() }
    }

    /// See [`hms_actors::ports::FilePartner::encode`].
    pub fn encode(&self, events: &[Event]) -> Result<Rows, Failure> {
        // A plan begins with today's key; from then on its bytes are stored.
        let writer = self.shape.open(0)?;
        let (bytes, lengths) = match self.target.format {
            FileFormat::Csv => {
                let mut records = Records::new(self.target.line_end);
                let lengths = lengths(events, |event| {
                    writer.csv(event, &mut records)?;
                    Ok(records.length())
                })?;
                (records.into_bytes(), lengths)
            }
            FileFormat::JsonLines => {
                let mut bytes = Vec::new();
                let lengths = lengths(events, |event| {
                    writer.json(event, &mut bytes)?;
                    bytes.extend_from_slice(self.target.line_end.as_bytes());
                    Ok(bytes.len())
                })?;
                (bytes, lengths)
            }
        };
        Ok(Rows { header: self.header(), bytes: bytes.into(), lengths })
    }

    fn header(&self) -> Bytes {
        let mut header = Records::new(self.target.line_end);
        if self.target.header && self.target.format == FileFormat::Csv {
            self.shape.csv_header(&mut header);
        }
        header.into_bytes().into()
    }
}

/// The length of each event's row; `write` says where it ends.
fn lengths(events: &[Event], mut write: impl FnMut(&Event) -> Result<usize, Failure>) -> Result<Vec<u32>, Failure> {
    let mut start = 0;
    let mut length = |event: &Event| {
        let end = write(event)?;
        let too_long = |_| Failure::refused(format!("event `{}` makes a row of over 4 GiB", event.id));
        u32::try_from(end - std::mem::replace(&mut start, end)).map_err(too_long)
    };
    events.iter().map(&mut length).collect()
}

/// See [`hms_actors::ports::FilePartner::render`].
pub async fn render(format: Arc<RowFormat>, events: Vec<Event>) -> Result<(Vec<Row>, Rows), Failure> {
    let render = move || format.encode(&events).map(|rows| (Row::of(&events, &rows), rows));
    let rendering = tokio::task::spawn_blocking(render);
    rendering.await.map_err(|panic| Failure::node(format!("rows can't be rendered: {panic}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::model::{From, Source};
    use hms_actors::settings::{LineEnd, OnDoubt, WriteMode};

    #[test]
    fn json_lines_have_the_targets_line_end_and_no_header() {
        let feed = "f".to_owned().try_into().unwrap();
        let source =
            Source { feed, fields: None, key: None, from: From::Now, required: Vec::new(), labels: Vec::new() };
        let target = FileTarget {
            path: "/f".into(),
            format: FileFormat::JsonLines,
            header: true,
            write: WriteMode::Append,
            on_doubt: OnDoubt::Hold,
            line_end: LineEnd::CrLf,
        };
        let event = |offset| Event {
            offset,
            published: Timestamp(0),
            id: offset.to_string(),
            source: "s".into(),
            kind: "k".into(),
            subject: None,
            time: None,
            extensions: Vec::new(),
            data: Bytes::from_static(b"{\"a\":1.50}"),
        };
        let rows = RowFormat::new(Shape::new(&source, &[]), &target).encode(&[event(0), event(1)]).unwrap();
        assert!(rows.header.is_empty() && rows.bytes.ends_with(b"\r\n"));
        assert_eq!((rows.lengths.len(), rows.lengths.iter().sum::<u32>() as usize), (2, rows.bytes.len()));
    }
}
