//! The byte layout of an event in the log, and nothing about where it lies there.
//!
//! Payload of an event (integers little-endian; "text" is UTF-8 behind its length as a varint, LEB128):
//!
//! | at | what | |
//! | --- | --- | --- |
//! | 0 | u8 | kind: 1 |
//! | 1 | u8 | 1 if the request goes on in the next frame, else 0 |
//! | 2 | u32 | base: length of the segment that was synced when this was written |
//! | 6 | u64 | offset |
//! | 14 | i64 | published, ms since 1970 |
//! | 22 | text × 4 | feed, id, source, type |
//! | | text? × 2 | subject, time: varint 0 if absent, else length + 1 and the text |
//! | | varint | number of extensions, then name and value of each, as text |
//! | | rest | data |
//!
//! A heads record (kind 2) says what feeds have come to: all of them at the start of a segment, and those
//! that retention has shortened before their bytes are removed, or that leave offsets out. It is why a feed's offsets go on where
//! they were when all its events are gone, and why what was removed stays removed.
//!
//! | at | what | |
//! | --- | --- | --- |
//! | 0 | u8 | kind: 2 |
//! | 1 | u32 | base, as above |
//! | 5 | u32 | number of feeds |
//! | 9 | | for each: name as text, next offset u64, oldest kept offset u64 |

use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::id::{FeedName, Offset, Timestamp};

use super::NewEvent;
use super::draft::Draft;

const EVENT: u8 = 1;
const HEADS: u8 = 2;
/// Bytes of an event's payload before its first text.
const FIXED: usize = 22;

/// What the log adds to an event when it takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub more: bool,
    pub base: u32,
    pub offset: Offset,
    pub published: Timestamp,
}

/// An event's payload, read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View<'a> {
    pub stamp: Stamp,
    pub feed: &'a str,
    pub id: &'a str,
    pub source: &'a str,
    pub kind: &'a str,
    pub subject: Option<&'a str>,
    pub time: Option<&'a str>,
    pub extensions: Vec<(&'a str, &'a str)>,
    pub data: &'a [u8],
}

/// What a feed has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub feed: FeedName,
    pub next: Offset,
    pub oldest: Offset,
}

/// Appends the payload of an event that has no stamp yet.
pub(super) fn put(out: &mut Vec<u8>, feed: &FeedName, event: &Draft<'_>) {
    let mut head = [0; FIXED];
    head[0] = EVENT;
    out.extend_from_slice(&head);
    for text in [feed.as_str(), &event.id, &event.source, &event.kind] {
        put_text(out, text);
    }
    for text in [&event.subject, &event.time] {
        put_optional(out, text.as_deref());
    }
    put_varint(out, event.extensions.len() as u64);
    for (name, value) in &event.extensions {
        put_text(out, name);
        put_text(out, value);
    }
    out.extend_from_slice(&event.data);
}

/// The payload of an event that has no stamp yet.
#[cfg(any(test, feature = "fuzzed"))]
pub(super) fn encode(feed: &FeedName, event: &NewEvent) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, feed, &event.into());
    out
}

/// Writes the stamp into an encoded payload.
pub(super) fn stamp(payload: &mut [u8], stamp: Stamp) {
    payload[1] = u8::from(stamp.more);
    payload[2..6].copy_from_slice(&stamp.base.to_le_bytes());
    payload[6..14].copy_from_slice(&stamp.offset.to_le_bytes());
    payload[14..22].copy_from_slice(&stamp.published.0.to_le_bytes());
}

/// Reads an event's payload; `None` if it is not one.
pub(super) fn decode(payload: &[u8]) -> Option<View<'_>> {
    let mut rest = Cursor(payload);
    if rest.u8()? != EVENT {
        return None;
    }
    let more = match rest.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let stamp = Stamp { more, base: rest.u32()?, offset: rest.u64()?, published: Timestamp(rest.u64()? as i64) };
    let (feed, id, source, kind) = (rest.text()?, rest.text()?, rest.text()?, rest.text()?);
    let (subject, time) = (rest.optional()?, rest.optional()?);
    let count = rest.varint()?;
    let mut extensions = Vec::new();
    for _ in 0..count {
        extensions.push((rest.text()?, rest.text()?));
    }
    Some(View { stamp, feed, id, source, kind, subject, time, extensions, data: rest.0 })
}

/// The id of an event, without looking at the rest.
pub(super) fn id_of(payload: &[u8]) -> Option<&str> {
    let mut rest = Cursor(payload.get(FIXED..)?);
    let feed = rest.varint()?;
    rest.take(usize::try_from(feed).ok()?)?;
    rest.text()
}

