//! Tests of the store as a whole, on real files.

mod disk;
mod journals;
mod ledger;
mod pruning;
mod recovery;
mod standing;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::{Event, EventRef};
use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::{FeedName, Offset, RecipeId, TargetKey, TargetName, Timestamp};
use hms_actors::ports::{Clock, Ledger};
use hms_actors::receipt::{Cause, Entry, Receipt, Transport};
use serde_json::Value;

use super::*;

const SMALL: Sizes = Sizes { segment: 2000, garbage: 2000, reserve: 1 << 20 };

/// 2026-11-03T10:00:00Z, always.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_793_700_000_000)
    }
}

pub fn clock() -> SharedClock {
    Arc::new(Still)
}

fn try_open(data: &Path) -> Result<Arc<Store>, Failure> {
    Store::open_with(data, clock(), SMALL)
}

pub fn open(data: &Path) -> Arc<Store> {
    try_open(data).unwrap()
}

fn recipe_id(name: &str) -> RecipeId {
    RecipeId::parse(name).unwrap()
}

pub fn key(target: &str) -> TargetKey {
    TargetKey { recipe: recipe_id("r.sync"), target: TargetName::parse(target).unwrap() }
}

/// A revision of `r.sync` with these targets, all starting at 0.
pub fn applied(revision: u32, targets: &[&str]) -> RecipeChange {
    let targets = targets.iter().map(|name| {
        let (name, from) = name.split_once('<').map_or((*name, None), |(name, from)| (name, Some(from)));
        let renamed_from = from.map(|from| TargetName::parse(from).unwrap());
        AppliedTarget { target: TargetName::parse(name).unwrap(), revision, start: 0, renamed_from }
    });
    let applied = Applied {
        revision,
        feed: FeedName::parse("grants").unwrap(),
        text: format!("id: r.sync # {revision}\n"),
        targets: targets.collect(),
    };
    change(Change::Applied(applied))
}

fn change(change: Change) -> RecipeChange {
    RecipeChange { recipe: recipe_id("r.sync"), by: "ops".to_owned(), change }
}

#[test]
fn a_few_entries_are_stored_as_a_map_is() {
    let map = std::collections::BTreeMap::from([(1, "one"), (10, "ten")]);
    let mut few = hms_actors::few::Few::default();
    map.iter().rev().for_each(|(number, name)| few.insert(*number, *name));
    let stored = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::to_string(&few).unwrap(), stored);
    assert_eq!(serde_json::from_str::<hms_actors::few::Few<i32, &str>>(&stored).unwrap(), few);
}

async fn with_targets(data: &Path, targets: &[&str]) -> Arc<Store> {
    let store = open(data);
    store.recipe_changed(applied(1, targets)).await.unwrap();
    store
}

fn event(offset: Offset) -> EventRef {
    EventRef { offset, id: format!("e{offset}") }
}

fn whole_event(offset: Offset) -> Event {
    Event {
        offset,
        published: Timestamp(7),
        id: format!("e{offset}"),
        source: "/test".into(),
        kind: "updated".into(),
        subject: Some("s".to_owned()),
        time: None,
        extensions: vec![("traceparent".to_owned(), "00-1".to_owned())],
        data: Bytes::from_static(b"{\"amount\":1250.10}"),
    }
}

pub fn delivered(offset: Offset) -> Entry {
    let (path, file_offset) = ("/inbox/a.csv".into(), offset * 10);
    let receipt = Receipt::File { path, file_offset, length: 10, fsync: true, transport: None };
    Entry::Delivered { event: event(offset), attempt: 1, payload_sha256: [1; 32], receipt, letter: None }
}

fn dead(offset: Offset) -> Entry {
    let event = Box::new(whole_event(offset));
    Entry::DeadLettered { event, attempt: 3, reason: "refused".to_owned(), may_have_arrived: false, cause: None }
}

fn failed(offset: Offset) -> Entry {
    let (kind, error) = (FailureKind::Transient, "connection refused".to_owned());
    Entry::AttemptFailed {
        event: event(offset),
        events: 1,
        attempt: 2,
        payload_sha256: None,
        kind,
        error,
        may_have_arrived: false,
        retry_after: None,
        letter: None,
    }
}

fn ticket(cause: Cause, attempts: u32) -> Entry {
    let (reason, last_error) = ("down".to_owned(), format!("error {attempts}"));
    Entry::TicketOpened { cause, reason, attempts, backlog: 9, last_error }
}

fn resolved(ticket: u64) -> Entry {
    Entry::TicketResolved { ticket, action: "resolve", by: None, note: Some("ok".to_owned()) }
}

/// Every line of the audit, parsed.
fn audit(store: &Store) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let lines = store.read_lines(all.len() as u64, 7).unwrap();
        if lines.is_empty() {
            return all;
        }
        for (seq, line) in lines {
            assert_eq!(seq, all.len() as u64);
            all.push(serde_json::from_slice(&line).unwrap());
        }
    }
}

fn kinds(store: &Store) -> Vec<String> {
    audit(store).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
}

/// What may be compared: not what the cache lacks.
fn facts(store: &Store) -> State {
    State { changed: Default::default(), ..store.core.state().clone() }
}
