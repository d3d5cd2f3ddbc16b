//! What is fuzzed here: what stands on the store's disk (see src/fuzzed.rs).

use super::keyed;
use super::record::Record;
use super::snapshot;
use super::state::{Row, State};
use super::work;
use crate::proof::canonical;

/// Bytes as lines of the audit, as begun work, as an event's copy, as a journal of values, as a row of the cache, and as a
/// snapshot: refused, or what is read is read again the same.
pub(crate) fn records(bytes: &[u8]) {
    audit(bytes);
    values(bytes);
    journal(bytes);
    row(bytes);
    snapshot(bytes);
}

/// The records that the node itself could have written are taken into account, whatever they say.
fn audit(bytes: &[u8]) {
    let mut state = State::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
        let Ok(written) = canonical::to_vec(&record) else { continue };
        let again: Record = serde_json::from_slice(&written).expect("a record that was just written");
        assert_eq!(again, record);
        assert_eq!(canonical::to_vec(&again).ok(), Some(written));
        state.apply(&record);
    }
    for (row, value) in state.take_changes() {
        let Some(value) = value else { continue };
        let mut other = State::default();
        other.put_row(row.clone(), &value).expect("a row that was just written");
        assert_eq!(other.row(&row), Some(value));
    }
}

fn values(bytes: &[u8]) {
    if let Ok(work) = work::decode_work(bytes.to_vec()) {
        // Room is reserved by it.
        let _ = work::events(&work);
        let again = work::encode_work(&work).and_then(|value| work::decode_work(value.into()));
        assert_eq!(again.ok(), Some(work));
    }
    if let Ok(event) = work::decode_event(bytes.to_vec()) {
        let again = work::encode_event(&event).and_then(work::decode_event);
        assert_eq!(again.ok(), Some(event));
    }
    if let Some(moment) = work::decode_moment(bytes.to_vec()) {
        assert_eq!(work::encode_moment(moment), bytes);
    }
}

/// Frames never reach beyond the bytes, and one that was written is found.
fn journal(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let left = rest.len() as u64;
        let Ok(Some(frame)) = keyed::read_frame(&mut rest, left) else { break };
        assert_eq!(frame.length(), left - rest.len() as u64);
    }
    let mut file = Vec::new();
    keyed::push_frame(&mut file, 0, 7, Some(bytes));
    let length = file.len() as u64;
    let frame = keyed::read_frame(&mut &file[..], length).ok().flatten().expect("a frame that was just written");
    assert_eq!(frame.length(), length);
}

/// First line: the row's name; the rest: its JSON.
fn row(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == b'\n');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
    let Ok(row) = serde_json::from_slice::<Row>(name) else { return };
    let mut state = State::default();
    if state.put_row(row.clone(), value).is_err() {
        return;
    }
    let written = state.row(&row).expect("a row that was just put in");
    let mut again = State::default();
    again.put_row(row.clone(), &written).expect("a row that was just written");
    assert_eq!(again.row(&row), Some(written));
}

/// What was moved out is not invented: a snapshot that is taken is written the same.
fn snapshot(bytes: &[u8]) {
    let Ok((edge, state)) = snapshot::parse(bytes) else { return };
    let mut written = Vec::new();
    snapshot::encode(&edge, &state, &mut written).expect("memory takes it");
    let (edge_again, state_again) = snapshot::parse(&written).expect("a snapshot that was just written");
    assert_eq!(edge_again, edge);
    let rows = |state: &State| state.rows().map(|row| (row.clone(), state.row(&row))).collect::<Vec<_>>();
    assert_eq!(rows(&state_again), rows(&state));
}
