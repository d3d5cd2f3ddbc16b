//! Records of deliveries, written straight in the canonical form of RFC 8785. Nearly all of the audit is made of them, so
//! no record is built for one, and what the events of one request share is written once and then copied.
//! What they say is `record.rs`'s affair: a property holds these bytes to those that it would give.

use std::ops::Range;

use hms_actors::event::EventRef;
use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, TargetKey};
use hms_actors::receipt::{Receipt, Transport};

use crate::proof::canonical::{hex, text, whole};

/// One delivery, as its entry has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered<'a> {
    pub feed: &'a FeedName,
    pub event: &'a EventRef,
    pub attempt: u32,
    pub payload_sha256: &'a [u8; 32],
    pub receipt: &'a Receipt,
    pub letter: Option<u64>,
}

/// Writes the lines of one commit.
pub(super) struct Lines<'a> {
    target: &'a TargetKey,
    /// As it stands in a record.
    time: &'a str,
    /// The delivery before, and where its payload and its receipt stand.
    before: Option<(Delivered<'a>, Range<usize>)>,
}

impl<'a> Lines<'a> {
    pub fn new(target: &'a TargetKey, time: &'a str) -> Self {
        Self { target, time, before: None }
    }

    /// Adds the line of a delivery, with its newline; nothing if it can't be written. `out` only ever grows.
    pub fn add(&mut self, seq: u64, delivered: Delivered<'a>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let start = out.len();
        self.write(seq, delivered, out).inspect_err(|_| out.truncate(start))
    }

    /// Names are sorted, and names of feeds, recipes and targets need no escape.
    fn write(&mut self, seq: u64, delivered: Delivered<'a>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Delivered { feed, event, attempt, payload_sha256, receipt, letter } = delivered;
        out.extend_from_slice(b"{\"attempt\":");
        whole(u64::from(attempt), out)?;
        if let Some(letter) = letter {
            out.extend_from_slice(b",\"dead_letter\":");
            whole(letter, out)?;
        }
        out.extend_from_slice(b",\"event_id\":");
        text(&event.id, out);
        out.extend_from_slice(b",\"feed\":\"");
        out.extend_from_slice(feed.as_str().as_bytes());
        out.extend_from_slice(b"\",\"kind\":\"delivered\",\"offset\":");
        whole(event.offset, out)?;
        let from = out.len();
        match &self.before {
            Some((before, at)) if before.payload_sha256 == payload_sha256 && before.receipt == receipt => {
                out.extend_from_within(at.clone());
            }
            _ => {
                out.extend_from_slice(b",\"payload_sha256\":");
                hex(payload_sha256, out);
                out.extend_from_slice(b",\"receipt\":");
                proof(receipt, out)?;
            }
        }
        self.before = Some((delivered, from..out.len()));
        out.extend_from_slice(b",\"recipe\":\"");
        out.extend_from_slice(self.target.recipe.as_str().as_bytes());
        out.extend_from_slice(b"\",\"seq\":");
        whole(seq, out)?;
        out.extend_from_slice(b",\"target\":\"");
        out.extend_from_slice(self.target.target.as_str().as_bytes());
        out.extend_from_slice(b"\",\"time\":\"");
        out.extend_from_slice(self.time.as_bytes());
        out.extend_from_slice(b"\"}\n");
        Ok(())
    }
}

fn proof(receipt: &Receipt, out: &mut Vec<u8>) -> Result<(), Failure> {
    match receipt {
        Receipt::Rest { status, url, idempotency_key, response_sha256, duration_ms, transport } => {
            out.extend_from_slice(b"{\"duration_ms\":");
            whole(*duration_ms, out)?;
            out.extend_from_slice(b",\"idempotency_key\":");
            text(idempotency_key, out);
            out.extend_from_slice(b",\"response_sha256\":");
            hex(response_sha256, out);
            out.extend_from_slice(b",\"status\":");
            whole(u64::from(*status), out)?;
            agreed(transport.as_ref(), out);
            out.extend_from_slice(b",\"url\":");
            text(url, out);
            out.push(b'}');
        }
        Receipt::File { path, file_offset, length, fsync, transport } => {
            out.extend_from_slice(b"{\"file_offset\":");
            whole(*file_offset, out)?;
            if !fsync {
                out.extend_from_slice(b",\"fsync\":false");
            }
            out.extend_from_slice(b",\"length\":");
            whole(*length, out)?;
            out.extend_from_slice(b",\"path\":");
            text(path, out);
            agreed(transport.as_ref(), out);
            out.push(b'}');
        }
        Receipt::Operator => out.extend_from_slice(b"\"operator\""),
    }
    Ok(())
}

