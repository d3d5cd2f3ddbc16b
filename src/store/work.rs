//! How begun work and dead letters' copies of events are stored as values of a keyed journal (`keyed.rs`).
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | 1 = units of requests, 3 = event, 4 = file work |
//! | 4 | length of the JSON, little-endian |
//! | n | JSON: the units; the event without its data; the file work without the plan's rows and bytes |
//! | rest | raw: nothing; the event's data; the plan's rows, then its bytes |
//!
//! Rows, their numbers little-endian: 4 bytes that say how many there are, and for each
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | offset of its event |
//! | 8 | when that was published, ms since 1970 |
//! | 4 | length in the plan's bytes |
//! | 4 + n | the event's id behind its length |
//!
//! In older journals there is file work of kind 2, with its rows in the JSON. It is read and not written any more.
//!
//! The moment at which a rate limit's bucket is full again is its milliseconds alone: 8 bytes, little-endian.

use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Timestamp};
use hms_actors::work::{FileWork, Plan, Row, Unit, Work};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keyed::Value;

const REQUESTS: u8 = 1;
const FILE_BEFORE: u8 = 2;
const EVENT: u8 = 3;
const FILE: u8 = 4;
const HEAD: usize = 5;
/// A row without its id.
const ROW: usize = 24;

pub(super) fn encode_work(work: &Work) -> Result<Value, Failure> {
    match work {
        Work::Requests(units) => encode(REQUESTS, units, b"").map(Value::from),
        Work::File(file) => {
            let plan = Plan { bytes: Bytes::new(), rows: Arc::default(), ..file.plan.clone() };
            let mut head = encode(FILE, &FileWork { plan, ready: file.ready }, b"")?;
            encode_rows(&file.plan.rows, &mut head)?;
            Ok(Value { head, bulk: file.plan.bytes.clone() })
        }
    }
}

pub(super) fn decode_work(value: Vec<u8>) -> Result<Work, Failure> {
    match value.first() {
        Some(&REQUESTS) => decode::<Vec<Unit>>(value).map(|(units, _)| Work::Requests(units)),
        Some(&kind) if matches!(kind, FILE | FILE_BEFORE) => {
            let (mut file, mut bytes) = decode::<FileWork>(value)?;
            if kind == FILE {
                file.plan.rows = decode_rows(&mut bytes).ok_or_else(|| unreadable("cut off"))?.into();
            }
            file.plan.bytes = bytes;
            file.plan.hash_rows();
            Ok(Work::File(Box::new(file)))
        }
        _ => Err(unreadable("not begun work")),
    }
}

fn encode_rows(rows: &[Row], out: &mut Vec<u8>) -> Result<(), Failure> {
    let count = |length: usize| u32::try_from(length).map(u32::to_le_bytes).map_err(|_| unreadable("over 4 GiB"));
    out.reserve(4 + rows.iter().map(|row| ROW + row.id.len()).sum::<usize>());
    out.extend_from_slice(&count(rows.len())?);
    for Row { offset, id, published, length, sha256: _ } in rows {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&published.0.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&count(id.len())?);
        out.extend_from_slice(id.as_bytes());
    }
    Ok(())
}

/// Takes the rows off the front.
fn decode_rows(bytes: &mut Bytes) -> Option<Vec<Row>> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, later) = rest.split_first_chunk()?;
        *rest = later;
        Some(*taken)
    }
    let mut rest = &bytes[..];
    let count = u32::from_le_bytes(take(&mut rest)?);
    let mut rows = Vec::new();
    for _ in 0..count {
        let offset = u64::from_le_bytes(take(&mut rest)?);
        let published = Timestamp(i64::from_le_bytes(take(&mut rest)?));
        let length = u32::from_le_bytes(take(&mut rest)?);
        let end = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (id, later) = rest.split_at_checked(end)?;
        rest = later;
        rows.push(Row { offset, id: String::from_utf8(id.to_vec()).ok()?, published, length, sha256: [0; 32] });
    }
    *bytes = bytes.slice(bytes.len() - rest.len()..);
    Some(rows)
}

pub(super) fn encode_moment(moment: Timestamp) -> Vec<u8> {
    moment.0.to_le_bytes().to_vec()
}

