//! Tickets told to an outside task system: each opening and each resolution once, whatever dies, by the machinery
//! that delivers everything else, and never about itself.

use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, HttpPartner};
use chaos_tests::wait;
use serde_json::{Value, json};

use super::edges_damage::Unready;

const FEED: &str = "grants";
const RECIPE: &str = "grants.sync";
const WEBHOOK: &str = "hms.ticket_webhook";
const TARGET: &str = "ticket_webhook";
const TICKETS: &str = "hms.tickets";

/// A node that delivers to two partners, and a task system that wants to hear of its tickets.
struct Stage {
    node: Node,
    api: HttpPartner,
    /// Never has any trouble.
    other: HttpPartner,
    tasks: HttpPartner,
}

/// The line of hms.yaml: a partner that is back is noticed soon.
fn asking(tasks: &HttpPartner) -> String {
    let url = tasks.url("/hook");
    format!("ticket_webhook: {{url: '{url}', circuit: {{failures: 2, open_for: 100ms, max_open_for: 300ms}}}}\n")
}

impl Stage {
    fn new(mut node: Node, settings: impl FnOnce(&HttpPartner) -> String) -> Self {
        let [api, other, tasks] = [HttpPartner::plain(), HttpPartner::plain(), HttpPartner::plain()];
        node.settings(&settings(&tasks)).start();
        let stage = Self { node, api, other, tasks };
        stage.apply();
        stage
    }

    fn apply(&self) {
        let circuit = "circuit: {failures: 1, open_for: 100ms, max_open_for: 300ms}";
        self.node.apply(&format!(
            "id: {RECIPE}\nsource: {{feed: {FEED}}}\ntargets:\n  - {{name: api, adapter: rest, url: '{}', {circuit}}}\n  \
             - {{name: other, adapter: rest, url: '{}'}}\nschedule: on_change\nretries: 1\n",
            self.api.url("/"),
            self.other.url("/")
        ));
    }

