//! What is fuzzed here: publishers' requests, and what stands in the feeds' journal (see src/fuzzed.rs).

use hms_actors::id::{FeedName, Timestamp};
use serde_json::value::RawValue;

use super::frame::{self, Condition, Tail};
use super::json::{self, MAX_DEPTH};
use super::record::{self, Stamp};
use super::{NewEvent, cloudevents};

/// Beyond this a frame more shows nothing new.
const LARGEST: usize = 64 << 10;

fn feed() -> FeedName {
    FeedName::parse("grants").expect("a name")
}

/// A request, as it goes over the wire: lines `name: value`, an empty line, the body. Each event that is taken stands in
/// the journal as it was sent, and is the same when it is sent again as a structured event.
pub(crate) fn publish(bytes: &[u8]) {
    let (head, body) = split(bytes);
    let Ok(events) = cloudevents::read(&feed(), &headers(head), body) else { return };
    for event in events.to_events() {
        assert!((1..=256).contains(&event.id.len()) && !event.id.contains(|c: char| c.is_control()), "{event:?}");
        assert_eq!(json::kind(&event.data), "an object");
        assert_eq!(json::compact(&event.data, MAX_DEPTH).as_deref(), Ok(&*event.data));
        let payload = record::encode(&feed(), &event);
        let view = record::decode(&payload).expect("a payload that was just written");
        assert_eq!(view.to_new(), event);
        let type_of = [("content-type".to_owned(), b"application/cloudevents+json".to_vec())];
        let again = cloudevents::read(&feed(), &type_of, structured(&event).as_bytes());
        assert_eq!(again.map(|again| again.to_events()).map_err(|error| error.to_string()), Ok(vec![event]));
    }
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    end.map_or((bytes, &[]), |end| (&bytes[..end], &bytes[end + 2..]))
}

fn headers(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines = head.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        let value = line[colon + 1..].trim_ascii();
        // Nothing else gets through the server.
        let sound = name.starts_with("ce-") || name == "content-type";
        (sound && value.iter().all(|byte| *byte >= b' ' && *byte != 127)).then(|| (name, value.to_vec()))
    });
    lines.collect()
}

fn structured(event: &NewEvent) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let mut members = vec![("specversion", text("1.0")), ("id", text(&event.id)), ("source", text(&event.source))];
    members.push(("type", text(&event.kind)));
    members.extend(event.subject.iter().map(|subject| ("subject", text(subject))));
    members.extend(event.time.iter().map(|time| ("time", text(time))));
    members.extend(event.extensions.iter().map(|(name, value)| (name.as_str(), text(value))));
    let data: &RawValue = serde_json::from_slice(&event.data).expect("data that was taken is JSON");
    members.push(("data", data.get().to_owned()));
    let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// Bytes as a segment, as what follows a good header, and as a payload: frames that are found lie in the bytes and apart,
/// and a payload that is read is read again the same.
pub(crate) fn frames(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(LARGEST)];
    segment(bytes);
    segment(&[&frame::header(3), bytes].concat());
    payload(bytes);
    if !bytes.is_empty() {
        let mut file = frame::header(3).to_vec();
        frame::put(&mut file, bytes);
        let scan = frame::scan(&file, 3, Tail::Synced);
        assert_eq!((scan.frames.len(), scan.state), (1, Condition::Whole));
        assert_eq!(frame::payload_of(&file, scan.frames[0]), bytes);
    }
}

fn segment(bytes: &[u8]) {
    for tail in [Tail::MayBeTorn, Tail::Synced] {
        let mut scan = frame::scan(bytes, 3, tail);
        scan.expect(bytes, 3, bytes.len() as u64 / 2);
        let mut end = 0;
        for &found in &scan.frames {
            assert!(found.at >= end && found.at + found.length <= bytes.len(), "{found:?}");
            end = found.at + found.length;
            payload(frame::payload_of(bytes, found));
        }
    }
}

fn payload(bytes: &[u8]) {
    if let Some(heads) = record::decode_heads(bytes) {
        let base = record::base_of(bytes).expect("a heads record has one");
        assert_eq!(record::decode_heads(&record::encode_heads(base, &heads)), Some(heads));
    }
    let Some(view) = record::decode(bytes) else { return };
    let Ok(feed) = FeedName::parse(view.feed) else { return };
    let mut again = record::encode(&feed, &view.to_new());
    let Stamp { more, base, offset, published: Timestamp(published) } = view.stamp;
    record::stamp(&mut again, Stamp { more, base, offset, published: Timestamp(published) });
    assert_eq!(record::decode(&again), Some(view));
}
