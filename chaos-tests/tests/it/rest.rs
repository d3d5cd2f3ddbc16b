//! Partners that take requests: keys over retries, batches, order, tokens, mapping.

use std::collections::BTreeSet;

use chaos_tests::authority::Authority;
use chaos_tests::judge::{Acknowledged, Evidence, Guarantee, Request, Target, World, judge};
use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::partners::oauth::{CLIENT_SECRET, SchedulingService};
use chaos_tests::wait;
use serde_json::{Value, json};

const RECIPE: &str = "rest.sync";
const FEED: &str = "grants";

struct Stage {
    node: Node,
    partner: HttpPartner,
}

/// A node with one REST target `api`; `source` and `target` are more lines for these.
fn running(source: &str, target: &str) -> Stage {
    let (mut node, partner) = (Node::new(), HttpPartner::plain());
    node.start().apply(&format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\n{source}targets:\n  - name: api\n    adapter: rest\n    url: {}\n\
         {target}schedule: every 1h\n",
        partner.url("/api")
    ));
    Stage { node, partner }
}

impl Stage {
    fn publish(&self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            self.node.publish(FEED, &format!("e{id}"), &format!(r#"{{"id":{id},"amount":1250.10}}"#));
        }
    }

    fn bodies(&self) -> Vec<String> {
        self.partner.received().iter().map(|request| request.text()).collect()
    }

    fn keys(&self) -> Vec<String> {
        let key = |name: &str| name.strip_prefix("rest.sync/api/").expect("recipe and target first").to_owned();
        let received = self.partner.received();
        received.iter().map(|request| key(request.header("idempotency-key").expect("a key"))).collect()
    }
}

#[test]
fn fields_are_projected_and_mapped_and_headers_added() {
    let stage =
        running("  fields: [amount, id]\n", "    method: PUT\n    map: {amount: amt}\n    headers: {X-Source: hms}\n");
    stage.node.publish(FEED, "e1", r#"{"id":"GR 1","secret":"x","amount":1250.10}"#);
    stage.node.run(RECIPE);
    let request = &stage.partner.received()[0];
    assert_eq!(request.method, "PUT");
    let body = request.text();
    assert!(body.contains("1250.10"), "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body, json!({"amt": 1250.1, "id": "GR 1"}));
    assert_eq!(request.header("x-source"), Some("hms"));
}

#[test]
fn a_retry_is_the_same_request_over_failures_and_a_restart() {
    let mut stage = running("", "");
    stage.partner.script([Answer::Status(503), Answer::Close]);
    stage.publish([1]);
    stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    stage.node.restart();
    wait::until("the event", || {
        stage.node.cli(["sync", "run", RECIPE]);
        (stage.node.target(RECIPE, "api")["backlog"] == 0).then_some(())
    });
    assert!(stage.partner.received().len() >= 3);
    assert_eq!(stage.keys().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["e1".to_owned()]));
    assert_eq!(stage.bodies().into_iter().collect::<BTreeSet<_>>().len(), 1);
    // The effect is the request that was broken off; what came after it is for the partner to ignore.
    assert_eq!(stage.partner.effects().len(), 1);
}

#[test]
fn an_attempt_that_failed_is_in_the_audit_and_on_the_target() {
    let stage = running("", "");
    stage.partner.script([Answer::Status(503)]);
    stage.publish([1]);
    let printed = stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    assert!(printed.contains("api") && printed.contains("503"), "{printed}");
    let audit = stage.node.audit();
    let failed = audit.iter().find(|record| record["kind"] == "attempt_failed").expect("a record of the attempt");
    assert!(failed["payload_sha256"].as_str().is_some_and(|hash| hash.len() == 64), "{failed}");
    assert_eq!((failed["event_id"].as_str(), failed["target"].as_str()), (Some("e1"), Some("api")), "{failed}");
    assert!(failed.to_string().contains("503"), "{failed}");
}

#[test]
fn events_of_one_key_arrive_in_order_whatever_fails() {
    let stage = running("  key: grant\n", "    concurrency: 8\n");
    let mut count = 0;
    stage.partner.rule(move |_| {
        count += 1;
        if count % 3 == 0 { Answer::Status(503) } else { Answer::Status(200) }
    });
    let promised: Vec<_> = (0..30)
        .map(|number| {
            let (id, key) = (format!("e{number}"), format!("g{}", number % 4));
            let offset = stage.node.publish(FEED, &id, &format!(r#"{{"grant":"{key}","n":{number}}}"#));
            Acknowledged { id, offset, key }
        })
        .collect();
    wait::until("all events", || {
        stage.node.cli(["sync", "run", RECIPE]);
        (stage.node.target(RECIPE, "api")["backlog"] == 0).then_some(())
    });
    let requests = stage.partner.received().iter().map(Request::from).collect();
    let target = Target::new(RECIPE, "api", Guarantee::ExactlyOnce, Evidence::Requests(requests));
    let (acknowledged, audit) = (promised, stage.node.audit());
    assert_eq!(judge(&World { acknowledged, audit, targets: vec![target], ..World::default() }), []);
}

#[test]
fn events_are_sent_in_batches_of_each_format() {
    let object = |id: u32| format!(r#"{{"id":{id},"amount":1250.10}}"#);
    for (format, kind) in [("json_array", "application/json"), ("ndjson", "application/x-ndjson")] {
        let stage = running("", &format!("    concurrency: 1\n    batch: {{max_events: 3, format: {format}}}\n"));
        stage.publish(0..5);
        stage.node.run(RECIPE);
        assert_eq!(stage.keys(), ["0-2", "3-4"], "{format}");
        let lines = |ids: std::ops::Range<u32>| ids.map(object).collect::<Vec<_>>();
        let expected = [lines(0..3), lines(3..5)].map(|objects| match format {
            "ndjson" => objects.join("\n"),
            _ => format!("[{}]", objects.join(",")),
        });
        let bodies: Vec<_> = stage.bodies().iter().map(|body| body.trim_end().to_owned()).collect();
        assert_eq!(bodies, expected, "{format}");
        for request in stage.partner.received() {
            assert_eq!(request.header("content-type"), Some(kind));
            assert_eq!(request.header("ce-id"), None, "ce-* are for single events");
        }
    }
}

#[test]
fn a_batch_of_cloudevents_carries_each_ones_attributes() {
    let stage = running("", "    batch: {max_events: 10, format: cloudevents_batch}\n");
    stage.publish(0..3);
    stage.node.run(RECIPE);
    let received = stage.partner.received();
    assert_eq!(received.len(), 1);
    let kind = received[0].header("content-type").expect("a type");
    assert!(kind.starts_with("application/cloudevents-batch+json"), "{kind}");
    let batch: Value = serde_json::from_str(&received[0].text()).expect("JSON");
    for (number, event) in batch.as_array().expect("an array").iter().enumerate() {
        assert_eq!((event["specversion"].as_str(), event["id"].as_str()), (Some("1.0"), Some(&*format!("e{number}"))));
        assert_eq!(event["data"]["id"], number);
    }
}

#[test]
fn a_batch_keeps_its_members_over_a_restart() {
    let mut stage = running("", "    concurrency: 1\n    batch: {max_events: 3, format: json_array}\n");
    stage.partner.answer(Answer::Status(503));
    stage.publish(0..2);
    stage.node.cli(["sync", "run", RECIPE]).failed_with(1);
    stage.publish(2..4);
    stage.node.restart();
    stage.partner.answer(Answer::Status(200));
    stage.node.run(RECIPE);
    let keys: BTreeSet<_> = stage.keys().into_iter().collect();
    assert_eq!(keys, BTreeSet::from(["0-1".to_owned(), "2-3".to_owned()]), "what was begun is finished as it was");
}

#[test]
fn changes_are_sent_at_once_when_the_recipe_says_so() {
    let stage = running("", "");
    let partner = HttpPartner::plain();
    stage.node.apply(&format!(
        "id: now.sync\nsource:\n  feed: {FEED}\ntargets:\n  - name: api\n    adapter: rest\n    url: {}\nschedule: on_change\n",
        partner.url("/now")
    ));
    stage.publish([1]);
    wait::until("the request", || (partner.received().len() == 1).then_some(()));
    assert_eq!(stage.partner.received().len(), 0, "the other recipe waits for its hour");
}

#[test]
fn a_field_in_the_url_is_filled_in_and_encoded() {
    let (mut node, partner) = (Node::new(), HttpPartner::plain());
    node.start().apply(&format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: api\n    adapter: rest\n    url: {}\n    method: PATCH\n\
         schedule: every 1h\n",
        partner.url("/grants/{id}")
    ));
    node.publish(FEED, "e1", r#"{"id":"a/../b c"}"#);
    node.run(RECIPE);
    assert_eq!(partner.received()[0].path, "/grants/a%2F..%2Fb%20c");
}

#[test]
fn an_event_id_is_encoded_in_headers_and_keys() {
    let stage = running("", "");
    let event =
        json!({"specversion": "1.0", "id": "a/b c%ü", "source": "/t", "type": "t", "data": {"x": 1}}).to_string();
    let headers = [("content-type", "application/cloudevents+json")];
    stage.node.http().post(&format!("/v1/feeds/{FEED}/events"), &headers, event).expect(202);
    stage.node.run(RECIPE);
    let key = &stage.keys()[0];
    assert!(key.is_ascii() && key.contains("%25") && !key.contains(['/', ' ']), "{key}");
}

#[test]
fn an_oauth_partner_is_asked_once_for_a_token_and_again_when_it_is_refused() {
    let authority = Authority::new();
    let service = SchedulingService::new(authority.server("crew.vdot.gov"));
    let mut node = Node::new();
    node.settings(&format!(
        "connect_to:\n  crew.vdot.gov:443: 127.0.0.1:{}\ntls_ca_file: {}\nsecrets_dir: {}\n",
        service.http.port(),
        node.file("extra-roots.pem", &authority.pem()).display(),
        node.path("secrets").display(),
    ));
    node.file("secrets/CREW_TASKS_CLIENT_SECRET", CLIENT_SECRET);
    node.start().apply(&format!(
        "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: crew_tasks\n    adapter: rest\n    \
         url: https://crew.vdot.gov/tasks\n    concurrency: 1\n    auth:\n      type: oauth2_client_credentials\n      \
         token_url: https://crew.vdot.gov/oauth/token\n      client_id: hms\nschedule: every 1h\n"
    ));
    node.publish(FEED, "e0", "{}");
    node.publish(FEED, "e1", "{}");
    node.run(RECIPE);
    assert_eq!((service.token_requests().len(), service.tasks().len()), (1, 2));

    service.revoke();
    node.publish(FEED, "e2", "{}");
    node.run(RECIPE);
    assert_eq!((service.token_requests().len(), service.tasks().len()), (2, 3));
    let told = node.log_lines().join("\n") + &Value::from(node.audit()).to_string();
    assert!(!told.contains(CLIENT_SECRET) && !told.contains("token-1"), "a secret was told");
}

#[test]
fn a_partner_gets_basic_and_bearer_credentials() {
    for (auth, file, value, expected) in [
        ("bearer", "API_TOKEN", "abc", "Bearer abc"),
        ("{type: basic, username: hms}", "API_PASSWORD", "pw", "Basic aG1zOnB3"),
    ] {
        let authority = Authority::new();
        let partner = HttpPartner::tls(authority.server("api.example"));
        let mut node = Node::new();
        node.settings(&format!(
            "connect_to:\n  api.example:443: 127.0.0.1:{}\ntls_ca_file: {}\nsecrets_dir: {}\n",
            partner.port(),
            node.file("extra-roots.pem", &authority.pem()).display(),
            node.path("secrets").display(),
        ));
        node.file(&format!("secrets/{file}"), value);
        node.start().apply(&format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\ntargets:\n  - name: api\n    adapter: rest\n    \
             url: https://api.example/x\n    auth: {auth}\nschedule: every 1h\n"
        ));
        node.publish(FEED, "e0", "{}");
        node.run(RECIPE);
        assert_eq!(partner.received()[0].header("authorization"), Some(expected), "{auth}");
    }
}
