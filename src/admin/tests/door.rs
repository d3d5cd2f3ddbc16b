//! The door: every role at every route, strangers, pages in a browser, and bodies of strangers.

use std::fmt::Write as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::access::{Refusal, Role};
use crate::admin::door::Needs;
use crate::admin::routes::{ROUTES, Route};

fn guarded() -> (Server, Arc<Fake>) {
    serve_with(false)
}

fn at(route: &Route) -> Request {
    let path =
        route.path.replace("{n}", "1").replace("{id}", "none").replace("{feed}", "grants").replace("{name}", "none");
    Request::new(route.method.allows().split(',').next().unwrap(), path)
}

fn with(token: &str, request: Request) -> Request {
    request.header("Authorization", &format!("Bearer {token}"))
}

/// What the door lets pass is answered by the route itself, well or badly.
fn is_let_in(answer: &Answer) -> bool {
    !matches!(answer.status, 401 | 403 | 429)
}

#[actix_web::test]
async fn every_role_gets_through_where_the_table_says_so_and_nowhere_else() {
    let (server, _) = guarded();
    for route in ROUTES {
        for role in Role::ALL {
            let answer = send(&server, with(role.as_str(), at(route))).await;
            let what = format!("{role} at {:?} {}: {}", route.method, route.path, answer.text());
            assert_eq!(is_let_in(&answer), route.needs.allows(role), "{what}");
            if let Needs::Role(needed) = route.needs
                && !is_let_in(&answer)
            {
                let refused = problem(&answer, 403);
                assert_eq!((&refused["needs"], &refused["role"]), (&needed.as_str().into(), &role.as_str().into()));
                let words = format!("this needs the role {needed}, the token `the-{role}` has the role {role}");
                assert_eq!(refused["detail"], words.as_str());
            }
        }
    }
}

#[actix_web::test]
async fn without_a_valid_token_only_the_probes_are_answered() {
    let (server, _) = guarded();
    for route in ROUTES {
        let open = matches!(route.path, "/healthz" | "/readyz");
        let answer = send(&server, at(route)).await;
        assert_eq!(answer.status == 200, open, "{}", route.path);
        if !open {
            problem(&answer, 401);
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="hms""#));
        }
        let answer = send(&server, with("expired", at(route))).await;
        assert_eq!(answer.status == 200, open, "{}", route.path);
        if !open {
            assert!(problem(&answer, 401)["detail"].as_str().unwrap().contains("`ann` has expired"));
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="hms", error="invalid_token""#));
        }
        assert_eq!(
            send(&server, with("guess", at(route))).await.status,
            if open { 200 } else { 401 },
            "{}",
            route.path
        );
    }
    for request in [
        Request::get("/nothing"),
        Request::new("PATCH", "/v1/feeds"),
        Request::new("OPTIONS", "/v1/feeds").header("Origin", "https://x.example"),
        Request::get("/v1/feeds").header("Authorization", "Basic YWRtaW46YWRtaW4="),
        Request::get("/v1/feeds").header("Authorization", "Bearer"),
        Request::get("/v1/feeds").header("Authorization", "Bearer "),
        Request::get("/v1/feeds").header("Authorization", "admin"),
        with("admin", with("admin", Request::get("/v1/feeds"))),
        Request::get("/v1/feeds?access_token=admin"),
    ] {
        problem(&send(&server, request).await, 401);
    }
    let lower = Request::get("/v1/feeds").header("authorization", "bearer admin");
    assert_eq!(send(&server, lower).await.status, 200);
}

#[actix_web::test]
async fn each_refusal_is_counted_with_its_reason_and_nothing_else_is() {
    let (server, fake) = guarded();
    let feeds = || Request::get("/v1/feeds");
    for request in [feeds(), with("expired", feeds()), with("guess", feeds()), with("publisher", feeds())] {
        send(&server, request).await;
    }
    for request in [with("viewer", feeds()), with("viewer", Request::get("/nothing")), Request::get("/healthz")] {
        send(&server, request).await;
    }
    use Refusal::{ExpiredToken, Forbidden, NoToken, UnknownToken, WebPage};
    assert_eq!(*fake.refused.lock().unwrap(), [NoToken, ExpiredToken, UnknownToken, Forbidden]);
    let (server, fake) = start();
    send(&server, feeds().header("Origin", "https://evil.example")).await;
    assert_eq!(*fake.refused.lock().unwrap(), [WebPage]);
}

