//! What is published: events of 300 bytes, each with a key of its own.

use super::wire;

/// Bytes of an event as it is published, without the line's end.
pub const BYTES: usize = 300;
/// Events in a publisher's request.
pub const AT_ONCE: usize = 1_000;

/// The id of the n-th event.
pub fn id(number: usize) -> String {
    format!("e{number:08}")
}

pub fn number(id: &str) -> usize {
    id.trim_start_matches('e').parse().expect("an id of ours")
}

/// Its data: one flat object, so that a receiver can count events without reading them.
pub fn data(number: usize) -> String {
    let id = id(number);
    let (amount, cents) = (1_000_000 + number % 9_000_000, number % 100);
    let rest = BYTES - WITHOUT_TEXT;
    format!(
        r#"{{"id":"{id}","status":"Approved","amount_usd":{amount}.{cents:02},"lat":37.5,"lon":-78.4,"text":"{:.<rest$}"}}"#,
        "the repair of a bridge "
    )
}

/// What an event has besides its text.
const WITHOUT_TEXT: usize = 180;

/// As it is published.
pub fn line(number: usize) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{}","source":"/bench","type":"bench.grant","data":{}}}"#,
        id(number),
        data(number)
    )
}

/// Requests for the events from `first` on, with so many in each.
pub fn requests(feed: &str, first: usize, count: usize, at_once: usize) -> Vec<Vec<u8>> {
    let path = format!("/v1/feeds/{feed}/events");
    let request = |from: usize| {
        let lines: Vec<String> = (from..(first + count).min(from + at_once)).map(line).collect();
        wire::post(&path, "application/x-ndjson", lines.join("\n").as_bytes())
    };
    (first..first + count).step_by(at_once).map(request).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_300_bytes_and_one_object_in_its_data() {
        for number in [0, 1, 99_999_999] {
            assert_eq!(line(number).len(), BYTES, "{}", line(number));
            assert_eq!(data(number).matches('{').count(), 1);
            serde_json::from_str::<serde_json::Value>(&line(number)).expect("JSON");
        }
    }
}
