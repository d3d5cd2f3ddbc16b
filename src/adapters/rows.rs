//! What the two file adapters share: how events become rows, and where a path comes from.
//! Not here: how bytes get into a file.

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::ports::Rows;

use crate::formats::{Shape, Writer};
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
        let mut bytes = Vec::new();
        let mut lengths = Vec::with_capacity(events.len());
        for event in events {
            let start = bytes.len();
            self.row(&writer, event, &mut bytes)?;
            let too_long = |_| Failure::refused(format!("event `{}` makes a row of over 4 GiB", event.id));
            lengths.push(u32::try_from(bytes.len() - start).map_err(too_long)?);
        }
        Ok(Rows { header: self.header(), bytes: bytes.into(), lengths })
    }

    fn row(&self, writer: &Writer<'_>, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.target.format {
            FileFormat::Csv => writer.csv(event, self.target.line_end, out),
            FileFormat::JsonLines => {
                writer.json(event, out)?;
                out.extend_from_slice(self.target.line_end.as_bytes());
                Ok(())
            }
        }
    }

    fn header(&self) -> Bytes {
        let mut header = Vec::new();
        if self.target.header && self.target.format == FileFormat::Csv {
            self.shape.csv_header(self.target.line_end, &mut header);
        }
        header.into()
    }
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