impl View<'_> {
    /// A copy of its own, as its publisher gave it.
    pub fn to_new(&self) -> NewEvent {
        let Event { id, source, kind, subject, time, extensions, data, .. } = self.to_event(None);
        NewEvent { id, source: (*source).to_owned(), kind: (*kind).to_owned(), subject, time, extensions, data }
    }

    /// A copy of its own: one event kept must not keep a whole read buffer. Of the event `before` it shares what is alike.
    pub fn to_event(&self, before: Option<&Event>) -> Event {
        let shared = |text: &str, of: fn(&Event) -> &Arc<str>| match before.map(of) {
            Some(known) if **known == *text => known.clone(),
            _ => text.into(),
        };
        Event {
            offset: self.stamp.offset,
            published: self.stamp.published,
            id: self.id.to_owned(),
            source: shared(self.source, |event| &event.source),
            kind: shared(self.kind, |event| &event.kind),
            subject: self.subject.map(str::to_owned),
            time: self.time.map(str::to_owned),
            extensions: self.extensions.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            data: Bytes::copy_from_slice(self.data),
        }
    }
}

/// The payload of a heads record.
pub(super) fn encode_heads(base: u32, heads: &[Head]) -> Vec<u8> {
    let mut out = vec![HEADS];
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&(heads.len() as u32).to_le_bytes());
    for head in heads {
        put_text(&mut out, head.feed.as_str());
        out.extend_from_slice(&head.next.to_le_bytes());
        out.extend_from_slice(&head.oldest.to_le_bytes());
    }
    out
}

/// Reads a heads record; `None` if it is not one.
pub(super) fn decode_heads(payload: &[u8]) -> Option<Vec<Head>> {
    let mut rest = Cursor(payload);
    if rest.u8()? != HEADS {
        return None;
    }
    let (_base, count) = (rest.u32()?, rest.u32()?);
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push(Head { feed: FeedName::parse(rest.text()?).ok()?, next: rest.u64()?, oldest: rest.u64()? });
    }
    rest.0.is_empty().then_some(heads)
}

/// How much of the segment had been synced when this record was written.
pub(super) fn base_of(payload: &[u8]) -> Option<u32> {
    let mut rest = Cursor(payload);
    match rest.u8()? {
        EVENT => rest.take(1).and_then(|_| rest.u32()),
        HEADS => rest.u32(),
        _ => None,
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    put_varint(out, text.map_or(0, |text| text.len() as u64 + 1));
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// Takes typed values off the front of bytes; `None` where they end too early or make no sense.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    fn text_of(&mut self, length: u64) -> Option<&'a str> {
        std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()
    }
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.varint()?;
        self.text_of(length)
    }
    fn optional(&mut self) -> Option<Option<&'a str>> {
        match self.varint()? {
            0 => Some(None),
            length => self.text_of(length - 1).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = NewEvent> {
        let optional = || proptest::option::of(".{0,200}");
        let extensions = proptest::collection::vec(("[a-z]{1,8}", ".{0,20}"), 0..4);
        (".{1,200}", ".{0,20}", ".{0,20}", optional(), optional(), extensions, ".{0,400}").prop_map(
            |(id, source, kind, subject, time, extensions, data)| NewEvent {
                id,
                source,
                kind,
                subject,
                time,
                extensions,
                data: data.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn an_event_is_read_back_as_it_was_written(
            event in event(), name in "[a-z0-9][a-z0-9._-]{0,127}",
            more: bool, base: u32, offset: u64, published: i64,
        ) {
            let feed = FeedName::parse(&name).unwrap();
            let put = Stamp { more, base, offset, published: Timestamp(published) };
            let mut payload = encode(&feed, &event);
            stamp(&mut payload, put);
            let view = decode(&payload).unwrap();
            prop_assert_eq!((view.stamp, view.feed), (put, name.as_str()));
            let read = view.to_event(None);
            prop_assert_eq!((read.offset, read.published), (offset, Timestamp(published)));
            let read = NewEvent {
                id: read.id, source: (*read.source).to_owned(), kind: (*read.kind).to_owned(), subject: read.subject,
                time: read.time, extensions: read.extensions, data: read.data,
            };
            prop_assert_eq!(read, event);
        }

        #[test]
        fn heads_are_read_back_as_they_were_written(heads in proptest::collection::vec(("[a-z0-9]{1,20}", any::<u64>(), any::<u64>()), 0..20)) {
            let heads: Vec<Head> = heads
                .into_iter()
                .map(|(name, next, oldest)| Head { feed: FeedName::parse(&name).unwrap(), next, oldest })
                .collect();
            prop_assert_eq!(decode_heads(&encode_heads(7, &heads)), Some(heads));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode_heads(&bytes);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let event = NewEvent {
            id: "7".into(),
            source: "s".into(),
            kind: "t".into(),
            subject: Some(String::new()),
            time: None,
            extensions: vec![("a".into(), "b".into())],
            data: "{}".into(),
        };
        let mut payload = encode(&FeedName::parse("f").unwrap(), &event);
        stamp(&mut payload, Stamp { more: true, base: 2, offset: 3, published: Timestamp(4) });
        let mut expected = vec![1, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(b"\x01f\x017\x01s\x01t\x01\x00\x01\x01a\x01b{}");
        assert_eq!(payload, expected);
    }
}
