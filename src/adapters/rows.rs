//! What the two file adapters share: how events become rows, and where a path comes from.
//! Not here: how bytes get into a file.

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::ports::Rows;

use crate::formats::Shape;
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
        let mut bytes = Vec::new();
        let mut lengths = Vec::with_capacity(events.len());
        for event in events {
            let start = bytes.len();
            self.row(event, &mut bytes)?;
            let too_long = |_| Failure::refused(format!("event `{}` makes a row of over 4 GiB", event.id));
            lengths.push(u32::try_from(bytes.len() - start).map_err(too_long)?);
        }
        Ok(Rows { header: self.header(), bytes: bytes.into(), lengths })
    }

    fn row(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.target.format {
            FileFormat::Csv => self.shape.csv(event, self.target.line_end, out),
            FileFormat::JsonLines => {
                self.shape.json(event, out)?;
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
