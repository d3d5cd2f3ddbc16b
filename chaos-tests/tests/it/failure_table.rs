//! The table "Failures" of docs/delivery.md, row by row: what a real partner does, and what is then seen from outside
//! of circuit, ticket, dead letter, audit and the event behind. Then everything is mended, and each row must be
//! well again by itself. The rows of a table run side by side, each with a recipe of its own, in one node.

mod files;
mod seen;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use chaos_tests::authority::Authority;
use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::proxy::{Fault, Proxy, Towards};
use chaos_tests::wait;

use seen::{FIRST, Outside, SECOND, Seen};

/// Small enough to be quick, and all different, so that none can be taken for another.
const RETRIES: usize = 2;
const FAILURES: usize = 3;
const CIRCUIT: &str = "{failures: 3, open_for: 100ms, max_open_for: 400ms}";

/// More attempts than any number in a recipe: what has not happened by then does not happen.
const MANY: usize = 8;

/// What the partner's behaviour means: the rows of the promises.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Means {
    Success,
    /// The partner is out of order.
    Transient(Arrival),
    /// It asks for time.
    Throttled,
    /// Ours or theirs to mend.
    Configuration,
    /// This event is refused.
    Refused,
}

use Means::{Configuration, Refused, Success, Throttled, Transient};

/// Whether the request may have had its effect.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arrival {
    Never,
    Maybe,
}

use Arrival::{Maybe, Never};

impl Means {
    /// What must be seen while it lasts.
    fn promises(self) -> Seen {
        let failures = |kind: &str| [kind.to_owned()].into();
        let ticket = |cause: &str, after: usize| Some((cause.to_owned(), after));
        let waits = Seen {
            failures: Default::default(),
            may_have_arrived: false,
            opened_after: None,
            is_open: false,
            ticket: None,
            dead_after: None,
            first_is_delivered: false,
            second_is_delivered: false,
        };
        match self {
            Success => Seen { first_is_delivered: true, second_is_delivered: true, ..waits },
            Transient(arrival) => Seen {
                failures: failures("transient"),
                may_have_arrived: arrival == Maybe,
                opened_after: Some(FAILURES),
                is_open: true,
                ticket: ticket("outage", RETRIES),
                ..waits
            },
            // Asking for time is no failure, unless it goes on: from then on it counts as one.
            Throttled => Seen {
                failures: failures("throttled"),
                opened_after: Some(FAILURES + FAILURES),
                is_open: true,
                ticket: ticket("outage", FAILURES + RETRIES),
                ..waits
            },
            Configuration => Seen {
                failures: failures("configuration"),
                opened_after: Some(1),
                is_open: true,
                ticket: ticket("configuration", 1),
                ..waits
            },
            Refused => Seen {
                failures: failures("refused"),
                ticket: ticket("refused", RETRIES),
                dead_after: Some(RETRIES as u64),
                second_is_delivered: true,
                ..waits
            },
        }
    }

    /// Failed attempts after which it can be judged.
    fn enough(self) -> usize {
        match self {
            Success => 0,
            Refused => RETRIES,
            Transient(_) | Throttled | Configuration => MANY,
        }
    }
}

/// The name of each row, which is that of its recipe and its target, and what it means.
type Rows = BTreeMap<String, Means>;