fn agreed(transport: Option<&Transport>, out: &mut Vec<u8>) {
    if let Some(transport) = transport {
        out.extend_from_slice(b",\"transport\":{");
        text(transport.protocol, out);
        out.push(b':');
        text(&transport.algorithms, out);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::canonical;
    use crate::store::record::{Body, Record, rfc3339};
    use hms_actors::id::{RecipeId, TargetName, Timestamp};
    use hms_actors::receipt::Entry;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    /// Few of each, so that neighbours are often alike; some with numbers that no record can hold.
    fn receipt() -> impl Strategy<Value = Receipt> {
        let sha = any::<bool>().prop_map(|which| [u8::from(which); 32]);
        let number = prop_oneof![9 => 0..3u64, 1 => any::<u64>()];
        let transport = "[a\"]{0,2}".prop_map(|text| Transport { protocol: "ssh", algorithms: text.into() });
        let transport = option::of(transport);
        let (url, id) = ("[a\"\u{1f}é]{0,2}", "[k\\\\\u{1f600}]{0,2}");
        let rest = (200..202u16, url, id, sha, number.clone(), transport.clone());
        prop_oneof![
            rest.prop_map(|(status, url, idempotency_key, response_sha256, duration_ms, transport)| Receipt::Rest {
                status,
                url: url.into(),
                idempotency_key: idempotency_key.into(),
                response_sha256,
                duration_ms,
                transport
            }),
            ("/[a\n\u{7f}]?", number.clone(), number, any::<bool>(), transport).prop_map(
                |(path, file_offset, length, fsync, transport)| Receipt::File {
                    path: path.into(),
                    file_offset,
                    length,
                    fsync,
                    transport
                }
            ),
            Just(Receipt::Operator),
        ]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let event = (prop_oneof![9 => 0..200u64, 1 => any::<u64>()], ".{0,4}");
        let event = event.prop_map(|(offset, id)| EventRef { offset, id });
        let sha = any::<bool>().prop_map(|which| [u8::from(which); 32]);
        (event, any::<u32>(), sha, receipt(), option::of(0..9u64)).prop_map(
            |(event, attempt, payload_sha256, receipt, letter)| Entry::Delivered {
                event,
                attempt,
                payload_sha256,
                receipt,
                letter,
            },
        )
    }

    proptest! {
        #[test]
        fn a_line_is_the_canonical_form_of_its_record(entries in vec(entry(), 1..12), time in 0..4_102_444_800_000i64) {
            let target = TargetKey {
                recipe: RecipeId::parse("r.sync").unwrap(),
                target: TargetName::parse("gis").unwrap(),
            };
            let feed = FeedName::parse("grants").unwrap();
            let time = Timestamp(time);
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            let stamp = rfc3339::text(time).unwrap();
            let mut lines = Lines::new(&target, &stamp);
            for (seq, entry) in entries.iter().enumerate() {
                let seq = seq as u64;
                let Entry::Delivered { event, attempt, payload_sha256, receipt, letter } = entry else { unreachable!() };
                let (attempt, letter) = (*attempt, *letter);
                let delivered = Delivered { feed: &feed, event, attempt, payload_sha256, receipt, letter };
                let added = lines.add(seq, delivered, &mut written);
                let record = canonical::to_vec(&Record { seq, time, body: Body::of(entry, &target, &feed, 0) });
                prop_assert_eq!(added.is_ok(), record.is_ok());
                if let Ok(record) = record {
                    expected.extend(record);
                    expected.push(b'\n');
                }
                prop_assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&expected));
            }
        }
    }
}
