//! Many small recipes, each with a feed of its own, and one sink for all of them.

use std::collections::HashMap;
use std::ops::Range;

use super::events;
use super::results::Row;
use super::sink::{Sink, wait_for};
use super::stage::Stage;
use super::wire::{self, Wire};
use super::witness::{self, Witness};
use crate::judge::Acknowledged;

/// Clients that apply at once.
const HANDS: usize = 4;

pub fn feed(number: usize) -> String {
    format!("feed.n{number}")
}

pub fn id(number: usize) -> String {
    format!("bench.n{number}.sync")
}

pub fn recipe(number: usize, sink: &Sink, targets: usize) -> String {
    let (id, feed) = (id(number), feed(number));
    let target = |target: usize| {
        let url = sink.url_of(number, &format!("/n{number}/t{target}"));
        format!(
            "  - name: t{target}\n    adapter: rest\n    url: {url}\n    idempotency: honoured\n    timeout: 300s\n"
        )
    };
    let targets: String = (0..targets).map(target).collect();
    format!("id: {id}\nsource:\n  feed: {feed}\n  from: beginning\ntargets:\n{targets}schedule: on_change\n")
}

pub fn apply(stage: &Stage, numbers: Range<usize>, sink: &Sink, targets: usize) {
    let address = stage.node.port().address();
    std::thread::scope(|scope| {
        for hand in 0..HANDS {
            let mine = numbers.clone().skip(hand).step_by(HANDS);
            scope.spawn(move || {
                let mut wire = Wire::connect(address);
                for number in mine {
                    let path = format!("/v1/recipes/{}", id(number));
                    let recipe = recipe(number, sink, targets);
                    let request = wire::put(&path, "application/yaml", recipe.as_bytes());
                    let (status, body) = wire.send(&request).expect("the node answers");
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                }
            });
        }
    });
}

/// So many events for each feed; their numbers say whose they are.
pub fn requests(numbers: Range<usize>, each: usize) -> Vec<Vec<u8>> {
    numbers.flat_map(|number| events::requests(&feed(number), number * each, each, events::AT_ONCE)).collect()
}

pub fn publish(stage: &Stage, numbers: Range<usize>, each: usize) {
    stage.publish(&requests(numbers, each), HANDS);
}

/// Waits until these recipes have delivered all that was published, which was for no others.
pub fn drained(stage: &Stage, numbers: Range<usize>, sink: &Sink, targets: usize) {
    wait_for(&[sink], (stage.acknowledged().len() * targets) as u64);
    numbers.for_each(|number| stage.settled(&id(number), &[]));
}

pub fn judged(row: &mut Row, stage: &Stage, numbers: Range<usize>, each: usize, sink: &Sink, targets: usize) {
    let acknowledged = by_feed(stage.acknowledged(), each);
    let mut evidence = witness::requests_by_path(sink);
    let mut witness = |number: usize, target: usize| {
        let evidence = evidence.remove(&format!("/n{number}/t{target}")).expect("something came for it");
        let acknowledged = acknowledged.get(&number).cloned().unwrap_or_default();
        Witness::new(&id(number), &format!("t{target}"), evidence, acknowledged)
    };
    let pairs = numbers.flat_map(|number| (0..targets).map(move |target| (number, target)));
    let witnesses: Vec<Witness> = pairs.map(|(number, target)| witness(number, target)).collect();
    witness::judge(row, stage, witnesses);
}

/// The number of an event says which feed it is of.
fn by_feed(acknowledged: Vec<Acknowledged>, each: usize) -> HashMap<usize, Vec<Acknowledged>> {
    let mut by_feed: HashMap<usize, Vec<Acknowledged>> = HashMap::new();
    for event in acknowledged {
        by_feed.entry(events::number(&event.id) / each).or_default().push(event);
    }
    by_feed
}