#[actix_web::test]
async fn a_publisher_of_one_feed_publishes_to_no_other() {
    let (server, fake) = guarded();
    let publish = |feed: &str| {
        let request = Request::new("POST", format!("/v1/feeds/{feed}/events")).body("application/json", "{}");
        with("publisher-of-grants", request)
    };
    assert_eq!(send(&server, publish("grants")).await.status, 202);
    assert_eq!(send(&server, publish("gr%61nts")).await.status, 202);
    for feed in ["others", "grants2", "grants%2F..", "..", "GRANTS"] {
        let refused = problem(&send(&server, publish(feed)).await, 403);
        assert!(refused["detail"].as_str().unwrap().contains("may publish to grants only"), "{refused}");
    }
    assert_eq!(send(&server, with("admin", publish("others"))).await.status, 401, "two tokens are none");
    assert_eq!(fake.events("grants").len(), 2);
    assert_eq!(fake.feeds.lock().unwrap().len(), 1);
}

#[actix_web::test]
async fn who_guesses_is_told_to_wait_and_a_valid_token_still_passes() {
    let (server, fake) = guarded();
    let mut answers = Vec::new();
    // More than the burst, by less than what is forgotten meanwhile on any machine.
    while answers.last() != Some(&429) {
        assert!(answers.len() < 100_000, "nobody was told to wait");
        let answer = send(&server, with("guess", Request::get("/v1/feeds"))).await;
        if answer.status == 429 {
            problem(&answer, 429);
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        }
        answers.push(answer.status);
    }
    assert!(answers.len() > 60 && answers.iter().all(|status| matches!(status, 401 | 429)));
    assert_eq!(fake.refused.lock().unwrap().last(), Some(&Refusal::Throttled));
    assert_eq!(send(&server, with("viewer", Request::get("/v1/feeds"))).await.status, 200);
    problem(&send(&server, Request::get("/v1/feeds")).await, 401);
}

#[actix_web::test]
async fn the_body_of_a_stranger_is_not_waited_for() {
    let (server, fake) = guarded();
    for authorization in ["", "Authorization: Bearer guess\r\n", "Authorization: Bearer viewer\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST /v1/feeds/grants/events HTTP/1.1\r\nHost: n\r\n{authorization}Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Not a byte of the body is sent.
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        let refused = [&b"HTTP/1.1 401"[..], b"HTTP/1.1 403"].contains(&&answer[..]);
        assert!(refused, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(fake.events("grants").is_empty());
}

#[actix_web::test]
async fn without_tokens_no_page_in_a_browser_can_steer_the_node() {
    let (server, fake) = start();
    let order = || Request::new("POST", "/v1/recipes/grants.sync/pause");
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        problem(&send(&server, order().header(name, value)).await, 403);
    }
    problem(&send(&server, order().host("rebound.example:8700")).await, 403);
    problem(&send(&server, Request::get("/openapi.json").host("rebound.example")).await, 403);
    problem(&send(&server, Request::get("/nothing").host("rebound.example")).await, 403);
    assert!(!fake.paused.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(send(&server, Request::get("/healthz").host("anything")).await.status, 200);
    assert_eq!(send(&server, order().host("127.0.0.1:8700")).await.status, 200);
    // A token that is left over from another start is not looked at.
    assert_eq!(send(&server, with("guess", order())).await.status, 200);
}

#[actix_web::test]
async fn every_answer_has_the_headers_of_something_that_is_no_page() {
    let (server, _) = guarded();
    for request in [
        Request::get("/healthz"),
        Request::get("/nothing"),
        with("admin", Request::get("/nothing")),
        with("admin", Request::get("/v1/feeds")).header("Origin", "https://x.example"),
    ] {
        let answer = send(&server, request).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value));
        }
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("strict-transport-security"), None, "there is no TLS");
    }
}

/// The page shows the table that is served.
#[test]
fn the_table_of_roles_in_the_documentation_is_that_of_the_routes() {
    let mut table = "| | route | ".to_owned();
    table += &Role::ALL.map(|role| role.as_str()).join(" | ");
    table += " |\n| --- | --- | --- | --- | --- | --- |\n";
    for route in ROUTES {
        let cell = |role| if route.needs.allows(role) { "yes" } else { "" };
        let cells = match route.needs {
            Needs::Nothing => "no token needed |  |  | ".to_owned(),
            _ => Role::ALL.map(cell).join(" | "),
        };
        let _ = writeln!(table, "| {} | `{}` | {cells} |", route.method.method(), route.path);
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let shown = page.split("<!-- roles -->\n").nth(1).unwrap_or_default();
    let shown = shown.split("<!-- end of roles -->").next().unwrap_or_default();
    assert!(shown == table, "docs/security.md should have between `<!-- roles -->` and its end:\n{table}");
}
