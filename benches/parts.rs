//! The parts that an event passes, each alone: `cargo bench`. What the whole does, and how it is measured, is in
//! docs/performance.md.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hms_actors::event::Event;
use hms_actors::id::{FeedName, Timestamp};
use hms_actors::policy::circuit::{Circuit, CircuitMemory, CircuitSettings};
use hms_actors::policy::rate::{Rate, RateSettings};
use hms_actors::settings::LineEnd;
use hms_sync::feeds::cloudevents;
use hms_sync::formats::{Records, Shape};
use hms_sync::proof::{canonical, tree};
use hms_sync::recipe::model::{From, Source};
use serde_json::json;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const DATA: &str = r#"{"id":"e00000001","status":"Approved","amount_usd":1250000.50,"lat":37.5,"lon":-78.4,"text":"the repair of a bridge, and what it costs to the county that asked for it"}"#;

criterion_group!(parts, envelope, formats, audit, policies);
criterion_main!(parts);

fn feed() -> FeedName {
    FeedName::parse("bench").expect("a name")
}

/// A publisher's request of 1,000 events.
fn envelope(c: &mut Criterion) {
    let line = |number: usize| {
        format!(r#"{{"specversion":"1.0","id":"e{number:08}","source":"/bench","type":"bench.grant","data":{DATA}}}"#)
    };
    let body = (0..1_000).map(line).collect::<Vec<_>>().join("\n");
    let headers = [("content-type".to_owned(), b"application/x-ndjson".to_vec())];
    let mut group = c.benchmark_group("envelope");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1,000 events of NDJSON", |b| {
        b.iter(|| cloudevents::read(&feed(), &headers, black_box(body.as_bytes())).expect("good events"));
    });
    group.finish();
}

/// Projection and renaming of an event, as JSON and as a CSV row.
fn formats(c: &mut Criterion) {
    let fields = ["id", "status", "amount_usd", "lat", "lon"].map(str::to_owned).to_vec();
    let source = Source {
        feed: feed(),
        fields: Some(fields),
        key: None,
        from: From::Now,
        required: Vec::new(),
        labels: Vec::new(),
    };
    let shape = Shape::new(&source, &[("amount_usd".to_owned(), "amt".to_owned())]);
    let writer = shape.open(0).expect("nothing is protected");
    let event = Event {
        offset: 1,
        published: NOW,
        id: "e00000001".to_owned(),
        source: "/bench".into(),
        kind: "bench.grant".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: DATA.as_bytes().to_vec().into(),
    };
    let mut out = Vec::new();
    c.bench_function("an event to JSON", |b| {
        b.iter(|| {
            out.clear();
            writer.json(black_box(&event), &mut out).expect("a good event");
        });
    });
    c.bench_function("an event to CSV", |b| {
        b.iter(|| {
            let mut rows = Records::new(LineEnd::Lf);
            writer.csv(black_box(&event), &mut rows).expect("a good event");
            rows
        });
    });
}

/// A record's line in canonical form, and its place in the tree.
fn audit(c: &mut Criterion) {
    let hash = "5b".repeat(32);
    let record = json!({
        "seq": 41, "time": "2026-11-30T12:00:00.000Z", "kind": "delivered", "recipe": "vdot.bridge_grant.sync",
        "target": "vdot_gis", "feed": "grants.bridge_repair.updated", "event_id": "e00000001", "offset": 1, "attempt": 1,
        "payload_sha256": hash,
        "receipt": {"status": 200, "url": "https://gis.vdot.gov/api/bridge", "response_sha256": hash, "duration_ms": 7,
            "idempotency_key": "vdot.bridge_grant.sync/vdot_gis/e00000001"},
    });
    c.bench_function("a record's canonical line", |b| {
        b.iter(|| canonical::to_vec(black_box(&record)).expect("whole numbers"));
    });
    let line = canonical::to_vec(&record).expect("whole numbers");
    let mut edge = tree::Edge::default();
    c.bench_function("a record into the tree", |b| b.iter(|| edge.push(tree::leaf(black_box(&line)))));
}

/// What is asked before an attempt, and told after it.
fn policies(c: &mut Criterion) {
    let mut circuit = Circuit::restore(CircuitSettings::default(), CircuitMemory::default(), 0);
    c.bench_function("an attempt past the circuit", |b| {
        b.iter(|| {
            circuit.look(NOW);
            black_box(circuit.room(NOW));
            let (permit, _) = circuit.begin(NOW);
            circuit.succeeded(permit, NOW)
        });
    });
    let many = NonZeroU32::MAX;
    let rate = Rate::restore(RateSettings { count: many, per: Duration::from_secs(1), burst: many }, None, NOW);
    c.bench_function("a request past the rate limit", |b| b.iter(|| black_box(rate.take().is_ok())));
}