pub(super) fn decode_moment(value: Vec<u8>) -> Option<Timestamp> {
    value.try_into().ok().map(|bytes| Timestamp(i64::from_le_bytes(bytes)))
}

/// How many events the work holds: each will get a record.
pub(super) fn events(work: &Work) -> u64 {
    match work {
        Work::Requests(units) => units.iter().map(|unit| unit.offsets.len() as u64).sum(),
        Work::File(file) => file.plan.rows.len() as u64,
    }
}

/// An event without its data.
#[derive(Serialize, Deserialize)]
struct Attributes {
    offset: Offset,
    published: Timestamp,
    id: String,
    source: Arc<str>,
    kind: Arc<str>,
    subject: Option<String>,
    time: Option<String>,
    extensions: Vec<(String, String)>,
}

pub(super) fn encode_event(event: &Event) -> Result<Vec<u8>, Failure> {
    let Event { offset, published, id, source, kind, subject, time, extensions, data } = event.clone();
    encode(EVENT, &Attributes { offset, published, id, source, kind, subject, time, extensions }, &data)
}

pub(super) fn decode_event(value: Vec<u8>) -> Result<Event, Failure> {
    if value.first() != Some(&EVENT) {
        return Err(unreadable("not an event"));
    }
    let (attributes, data) = decode::<Attributes>(value)?;
    let Attributes { offset, published, id, source, kind, subject, time, extensions } = attributes;
    Ok(Event { offset, published, id, source, kind, subject, time, extensions, data })
}

fn encode(kind: u8, head: &impl Serialize, raw: &[u8]) -> Result<Vec<u8>, Failure> {
    let json = serde_json::to_vec(head).map_err(|e| unreadable(&e.to_string()))?;
    let length = u32::try_from(json.len()).map_err(|_| unreadable("over 4 GiB"))?;
    let mut value = Vec::with_capacity(HEAD + json.len() + raw.len());
    value.push(kind);
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(&json);
    value.extend_from_slice(raw);
    Ok(value)
}

fn decode<T: DeserializeOwned>(value: Vec<u8>) -> Result<(T, Bytes), Failure> {
    let value = Bytes::from(value);
    let length = value.get(1..HEAD).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let end = length.map(|length| HEAD + length as usize).filter(|&end| end <= value.len());
    let end = end.ok_or_else(|| unreadable("cut off"))?;
    let head = serde_json::from_slice(&value[HEAD..end]).map_err(|e| unreadable(&e.to_string()))?;
    Ok((head, value.slice(end..)))
}

