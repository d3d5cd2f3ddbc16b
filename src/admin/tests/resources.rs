//! Every route but publishing: what it answers, and what it refuses.

use super::*;

const YAML: &str = "application/yaml";

fn post(path: &str) -> Request {
    Request::new("POST", path)
}

async fn ok(server: &Server, request: Request) -> serde_json::Value {
    let answer = send(server, request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

#[actix_web::test]
async fn recipes_are_applied_listed_steered_and_deleted() {
    let (server, _) = start();
    let apply = |query: &str| Request::new("PUT", format!("/v1/recipes/grants.sync{query}")).body(YAML, "id: x\n");
    let applied = ok(&server, apply("")).await;
    assert_eq!(applied["id"], "grants.sync");
    assert_eq!(applied["dry_run"], false);
    assert_eq!(applied["diff"], "+id: x\n");
    assert_eq!(applied["next_run_at"], "1970-01-01T00:01:00.000Z");
    assert_eq!(applied["next_run_in_seconds"], 60);
    assert_eq!(ok(&server, apply("?dry_run=true&abandon=false")).await["dry_run"], true);

    assert_eq!(ok(&server, Request::get("/v1/recipes")).await["recipes"][0]["schedule"], "every 60s");
    let recipe = ok(&server, Request::get("/v1/recipes/grants.sync")).await;
    assert_eq!(recipe["targets"][0]["held_by_ticket"], 1);
    assert_eq!(recipe["text"], "id: grants.sync\n");
    let target = ok(&server, Request::get("/v1/recipes/grants.sync/targets/vdot_gis")).await;
    assert_eq!(target["guarantee"], "at_least_once");

    assert_eq!(ok(&server, post("/v1/recipes/grants.sync/pause")).await["state"], "paused");
    assert_eq!(ok(&server, post("/v1/recipes/grants.sync/resume")).await["state"], "enabled");
    let run = ok(&server, post("/v1/recipes/grants.sync/run")).await;
    assert_eq!(run["targets"][0]["failed"], 1);
    let started = send(&server, post("/v1/recipes/grants.sync/run?wait=false")).await;
    assert_eq!((started.status, started.text().as_str()), (202, "{\"recipe\":\"grants.sync\",\"targets\":[]}"));

    let delete = |query: &str| Request::new("DELETE", format!("/v1/recipes/grants.sync{query}"));
    assert_eq!(problem(&send(&server, delete("")).await, 409)["backlog"], 2);
    assert_eq!(ok(&server, delete("?abandon=true")).await["abandoned"], 2);
}

#[actix_web::test]
async fn a_bad_recipe_is_refused_with_every_finding() {
    let (server, _) = start();
    let put = |body: &[u8]| Request::new("PUT", "/v1/recipes/x").body(YAML, body);
    let refused = problem(&send(&server, put(b"oops: 1")).await, 422);
    assert_eq!(refused["errors"].as_array().unwrap().len(), 2);
    assert_eq!(refused["errors"][1]["line"], 2);
    assert_eq!(refused["errors"][1]["help"], "did you mean `source`?");
    assert_eq!(problem(&send(&server, put(b"id: \xff")).await, 400)["byte"], 4);
    assert_eq!(send(&server, put(&vec![b'#'; 1 << 20])).await.status, 200);
    problem(&send(&server, put(&vec![b'#'; (1 << 20) + 1])).await, 413);
    let form = Request::new("PUT", "/v1/recipes/x").body("application/x-www-form-urlencoded", "id: x");
    let refused = problem(&send(&server, form).await, 415);
    assert!(refused["detail"].as_str().unwrap().contains("application/yaml"));
}

#[actix_web::test]
async fn a_ticket_is_answered_once() {
    let (server, _) = start();
    let decide = |body: &str| post("/v1/tickets/1").body("application/json", body);
    assert_eq!(ok(&server, Request::get("/v1/tickets?state=open")).await["tickets"][0]["cause"], "doubt");
    assert_eq!(ok(&server, Request::get("/v1/tickets?state=resolved")).await["tickets"].as_array().unwrap().len(), 0);
    for (query, found) in [("recipe=grants.sync&target=vdot_gis&state=open", 1), ("recipe=x", 0), ("target=x", 0)] {
        let tickets = ok(&server, Request::get(format!("/v1/tickets?{query}"))).await;
        assert_eq!(tickets["tickets"].as_array().unwrap().len(), found, "{query}");
    }
    assert_eq!(ok(&server, Request::get("/v1/tickets/1")).await["resolved_at"], serde_json::Value::Null);

    for (body, words) in [
        ("{\"action\":\"resolve\"}", "`note`"),
        ("{\"action\":\"forget\"}", "unknown variant `forget`, expected one of `retry`, `skip`, `resolve`"),
        ("{\"action\":\"retry\",\"notes\":\"\"}", "unknown field `notes`"),
        ("{\"action\":", "EOF while parsing"),
        ("", "EOF while parsing"),
    ] {
        let refused = problem(&send(&server, decide(body)).await, 400);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    problem(&send(&server, post("/v1/tickets/1").body("text/plain", "{\"action\":\"retry\"}")).await, 415);

    let resolve = "{\"action\":\"resolve\",\"note\":\"the partner has them\"}";
    assert_eq!(ok(&server, decide(resolve)).await["state"], "resolved");
    problem(&send(&server, decide(resolve)).await, 409);
}

#[actix_web::test]
async fn the_audit_is_served_byte_for_byte() {
    let (server, _) = start();
    let answer = send(&server, Request::get("/v1/audit")).await;
    assert_eq!(answer.body, fake::AUDIT);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let one = send(&server, Request::get("/v1/audit?from=1&limit=1")).await;
    assert_eq!(one.text(), "{ \"seq\": 1 }\n");
    assert_eq!(send(&server, Request::get("/v1/audit?from=9")).await.text(), "");
    for query in ["limit=-1", "from=-1", "from=x", "form=1"] {
        problem(&send(&server, Request::get(format!("/v1/audit?{query}"))).await, 400);
    }
}

#[actix_web::test]
async fn the_rest_is_there_too() {
    let (server, fake) = start();
    assert_eq!(ok(&server, Request::get("/v1/feeds")).await, serde_json::json!({ "feeds": [] }));
    let tree = ok(&server, Request::get("/v1/supervision")).await;
    let supervisor = &tree["supervision"]["children"][0];
    assert_eq!((&supervisor["kind"], &supervisor["watched_by"]), (&"recipe_supervisor".into(), &"node".into()));
    assert_eq!(supervisor["children"][0]["state"], "quarantined");
    assert_eq!(supervisor["children"][0]["last_panic"]["message"], "index out of bounds");
    let metrics = send(&server, Request::get("/metrics")).await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.text().contains("sync_tickets_open 1"));

    assert_eq!(ok(&server, Request::get("/healthz")).await["status"], "ok");
    assert_eq!(ok(&server, Request::get("/readyz")).await["status"], "ready");
    fake.unready.lock().unwrap().push("the store refuses writes".to_owned());
    let reasons = problem(&send(&server, Request::get("/readyz")).await, 503);
    assert_eq!(reasons["reasons"], serde_json::json!(["the store refuses writes"]));
    assert_eq!(ok(&server, Request::get("/healthz")).await["status"], "ok");
}

#[actix_web::test]
async fn what_is_not_there_is_not_found_in_words() {
    let (server, _) = start();
    for path in [
        "/",
        "/v1",
        "/v1/circuit",
        "/v1/recipes/none/targets/none",
        "/v1/feeds/none",
        "/v1/feeds/grants/events/",
        "/v1/recipes/none",
        "/v1/recipes/grants.sync/targets/none",
        "/v1/tickets/2",
        "/v1/tickets/18446744073709551615",
        "/v1/dead-letters/8",
        "/v1/feeds/../x/events",
    ] {
        problem(&send(&server, Request::get(path)).await, 404);
    }
}

#[actix_web::test]
async fn a_bad_name_number_or_query_is_refused_in_words() {
    let (server, _) = start();
    for (path, words) in [
        ("/v1/feeds/..", "feed: `..` is not a name"),
        ("/v1/feeds/..%2Fx", "feed: `../x` is not a name"),
        ("/v1/feeds/Grants", "`Grants` is not a name"),
        ("/v1/feeds/%ff", "is not a name"),
        ("/v1/recipes/a%20b", "id: `a b` is not a name"),
        ("/v1/recipes/grants.sync/targets/-x", "name: `-x` is not a name"),
        ("/v1/tickets/one", "`one` is not a number"),
        ("/v1/tickets?state=closed", "query: unknown variant `closed`, expected `open` or `resolved`"),
        ("/v1/tickets?stat=open", "query: unknown field `stat`"),
        ("/v1/tickets?recipe=A", "`A` is not a name"),
        ("/v1/circuits?state=broken", "unknown variant `broken`, expected one of `closed`, `open`, `half_open`"),
        ("/v1/circuits?recipe=A", "`A` is not a name"),
        ("/v1/circuits?target=a", "query: unknown field `target`"),
        ("/v1/dead-letters?limit=0", "`limit` is 0"),
        ("/v1/dead-letters?from=-1", "query: invalid digit"),
        ("/v1/dead-letters?target=A", "`A` is not a name"),
        ("/v1/dead-letters?state=open", "query: unknown field `state`"),
        ("/v1/dead-letters/seven", "`seven` is not a number"),
    ] {
        let refused = problem(&send(&server, Request::get(path)).await, 400);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{path}: {refused}");
    }
    let run = send(&server, post("/v1/recipes/grants.sync/run?wait=maybe")).await;
    assert!(problem(&run, 400)["detail"].as_str().unwrap().contains("`true` or `false`"));
}

#[actix_web::test]
async fn another_method_is_told_which_ones_there_are() {
    let (server, _) = start();
    for (method, path, allow) in [
        ("GET", "/v1/feeds/grants/events", "POST"),
        ("POST", "/v1/feeds", "GET, HEAD"),
        ("PATCH", "/v1/recipes/grants.sync", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/recipes/grants.sync/run", "POST"),
        ("DELETE", "/v1/tickets/1", "GET, HEAD, POST"),
        ("PUT", "/v1/dead-letters/1", "GET, HEAD, DELETE"),
        ("GET", "/v1/dead-letters/1/replay", "POST"),
        ("GET", "/v1/recipes/grants.sync/targets/vdot_gis/circuit", "POST"),
        ("OPTIONS", "/v1/audit", "GET, HEAD"),
    ] {
        let answer = send(&server, Request::new(method, path)).await;
        problem(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    let head = send(&server, Request::new("HEAD", "/healthz")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[actix_web::test]
async fn proofs_of_the_audit_are_asked_for_by_numbers() {
    let (server, _) = start();
    let checkpoint = send(&server, Request::get("/v1/audit/checkpoint")).await;
    assert_eq!(checkpoint.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(checkpoint.text().starts_with("log\n0\n"), "{}", checkpoint.text());
    let proof = ok(&server, Request::get("/v1/audit/proof?leaf=1")).await;
    assert_eq!((&proof["leaf"], &proof["size"], &proof["proof"][0]), (&1.into(), &3.into(), &"aGFzaA==".into()));
    problem(&send(&server, Request::get("/v1/audit/proof?leaf=3&size=3")).await, 404);
    for query in ["", "?leaf=x", "?leaf=-1", "?leaf=1&size=", "?leaf=1&deep=1"] {
        problem(&send(&server, Request::get(format!("/v1/audit/proof{query}"))).await, 400);
    }
    let consistency = ok(&server, Request::get("/v1/audit/consistency?from=0&to=2")).await;
    assert_eq!((&consistency["to"], consistency["consistency"].as_array().map(Vec::len)), (&2.into(), Some(0)));
    problem(&send(&server, Request::get("/v1/audit/consistency")).await, 400);
}