    fn publish(&self, id: &str) {
        self.node.publish(FEED, id, &format!(r#"{{"id":"{id}"}}"#));
    }

    /// A partner is down until a ticket says so.
    fn outage(&self, id: &str) {
        self.api.answer(Answer::Status(503));
        self.publish(id);
        wait::until("the ticket", || self.ticket_of(RECIPE));
    }

    fn mended(&self) {
        self.api.answer(Answer::Status(200));
        wait::until("the ticket to close", || self.ticket_of(RECIPE).is_none().then_some(()));
    }

    fn ticket_of(&self, recipe: &str) -> Option<Value> {
        self.node.open_tickets().into_iter().find(|ticket| ticket["recipe"] == recipe)
    }

    /// The ids of what the task system has accepted, without repeats of one key.
    fn told(&self) -> Vec<String> {
        ids(&self.tasks)
    }

    /// What it was told of one ticket, in order.
    fn told_of(&self, number: u64) -> Vec<String> {
        let prefix = format!("ticket-{number}-");
        self.told().iter().filter_map(|id| id.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    #[track_caller]
    fn expect(&self, expected: &[&str]) {
        let told = wait::within(wait::DEADLINE, || (self.told() == expected).then_some(()));
        assert!(told.is_some(), "expected {expected:?}, told {:?}", self.told());
        self.settled();
    }

    /// Nothing is on its way to the task system.
    fn settled(&self) {
        wait::until("the receipts", || (self.node.target(WEBHOOK, TARGET)["backlog"] == 0).then_some(()));
    }

    /// How many events there ever were for the task system; the first only says where they begin.
    fn events(&self) -> u64 {
        let feed = self.node.http().get(&format!("/v1/feeds/{TICKETS}")).expect(200).json();
        feed["head"].as_u64().expect("a number") - 1
    }
}

fn ids(tasks: &HttpPartner) -> Vec<String> {
    tasks.effects().iter().map(|request| request.header("ce-id").expect("an id").to_owned()).collect()
}

#[test]
fn a_ticket_is_told_when_it_is_opened_and_when_it_is_resolved() {
    let key = "k-of-the-tasks";
    let mut node = Node::new();
    node.env("TICKET_WEBHOOK_KEY", key);
    let stage = Stage::new(node, |tasks| format!("ticket_webhook: {{url: '{}', auth: api_key}}\n", tasks.url("/hook")));
    stage.outage("e1");
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
    let received = stage.tasks.effects();
    let [opened, resolved] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((opened.header("ce-type"), opened.header("x-api-key")), (Some("hms.ticket.opened"), Some(key)));
    assert_eq!(resolved.header("ce-type"), Some("hms.ticket.resolved"));
    let body = |request: &chaos_tests::partners::https::Received| -> Value {
        serde_json::from_str(&request.text()).expect("JSON")
    };
    let (opened, resolved) = (body(opened), body(resolved));
    for (name, value) in
        [("number", json!(1)), ("state", json!("open")), ("recipe", json!(RECIPE)), ("target", json!("api"))]
    {
        assert_eq!(opened[name], value, "{opened}");
    }
    assert!(opened["last_error"].as_str().is_some_and(|error| error.contains("503")), "{opened}");
    assert_eq!((&resolved["state"], &resolved["cause"]), (&json!("resolved"), &json!("outage")), "{resolved}");
    assert_eq!((&resolved["action"], &resolved["opened_at"]), (&json!("recovered"), &opened["opened_at"]));
    assert_eq!(resolved["resolved_at"], stage.node.http().get("/v1/tickets/1").json()["resolved_at"]);
}

#[test]
fn every_ticket_is_told_once_over_kills_of_the_node() {
    let mut stage = Stage::new(Node::new(), asking);
    for round in 1..=3 {
        stage.outage(&format!("e{round}"));
        stage.node.restart();
        stage.mended();
        stage.node.restart();
    }
    wait::until("everything to be told", || (stage.told().len() == 6).then_some(()));
    (1..=3).for_each(|number| assert_eq!(stage.told_of(number), ["opened", "resolved"]));
    assert_eq!(stage.events(), 6);
}

#[test]
fn a_node_that_has_lost_its_events_tells_of_each_ticket_that_comes_then() {
    let mut stage = Stage::new(Node::new(), asking);
    stage.outage("e1");
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
    stage.node.terminate();
    let unready = Unready::without_events(&stage.node);
    stage.apply();
    stage.outage("e2");
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved", "ticket-2-opened", "ticket-2-resolved"]);
    unready.ends();
}

#[test]
fn what_was_lost_before_the_task_system_heard_of_it_is_a_dead_letter() {
    let mut stage = Stage::new(Node::new(), asking);
    stage.tasks.answer(Answer::Status(503));
    stage.outage("e1");
    wait::until("an attempt at it", || stage.ticket_of(WEBHOOK));
    // Told to stop it would take back what had no effect.
    stage.node.kill9();
    let unready = Unready::without_events(&stage.node);
    stage.apply();
    let lost = || {
        let audit = stage.node.audit();
        let lost = audit.into_iter().filter(|record| record["kind"] == "dead_lettered" && record["recipe"] == WEBHOOK);
        lost.map(|record| (record["offset"].clone(), record["reason"].clone())).collect::<Vec<_>>()
    };
    // At 0 there was the beginning, which is never sent.
    let opened = (json!(1), json!("lost"));
    let found = wait::within(wait::DEADLINE, || (lost() == [opened.clone()]).then_some(()));
    assert!(found.is_some(), "{:?}", lost());
    // The ticket is still open, so that the new beginning tells of it.
    stage.tasks.answer(Answer::Status(200));
    stage.api.answer(Answer::Status(200));
    stage.publish("e2");
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
    unready.ends();
}

/// The node dies at a point on the way from the record of a ticket to the feed.
fn survives(point: &str) {
    let mut stage = Stage::new(Node::faulty(), asking);
    stage.api.answer(Answer::Status(503));
    stage.node.terminate();
    stage.node.start_to_die_at(point);
    // The kill may come before the answer.
    let _ = stage.node.try_publish(FEED, "e1", r#"{"id":"e1"}"#);
    stage.node.wait_until_dead();
    stage.node.start();
    stage.outage("e1");
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
    stage.node.restart();
    assert_eq!(stage.events(), 2, "nothing is told again");
}

macro_rules! kills {
    ($($point:literal: $name:ident;)*) => {$(
        #[test]
        fn $name() {
            survives($point);
        }
    )*};
}

kills! {
    "ledger.after_commit": killed_once_a_record_is_on_disk_it_is_told;
    "webhook.before_publish": killed_before_a_ticket_is_told_it_is_told_once;
    "webhook.published": killed_once_a_ticket_is_told_it_is_not_told_again;
}

#[test]
fn killed_before_the_webhook_has_a_recipe_it_begins_where_it_was() {
    let mut stage = Stage::new(Node::faulty(), |_| String::new());
    stage.outage("e1");
    stage.node.terminate();
    let settings = asking(&stage.tasks);
    // It dies on its way up, and is never ready.
    let mut dying = stage.node.settings(&settings).serve();
    let ended = dying.env("HMS_FAULT", "webhook.published").status().expect("the program can be started");
    assert!(!ended.success(), "{ended}");
    stage.node.start();
    stage.mended();
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
}

#[test]
fn a_task_system_that_is_down_stops_nobody_and_hears_everything_in_order_when_it_is_back() {
    let mut stage = Stage::new(Node::new(), asking);
    stage.tasks.down();
    for id in ["e1", "e2"] {
        stage.outage(id);
        stage.mended();
    }
    let own = wait::until("a ticket of its own", || stage.ticket_of(WEBHOOK));
    assert_eq!((&own["target"], &own["cause"]), (&json!(TARGET), &json!("outage")));
    let opened = || (stage.node.target(WEBHOOK, TARGET)["opened_total"].as_u64() > Some(0)).then_some(());
    wait::until("its circuit to open", opened);
    let others = wait::within(wait::DEADLINE, || (ids(&stage.other) == ["e1", "e2"]).then_some(()));
    assert!(others.is_some(), "{:?}", ids(&stage.other));
    assert_eq!(stage.node.http().get("/readyz").status, 200);
    assert_eq!(stage.node.target(RECIPE, "other")["opened_total"], 0);

    stage.node.restart();
    stage.tasks.up();
    wait::until("everything to be told", || (stage.told().len() == 4).then_some(()));
    let numbers: Vec<u64> = stage.tasks.effects().iter().map(number).collect();
    assert!(!numbers.contains(&own["number"].as_u64().expect("a number")), "{numbers:?}");
    for number in numbers {
        assert_eq!(stage.told_of(number), ["opened", "resolved"]);
    }
    wait::until("its own ticket to close", || stage.ticket_of(WEBHOOK).is_none().then_some(()));
    stage.settled();
    assert_eq!(stage.events(), 4, "nobody is told of the webhook's own ticket");
}

fn number(request: &chaos_tests::partners::https::Received) -> u64 {
    let body: Value = serde_json::from_str(&request.text()).expect("JSON");
    body["number"].as_u64().expect("a number")
}

#[test]
fn the_configuration_decides_who_is_told_from_one_reload_to_the_next() {
    let mut stage = Stage::new(Node::new(), |_| String::new());
    stage.outage("e1");
    let none = stage.node.http().get(&format!("/v1/recipes/{WEBHOOK}"));
    none.problem(404);

    stage.node.reconfigure(&asking(&stage.tasks));
    wait::until("the ticket that is open", || (stage.told() == ["ticket-1-opened"]).then_some(()));
    stage.settled();
    let elsewhere = HttpPartner::plain();
    stage.node.reconfigure(&asking(&elsewhere));
    let moved = || stage.node.http().get(&format!("/v1/recipes/{WEBHOOK}")).json()["revision"] == 2;
    wait::until("the change", || moved().then_some(()));
    stage.mended();
    wait::until("the new task system", || (ids(&elsewhere) == ["ticket-1-resolved"]).then_some(()));

    stage.node.reconfigure("");
    let gone = || stage.node.http().get(&format!("/v1/recipes/{WEBHOOK}")).status == 404;
    wait::until("the end", || gone().then_some(()));
    assert_eq!(stage.told(), ["ticket-1-opened"]);
}

#[test]
fn what_is_the_nodes_own_is_read_and_steered_but_not_written_by_others() {
    let stage = Stage::new(Node::new(), asking);
    for id in [WEBHOOK, "hms.mine"] {
        let applied = stage.node.try_apply(&format!(
            "id: {id}\nsource: {{feed: {FEED}}}\ntargets: [{{name: a, adapter: rest, url: 'http://127.0.0.1:9/'}}]\n\
             schedule: on_change\n"
        ));
        let printed = applied.failed_with(1);
        assert!(printed.contains("the node's own"), "{printed}");
    }
    let refused = stage.node.try_publish(TICKETS, "e1", "{}").expect("the node answers").problem(409);
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("the node's own")), "{refused}");
    let path = format!("/v1/recipes/{WEBHOOK}");
    let deleted = stage.node.http().send("DELETE", &path, &[], Vec::new()).expect("the node answers");
    deleted.problem(409);

    assert!(stage.node.cli(["sync", "list"]).ok().contains(WEBHOOK));
    stage.node.cli(["sync", "pause", WEBHOOK]).ok();
    stage.outage("e1");
    stage.mended();
    wait::until("both events", || (stage.events() == 2).then_some(()));
    assert_eq!(stage.told(), Vec::<String>::new(), "paused");
    stage.node.cli(["sync", "resume", WEBHOOK]).ok();
    stage.node.run(WEBHOOK);
    stage.expect(&["ticket-1-opened", "ticket-1-resolved"]);
    stage.node.cli(["circuit", "open", WEBHOOK, TARGET]).ok();
    stage.node.cli(["circuit", "close", WEBHOOK, TARGET]).ok();
}