fn unreadable(why: &str) -> Failure {
    Failure::node(format!("a stored value can't be read or written: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hms_actors::work::Place;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (any::<u64>(), ".{0,20}", any::<i64>(), any::<u32>());
        let row = row.prop_map(|(offset, id, at, length)| Row {
            offset,
            id,
            published: Timestamp(at),
            length: length % 700,
            sha256: [0; 32],
        });
        vec(row, 0..5)
    }

    prop_compose! {
        fn plan()(host in ".{0,9}", path in ".{0,9}", anchor: [u8; 32], bytes in vec(any::<u8>(), 0..3000), rows in rows(),
                  numbers: (u16, u32, u64, u32), new_file: bool, at: i64, letter: Option<u64>) -> Plan {
            let place = Place { host, port: numbers.0, user: "sync".into(), path };
            let (revision, file_offset, lead) = (numbers.1, numbers.2, numbers.3 % 700);
            let mut plan = Plan { place, revision, planned_at: Timestamp(at), file_offset, new_file, anchor, bytes: bytes.into(), lead, rows: rows.into(), letter };
            plan.hash_rows();
            plan
        }
    }

    fn work() -> impl Strategy<Value = Work> {
        // Ascending, many of them neighbours.
        let offsets = btree_set(prop_oneof![9 => 0..20u64, 1 => any::<u64>()], 0..9);
        let offsets = offsets.prop_map(|offsets| offsets.into_iter().collect());
        let unit = (any::<u32>(), offsets, any::<Option<u64>>(), any::<u32>());
        let unit = unit.prop_map(|(revision, offsets, letter, seal)| Unit { revision, offsets, letter, seal });
        prop_oneof![
            vec(unit, 0..5).prop_map(Work::Requests),
            (plan(), any::<bool>()).prop_map(|(plan, ready)| Work::File(Box::new(FileWork { plan, ready }))),
        ]
    }

    #[test]
    fn units_of_neighbours_take_little_room_and_those_that_name_each_offset_are_read_too() {
        let unit = |offsets: &[u64]| Unit { revision: 1, offsets: offsets.into(), letter: None, seal: 0 };
        let work = Work::Requests(vec![unit(&[4, 5, 6, 9]), unit(&[7])]);
        let stored = |json: &[u8]| [&[REQUESTS][..], &(json.len() as u32).to_le_bytes(), json].concat();
        let json = br#"[{"revision":1,"offsets":[[4,6],9]},{"revision":1,"offsets":[7]}]"#;
        assert_eq!(Vec::from(encode_work(&work).unwrap()), stored(json));
        let json = br#"[{"revision":1,"offsets":[4,5,6,9]},{"revision":1,"offsets":[7]}]"#;
        assert_eq!(decode_work(stored(json)).unwrap(), work);
        let json = br#"[{"revision":1,"offsets":[[6,4]]}]"#;
        assert!(decode_work(stored(json)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn work_comes_back_as_it_was(work in work()) {
            prop_assert_eq!(decode_work(encode_work(&work).unwrap().into()).unwrap(), work);
        }

        #[test]
        fn an_event_comes_back_as_it_was(ids in (any::<u64>(), any::<i64>()), texts in (".*", ".*", ".*"),
                                         subject: Option<String>, time: Option<String>,
                                         extensions in vec((".*", ".*"), 0..3), data in vec(any::<u8>(), 0..300)) {
            let (id, source, kind) = texts;
            let (offset, published) = (ids.0, Timestamp(ids.1));
            let (source, kind) = (source.into(), kind.into());
            let event = Event { offset, published, id, source, kind, subject, time, extensions, data: data.into() };
            prop_assert_eq!(decode_event(encode_event(&event).unwrap()).unwrap(), event);
        }

        #[test]
        fn work_that_is_cut_off_is_an_error(work in plan(), cut in 0.0..1.0) {
            let whole = FileWork { plan: Plan { bytes: Bytes::new(), ..work }, ready: false };
            let mut value = Vec::from(encode_work(&Work::File(Box::new(whole))).unwrap());
            value.truncate((value.len() as f64 * cut) as usize);
            prop_assert!(decode_work(value).is_err());
        }

        #[test]
        fn bytes_that_are_no_value_are_an_error(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(decode_work(bytes.clone()).is_err());
            prop_assert!(decode_event(bytes).is_err());
        }
    }

    /// As a version before this one wrote it.
    #[test]
    fn file_work_with_its_rows_in_the_json_is_read() {
        let json = r#"{"plan":{"place":{"host":"h","port":22,"user":"u","path":"/a"},"revision":3,"planned_at":7,"file_offset":9,"new_file":false,"anchor":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"bytes":[],"lead":1,"rows":[{"offset":4,"id":"e4","published":5,"length":4},{"offset":6,"id":"e6","published":5,"length":2}]},"ready":true}"#;
        let mut value = vec![2];
        value.extend_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
        value.extend_from_slice(json.as_bytes());
        value.extend_from_slice(b"\nrow\ns\n");
        let Work::File(file) = decode_work(value).unwrap() else { panic!("it is file work") };
        assert_eq!((file.ready, file.plan.file_offset, file.plan.letter), (true, 9, None));
        let pieces: Vec<_> = file.plan.pieces().collect();
        let told: Vec<_> = pieces.iter().map(|(row, at, bytes)| (row.offset, &*row.id, *at, *bytes)).collect();
        assert_eq!(told, [(4, "e4", 10, &b"row\n"[..]), (6, "e6", 14, &b"s\n"[..])]);
        assert!(pieces.iter().all(|(row, _, bytes)| row.sha256 == <[u8; 32]>::from(Sha256::digest(bytes))));
        // From now on it is written in the other way.
        let again = Vec::from(encode_work(&Work::File(file.clone())).unwrap());
        assert_eq!((again[0], decode_work(again).unwrap()), (FILE, Work::File(file)));
    }
}
