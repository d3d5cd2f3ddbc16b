//! The judge by itself: worlds made by hand, one kept and many broken, each in one way. A judge that can't fail is
//! worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::proof::sha256;
use super::*;

const KEYS: [(&str, &str); 4] = [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")];

fn body(id: &str) -> String {
    format!(r#"{{"id":"{id}"}}"#)
}

fn request(id: &str) -> Request {
    Request { key: Some(format!("r/t/{id}")), event: Some(id.into()), body: body(id).into(), effect: true }
}

fn delivered(offset: usize, id: &str, bytes: &str, receipt: Value) -> Value {
    json!({"kind": "delivered", "recipe": "r", "target": "t", "event_id": id, "offset": offset,
           "payload_sha256": sha256(bytes.as_bytes()), "receipt": receipt})
}

fn world(target: Target, audit: Vec<Value>) -> World {
    let event = |(offset, (id, key)): (u64, (&str, &str))| Acknowledged { id: id.into(), offset, key: key.into() };
    let mut world = World {
        acknowledged: (0..).zip(KEYS).map(event).collect(),
        targets: vec![target],
        audit,
        circuits: Some(vec![json!({"recipe": "r", "target": "t", "state": "closed"})]),
        unsettled: Vec::new(),
    };
    number(&mut world);
    world
}

fn number(world: &mut World) {
    for (seq, record) in (0u64..).zip(&mut world.audit) {
        record["seq"] = seq.into();
    }
}

fn target(guarantee: Guarantee, evidence: Evidence) -> Target {
    Target { backlog: Some(0), ..Target::new("r", "t", guarantee, evidence) }
}

/// Four events over REST, delivered once.
fn requests() -> World {
    let receipt = |id: &str| json!({"idempotency_key": format!("r/t/{id}")});
    let record = |(offset, (id, _)): (usize, (&str, _))| delivered(offset, id, &body(id), receipt(id));
    let evidence = Evidence::Requests(KEYS.iter().map(|(id, _)| request(id)).collect());
    let audit = KEYS.into_iter().enumerate().map(record).collect();
    world(target(Guarantee::EffectivelyOnce, evidence), audit)
}

/// Four rows in a file, of which the partner took the first two away.
fn rows() -> World {
    let row = |id: &str| format!("{id},1\n");
    let record = |(place, (offset, (id, _))): (usize, (usize, (&str, _)))| {
        delivered(offset, id, &row(id), json!({"path": "/f", "file_offset": 5 * place, "length": 5}))
    };
    let copy =
        |ids: [&str; 2]| FileCopy { path: "/f".into(), bytes: ids.map(row).concat().into(), ..FileCopy::default() };
    let evidence = Evidence::Files(vec![copy(["a1", "b1"]), copy(["a2", "b2"])]);
    let audit = [0, 1, 0, 1].into_iter().zip(KEYS.into_iter().enumerate()).map(record).collect();
    world(target(Guarantee::ExactlyOnce, evidence), audit)
}

fn log(world: &mut World) -> &mut Vec<Request> {
    let Evidence::Requests(requests) = &mut world.targets[0].evidence else { panic!("a world of requests") };
    requests
}

fn copies(world: &mut World) -> &mut Vec<FileCopy> {
    let Evidence::Files(copies) = &mut world.targets[0].evidence else { panic!("a world of files") };
    copies
}

/// The world with one thing changed.
fn but(mut world: World, change: impl FnOnce(&mut World)) -> World {
    change(&mut world);
    number(&mut world);
    world
}

#[track_caller]
fn expect(world: &World, rule: Rule, words: &str) {
    let found = judge(world);
    let named = found.iter().any(|violation| violation.rule == rule && violation.what.contains(words));
    assert!(named, "no violation of {rule:?} with {words:?} in {found:#?}");
}

#[track_caller]
fn expect_kept(world: &World) {
    assert_eq!(judge(world), []);
}

#[test]
fn kept_promises_are_found_kept() {
    expect_kept(&requests());
    expect_kept(&rows());
}

#[test]
fn an_event_that_is_nowhere_is_lost() {
    expect(&but(requests(), |world| drop((world.audit.pop(), log(world).pop()))), Rule::Lost, "b2 was acknowledged");
    expect(&but(rows(), |world| copies(world)[1].bytes.truncate(5)), Rule::Lost, "b2 has a receipt");
    expect(&but(requests(), |world| log(world)[1].effect = false), Rule::Lost, "b1 has a receipt");
}

#[test]
fn an_event_that_took_effect_twice_is_named() {
    expect(&but(rows(), |world| copies(world)[0].bytes.extend(b"b1,1\n")), Rule::Twice, "b1 took effect 2 times");
    let again = Request { key: Some("another".into()), ..request("b1") };
    expect(&but(requests(), |world| log(world).insert(2, again)), Rule::Twice, "b1 took effect 2 times");
    let repeated = |world: &mut World| log(world).insert(2, request("b1"));
    expect_kept(&but(requests(), repeated));
    let ignored = |world: &mut World| {
        world.targets[0].guarantee = Guarantee::AtLeastOnce;
        repeated(world);
    };
    expect_kept(&but(requests(), ignored));
}

#[test]
fn what_nobody_published_is_named() {
    expect(&but(rows(), |world| copies(world)[1].bytes.extend(b"x,1\n")), Rule::Invented, "\"x\" is there");
    expect(&but(requests(), |world| log(world).push(request("x"))), Rule::Invented, "\"x\" is there");
}

#[test]
fn torn_and_overwritten_rows_are_named() {
    expect(&but(rows(), |world| copies(world)[1].bytes.truncate(7)), Rule::Invented, "torn");
    let grown = |world: &mut World| {
        let whole = [b"a1,1\nb1,1\n".as_slice(), &copies(world)[1].bytes].concat();
        copies(world)[1] = FileCopy { path: "/f".into(), bytes: whole, seen: 10, foreign: Vec::new() };
        for (record, offset) in world.audit[2..].iter_mut().zip([10, 15]) {
            record["receipt"]["file_offset"] = offset.into();
        }
    };
    expect_kept(&but(rows(), grown));
    let overwritten = but(but(rows(), grown), |world| copies(world)[1].bytes[0] = b'X');
    expect(&overwritten, Rule::Invented, "overwritten");
}

#[test]
fn a_row_of_somebody_else_must_stay() {
    let shared = |world: &mut World| {
        copies(world)[0].bytes.extend(b"theirs\n");
        copies(world)[0].foreign = vec!["theirs".into()];
    };
    expect_kept(&but(rows(), shared));
    expect(
        &but(but(rows(), shared), |world| copies(world)[0].bytes.truncate(10)),
        Rule::Invented,
        "\"theirs\" is gone",
    );
}

#[test]
fn a_later_event_before_an_earlier_one_is_named() {
    expect(&but(requests(), |world| log(world).swap(0, 2)), Rule::Order, "a1 came after a2");
    expect_kept(&but(requests(), |world| log(world).swap(0, 1)));
    expect(&but(rows(), |world| copies(world).swap(0, 1)), Rule::Order, "a1 came after b2");
}

#[test]
fn an_old_event_that_is_repeated_over_a_newer_one_is_named() {
    let late = but(requests(), |world| {
        world.targets[0].guarantee = Guarantee::AtLeastOnce;
        log(world).push(request("a1"));
    });
    expect(&late, Rule::Order, "a1 came after a2");
}

#[test]
fn a_batch_that_comes_again_as_a_whole_is_in_order_and_one_that_is_mixed_up_is_not() {
    let batch = |ids: [&str; 2]| Request {
        key: Some("r/t/0-2".into()),
        event: None,
        body: format!("[{},{}]", body(ids[0]), body(ids[1])).into(),
        effect: true,
    };
    let target = |requests| target(Guarantee::AtLeastOnce, Evidence::Requests(requests));
    let order = |requests| {
        let world = world(target(requests), Vec::new());
        judge(&world).into_iter().filter(|violation| violation.rule == Rule::Order).count()
    };
    assert_eq!(order(vec![batch(["a1", "a2"]), batch(["a1", "a2"])]), 0);
    assert_eq!(order(vec![batch(["a2", "a1"])]), 1);
    assert_eq!(order(vec![batch(["a1", "a2"]), request("a1")]), 1);
}

#[test]
fn another_body_under_the_same_key_is_named_also_when_it_was_refused() {
    let other = Request { body: b"{}".to_vec(), effect: false, ..request("a1") };
    expect(&but(requests(), |world| log(world).insert(0, other)), Rule::Key, "r/t/a1 came with two");
    expect(&but(requests(), |world| log(world)[0].key = None), Rule::Key, "no idempotency key");
}

#[test]
fn a_gap_in_the_audit_is_named() {
    let mut gap = requests();
    gap.audit.remove(1);
    expect(&gap, Rule::Proof, "record 1 has seq 2");
}

#[test]
fn missing_second_and_false_receipts_are_named() {
    expect(&but(requests(), |world| drop(world.audit.pop())), Rule::Proof, "b2 arrived and has no receipt");
    expect(&but(requests(), |world| world.audit.push(world.audit[0].clone())), Rule::Proof, "a1 has two");
    let false_hash = |world: &mut World| world.audit[0]["payload_sha256"] = json!(sha256(b"other"));
    expect(&but(requests(), false_hash), Rule::Proof, "a1 is not of bytes");
    expect(&but(rows(), false_hash), Rule::Proof, "a1 is not of bytes");
    expect(
        &but(rows(), |world| world.audit[0]["receipt"]["file_offset"] = json!(5)),
        Rule::Proof,
        "a1 is not of bytes",
    );
    expect(
        &but(requests(), |world| world.audit[0]["receipt"]["idempotency_key"] = json!("r/t/b1")),
        Rule::Proof,
        "a1 is not",
    );
    expect(&but(requests(), |world| world.audit[0]["event_id"] = json!("b1")), Rule::Proof, "promised another event");
}

#[test]
fn the_records_of_a_renamed_target_are_its_own() {
    let renamed = |world: &mut World| {
        world.audit[0]["target"] = json!("old");
        world.targets[0].formerly = Some("old".into());
    };
    expect_kept(&but(requests(), renamed));
    let strange = |world: &mut World| world.targets[0].formerly = None;
    expect(&but(but(requests(), renamed), strange), Rule::Proof, "a1 arrived and has no receipt");
}

#[test]
fn an_event_that_waits_must_be_in_the_backlog() {
    let waits = |world: &mut World| {
        world.audit.pop();
        log(world).pop();
        world.targets[0].expected.may_wait = true;
        world.targets[0].backlog = Some(1);
    };
    expect_kept(&but(requests(), waits));
    expect(&but(but(requests(), waits), |world| world.targets[0].backlog = Some(0)), Rule::InSight, "the node says 0");
}

/// `b1` is refused and a dead letter.
fn refused(world: &mut World) {
    log(world)[1].effect = false;
    world.audit[1]["kind"] = json!("dead_lettered");
    world.audit[1]["may_have_arrived"] = json!(false);
    world.targets[0].expected.dead = BTreeSet::from(["b1".to_owned()]);
}

#[test]
fn dead_letters_are_those_of_the_scenario_and_did_not_arrive() {
    expect_kept(&but(requests(), refused));
    expect(&but(but(requests(), refused), |world| log(world)[1].effect = true), Rule::InSight, "b1 is a dead letter");
    let nobody = |world: &mut World| world.targets[0].expected.dead.clear();
    expect(&but(but(requests(), refused), nobody), Rule::InSight, "b1 was made a dead letter");
    let two = |world: &mut World| world.targets[0].expected.dead = BTreeSet::from(["a1".to_owned()]);
    expect(&but(requests(), two), Rule::InSight, "a1 is no dead letter");
}

#[test]
fn a_dead_letter_that_is_replayed_is_out_of_order_by_right_and_never_dies_after_its_delivery() {
    let replayed = |world: &mut World| {
        let receipt = world.audit[0].clone();
        world.audit[0]["kind"] = json!("dead_lettered");
        world.audit.push(receipt);
        let late = log(world).remove(0);
        log(world).push(late);
    };
    expect_kept(&but(requests(), replayed));
    let other_way = but(but(requests(), replayed), |world| world.audit.swap(0, 4));
    expect(&other_way, Rule::InSight, "a1 was delivered, and then");
}

fn circuit(to: &str) -> Value {
    json!({"kind": "circuit", "recipe": "r", "target": "t", "to": to})
}

fn moved(states: &[&str], expected: Circuit) -> World {
    but(requests(), |world| {
        world.audit.extend(states.iter().map(|state| circuit(state)));
        let last = states.last().copied().unwrap_or("closed");
        world.circuits = Some(vec![json!({"recipe": "r", "target": "t", "state": last})]);
        world.targets[0].expected.circuit = expected;
    })
}

#[test]
fn what_never_ends_is_named() {
    expect(&but(requests(), |world| world.unsettled.push("it waits".into())), Rule::InSight, "it waits");
}

#[test]
fn circuits_move_only_as_they_may() {
    expect_kept(&moved(&["open", "half_open", "open", "half_open", "closed"], Circuit::Recovered));
    expect_kept(&moved(&["forced_open", "closed"], Circuit::Closed));
    expect_kept(&moved(&["open", "half_open", "half_open", "closed"], Circuit::Recovered));
    expect(&moved(&["half_open", "closed"], Circuit::Closed), Rule::Circuit, "from closed to \"half_open\"");
    expect(&moved(&["open", "ajar"], Circuit::Open), Rule::Circuit, "from open to \"ajar\"");
}

#[test]
fn circuits_end_as_the_scenario_says_and_the_endpoint_shows_it() {
    expect(&moved(&["open"], Circuit::Closed), Rule::Circuit, "should be closed at the end");
    expect(&moved(&["open", "half_open", "closed"], Circuit::Undisturbed), Rule::Circuit, "never anything but closed");
    expect(&moved(&[], Circuit::Recovered), Rule::Circuit, "open once");
    expect(&moved(&[], Circuit::Open), Rule::Circuit, "open at the end");
    let shows = |world: &mut World| world.circuits = Some(vec![]);
    expect(&but(requests(), shows), Rule::Circuit, "the endpoint shows nothing");
    expect(&moved(&[], Circuit::Gone), Rule::Circuit, "the endpoint shows closed");
}

fn ticket(kind: &str, number: u64, cause: &str) -> Value {
    json!({"kind": kind, "recipe": "r", "target": "t", "number": number, "cause": cause})
}

fn tickets(records: &[(&str, u64, &str)], expected: &[(&str, usize)]) -> World {
    but(requests(), |world| {
        world.audit.extend(records.iter().map(|(kind, number, cause)| ticket(kind, *number, cause)));
        let expected = expected.iter().map(|(cause, count)| ((*cause).to_owned(), *count));
        world.targets[0].expected.tickets = Some(expected.collect::<BTreeMap<_, _>>());
    })
}

#[test]
fn an_incident_has_one_ticket_which_closes_with_it() {
    let (opened, resolved) = ("ticket_opened", "ticket_resolved");
    let once = [(opened, 1, "outage"), (opened, 1, "outage"), (resolved, 1, "outage")];
    expect_kept(&tickets(&once, &[("outage", 1)]));
    expect(&tickets(&once[..2], &[("outage", 1)]), Rule::Ticket, "outage ticket 1 is still open");
    expect(&tickets(&once, &[]), Rule::Ticket, "1 outage tickets were opened for 0");
    expect(&tickets(&once, &[("outage", 2)]), Rule::Ticket, "1 outage tickets were opened for 2");
    expect(&tickets(&[(opened, 1, "outage"), (opened, 2, "outage")], &[]), Rule::Ticket, "two outage tickets");
    expect(&tickets(&[(resolved, 1, "outage")], &[]), Rule::Ticket, "was not open");
}

#[test]
fn a_batch_is_as_many_events_as_its_body_holds() {
    let ids = |body: &str| arrivals::ids_of(&Request { body: body.into(), ..Request::default() });
    assert_eq!(ids(r#"[{"id":"a1"},{"id":"b1"}]"#), ["a1", "b1"]);
    assert_eq!(ids("{\"id\":\"a1\"}\n{\"id\":\"b1\"}\n"), ["a1", "b1"]);
}