/// Publishes two events, waits until each row is as it must be, mends, and waits until each is well again.
fn holds(node: &Node, rows: &Rows, mend: impl FnOnce()) {
    node.publish(FEED, FIRST, r#"{"id":"first","amount":1250.10}"#);
    node.publish(FEED, SECOND, r#"{"id":"second","amount":1250.10,"late":true}"#);
    each(node, rows, "while it lasts", |outside, name, means| {
        let failed = outside.records(name, "attempt_failed").len();
        let (seen, promised) = (outside.seen(name), means.promises());
        (failed < means.enough() || seen != promised).then(|| format!("{seen:#?} after {failed} attempts"))
    });
    mend();
    each(node, rows, "after it was mended", is_well);
    let refused: Vec<_> = rows.iter().filter(|(_, means)| **means == Refused).map(|(name, _)| name).collect();
    for name in refused {
        let outside = Outside::look(node);
        let number = outside.letters(name)[0]["number"].to_string();
        node.cli(["dlq", "replay", &number]).ok();
    }
    let outside = Outside::look(node);
    for name in rows.keys() {
        assert!(outside.letters(name).is_empty(), "{name}: {:?}", outside.letters(name));
        assert!(outside.seen(name).first_is_delivered, "{name}");
        let open: Vec<_> = outside.tickets(name).into_iter().filter(|ticket| ticket["state"] == "open").collect();
        assert!(open.is_empty(), "{name}: {open:#?}");
        for id in [FIRST, SECOND] {
            let receipts = outside.records(name, "delivered").iter().filter(|record| record["event_id"] == id).count();
            assert_eq!(receipts, 1, "{name}: receipts of {id}");
        }
    }
}

/// Delivered but for dead letters, the circuit closed, the ticket too, with the time that it took.
fn is_well(outside: &Outside, name: &str, means: Means) -> Option<String> {
    let seen = outside.seen(name);
    let is_dead = seen.dead_after.is_some();
    let delivered = seen.second_is_delivered && (seen.first_is_delivered || (means == Refused && is_dead));
    let tickets = outside.tickets(name);
    let closed = |ticket: &&serde_json::Value| {
        ticket["state"] == "resolved" && ticket["note"].as_str().is_some_and(|note| note.contains("after"))
    };
    let tickets_fit = match means {
        Success => tickets.is_empty(),
        Refused => tickets.len() == 1 && tickets[0]["state"] == "open",
        _ => tickets.len() == 1 && tickets.iter().all(closed),
    };
    let is_well = delivered && !seen.is_open && tickets_fit && is_dead == (means == Refused);
    (!is_well).then(|| format!("{seen:#?}\n{tickets:#?}\n{}", outside.circuit(name)))
}

/// Waits until nothing is wrong with any row.
#[track_caller]
fn each(node: &Node, rows: &Rows, when: &str, wrong: impl Fn(&Outside, &str, Means) -> Option<String>) {
    let mut last = Vec::new();
    let fine = wait::within(wait::DEADLINE, || {
        let outside = Outside::look(node);
        let say = |(name, means): (&String, &Means)| {
            wrong(&outside, name, *means).map(|what| format!("{name} ({means:?}) {when}: {what}"))
        };
        last = rows.iter().filter_map(say).collect();
        last.is_empty().then_some(())
    });
    assert!(fine.is_some(), "{}", last.join("\n"));
}

const FEED: &str = "grants";

fn recipe(name: &str, target: &str) -> String {
    format!(
        "id: {name}\nsource:\n  feed: {FEED}\n  fields: [id, amount]\ntargets:\n  - name: {name}\n{target}    \
         circuit: {CIRCUIT}\nschedule: on_change\nretries: {RETRIES}\n"
    )
}

fn rest(name: &str, url: &str) -> String {
    let more = "    concurrency: 1\n    timeout: 1s\n";
    recipe(name, &format!("    adapter: rest\n    url: {url}\n{more}"))
}

/// What one HTTP partner does with the requests of each row; the rest is answered with 200.
type Orders = Arc<Mutex<BTreeMap<String, (Answer, Means)>>>;

/// Which row a request belongs to is in its key.
fn partner_with(orders: &Orders) -> HttpPartner {
    let (partner, orders) = (HttpPartner::plain(), orders.clone());
    partner.rule(move |request| {
        let row = request.key().and_then(|key| key.split('/').next()).unwrap_or_default();
        match orders.lock().expect("no holder panics").get(row) {
            // A refusal is one event's, everything else is the partner's.
            Some((_, Refused)) if request.event() != Some(FIRST) => Answer::Status(200),
            Some((answer, _)) => answer.clone(),
            None => Answer::Status(200),
        }
    });
    partner
}

#[test]
fn each_answer_of_a_rest_partner_has_its_meaning() {
    let retry_after = |status| Answer::retry_after(status, 1);
    let retry_at = |status| Answer::retry_at(status, SystemTime::now() + Duration::from_secs(2));
    let redirect = |status| Answer::WithHeader(status, "location", "/elsewhere".to_owned());
    let mut answers = vec![
        ("moved_301", redirect(301), Configuration),
        ("moved_307", redirect(307), Configuration),
        ("throttled_429", Answer::Status(429), Throttled),
        ("throttled_429_seconds", retry_after(429), Throttled),
        ("throttled_429_date", retry_at(429), Throttled),
        ("throttled_503_seconds", retry_after(503), Throttled),
        ("throttled_503_date", retry_at(503), Throttled),
        ("nonsense_999", Answer::Status(999), Transient(Never)),
        ("nonsense_600", Answer::Status(600), Transient(Never)),
        ("lost_reply", Answer::Close, Transient(Maybe)),
        ("reset_before", Answer::Reset { effect: false }, Transient(Maybe)),
        ("reset_after", Answer::Reset { effect: true }, Transient(Maybe)),
        ("silent_before", Answer::Hang { effect: false }, Transient(Maybe)),
        ("silent_after", Answer::Hang { effect: true }, Transient(Maybe)),
        ("endless_503", Answer::Tarpit(503, Duration::from_millis(50)), Transient(Never)),
        // Its status has said it: the body only stands in the receipt, as far as it came in time.
        ("endless_200", Answer::Tarpit(200, Duration::from_millis(50)), Success),
    ];
    let mut status = |statuses: &[u16], means: Means| {
        for &status in statuses {
            let name: &'static str = format!("status_{status}").leak();
            answers.push((name, Answer::Status(status), means));
        }
    };
    status(&[200, 201, 204], Success);
    status(&[401, 403, 404, 410], Configuration);
    status(&[400, 409, 413, 415, 422], Refused);
    status(&[408, 425, 503], Transient(Never));
    status(&[500, 502, 504], Transient(Maybe));
    answers.push(("field_404", Answer::Status(404), Refused));
    answers.push(("field_410", Answer::Status(410), Refused));

    let (mut node, orders) = (Node::new(), Orders::default());
    let partner = partner_with(&orders);
    node.start();
    let mut rows = Rows::new();
    for (name, answer, means) in answers {
        let path = if name.starts_with("field") { format!("/{{id}}/{name}") } else { format!("/{name}") };
        node.apply(&rest(name, &partner.url(&path)));
        orders.lock().expect("no holder panics").insert(name.to_owned(), (answer, means));
        rows.insert(name.to_owned(), means);
    }
    holds(&node, &rows, || orders.lock().expect("no holder panics").clear());
    assert!(partner.received().iter().all(|request| !request.path.contains("elsewhere")), "a redirect was followed");
    for name in rows.keys() {
        for id in [FIRST, SECOND] {
            let key = format!("{name}/{name}/{id}");
            let effects = partner.effects().iter().filter(|request| request.key() == Some(&key)).count();
            assert_eq!(effects, 1, "effects of {key}");
        }
    }
}

#[test]
fn each_fault_on_the_way_to_a_rest_partner_has_its_meaning() {
    let faults = [
        ("refused", Towards::Both, Fault::Refuse, Transient(Never)),
        ("reset", Towards::Both, Fault::Reset, Transient(Maybe)),
        ("black_hole", Towards::Both, Fault::BlackHole, Transient(Maybe)),
        ("garbage", Towards::Node, Fault::Garbage { from: 0 }, Transient(Maybe)),
        ("cut_in_the_answer", Towards::Node, Fault::CutAt(9), Transient(Maybe)),
    ];
    let (mut node, partner, authority) = (Node::new(), HttpPartner::plain(), Authority::new());
    let mut wrong_name = HttpPartner::tls(authority.server("elsewhere.example"));
    let mut unknown_ca = HttpPartner::tls(Authority::new().server("unknown-ca.example"));
    node.settings(&format!(
        "connect_to:\n  wrong-name.example:443: 127.0.0.1:{}\n  unknown-ca.example:443: 127.0.0.1:{}\n\
         tls_ca_file: {}\n",
        wrong_name.port(),
        unknown_ca.port(),
        node.file("extra-roots.pem", &authority.pem()).display()
    ));
    node.start();
    let mut rows = Rows::new();
    let mut proxies = Vec::new();
    for (name, towards, fault, means) in faults {
        let proxy = Proxy::start(([127, 0, 0, 1], partner.port()).into());
        proxy.set_towards(towards, fault);
        node.apply(&rest(name, &format!("http://{}/{name}", proxy.addr())));
        proxies.push(proxy);
        rows.insert(name.to_owned(), means);
    }
    for (name, host) in [("tls_wrong_name", "wrong-name.example"), ("tls_unknown_ca", "unknown-ca.example")] {
        node.apply(&rest(name, &format!("https://{host}/{name}")));
        rows.insert(name.to_owned(), Transient(Never));
    }
    holds(&node, &rows, || {
        proxies.iter().for_each(Proxy::heal);
        wrong_name.present(authority.server("wrong-name.example"));
        unknown_ca.present(authority.server("unknown-ca.example"));
    });
}

#[test]
fn a_panic_of_the_adapter_is_a_failed_attempt_of_its_target_alone() {
    let (mut node, partner) = (Node::faulty(), HttpPartner::plain());
    // Not more than a supervisor bears with: otherwise the target is quarantined, which another test sees.
    node.env("HMS_FAULT", "panic:adapter.rest@panics*3");
    node.start();
    for name in ["panics", "sibling"] {
        node.apply(&rest(name, &partner.url(&format!("/{name}"))));
    }
    node.publish(FEED, FIRST, r#"{"id":"first"}"#);
    node.publish(FEED, SECOND, r#"{"id":"second"}"#);
    let rows = Rows::from([("panics".to_owned(), Transient(Maybe)), ("sibling".to_owned(), Success)]);
    each(&node, &rows, "at last", is_well);
    let outside = Outside::look(&node);
    let failed = outside.records("panics", "attempt_failed");
    assert_eq!(failed.len(), 3, "{failed:#?}");
    assert!(failed.iter().all(|record| record["failure"] == "transient"), "{failed:#?}");
    assert_eq!(outside.circuit("sibling")["restarts"], 0);
    assert_eq!(partner.effects().len(), 4);
}
