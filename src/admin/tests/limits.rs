//! Bounds: on bodies, memory and time, and a graceful end.

use actix_web::web::Data;
use actix_web::{App, test};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;
use crate::admin::call::Node;
use crate::admin::dispatch;
use crate::admin::door::Door;
use crate::feeds::PublishError;

fn publish(body: Vec<u8>) -> Request {
    Request::new("POST", "/v1/feeds/grants/events").body("application/json", body)
}

fn of_size(size: usize) -> Vec<u8> {
    let mut body = vec![b' '; size];
    body[..2].copy_from_slice(b"{}");
    body
}

#[actix_web::test]
async fn a_body_at_the_limit_is_taken_and_one_byte_more_is_refused() {
    let (server, fake) = start();
    let limit = usize::try_from(BODY_LIMIT).unwrap();
    for chunked in [false, true] {
        let framed = |request: Request| if chunked { request.chunked() } else { request };
        assert_eq!(send(&server, framed(publish(of_size(limit)))).await.status, 202);
        let refused = problem(&send(&server, framed(publish(of_size(limit + 1)))).await, 413);
        assert_eq!(refused["limit"], BODY_LIMIT);
    }
    assert_eq!(fake.events("grants").len(), 2);
}

#[actix_web::test]
async fn a_body_of_a_hundred_megabytes_is_refused_and_the_node_is_unharmed() {
    let (server, _) = start();
    problem(&send(&server, publish(of_size(100 << 20))).await, 413);
    problem(&send(&server, publish(of_size(100 << 20)).chunked()).await, 413);
    assert_eq!(send(&server, publish(of_size(2))).await.status, 202);
}

#[actix_web::test]
async fn when_too_many_bodies_are_in_memory_the_next_is_asked_to_come_again() {
    let (server, fake) = start();
    fake.hangs.send_replace(true);
    let limit = usize::try_from(BODY_LIMIT).unwrap();
    // Each of them is read to its end, then waits in the backend: 32 of them fill the room.
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("POST /v1/feeds/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {limit}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&of_size(limit)).await.unwrap();
        waiting.push(stream);
    }
    fake.under_way(32).await;
    let answer = send(&server, publish(of_size(2))).await;
    problem(&answer, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));

    // They are done, and there is room again.
    fake.hangs.send_replace(false);
    for stream in &mut waiting {
        stream.read_u8().await.unwrap();
    }
    assert_eq!(send(&server, publish(of_size(2))).await.status, 202);
}

#[actix_web::test]
async fn what_the_log_refuses_has_its_status() {
    let (server, fake) = start();
    let full = PublishError::FeedFull { feed: "grants".to_owned(), used: 9, limit: 8 };
    for (error, status, retry_after) in [
        (full, 507, None),
        (PublishError::NodeFull { used: 9, limit: 8 }, 507, None),
        (PublishError::DiskFull { message: "no space left".to_owned() }, 507, None),
        (PublishError::Unwritable { message: "sync failed".to_owned() }, 503, None),
        (PublishError::Overloaded, 503, Some("1")),
    ] {
        *fake.fails.lock().unwrap() = Some(error.clone());
        let answer = send(&server, publish(of_size(2))).await;
        assert_eq!(problem(&answer, status)["detail"], error.to_string());
        assert_eq!(answer.header("retry-after"), retry_after);
    }
    assert_eq!(send(&server, publish(of_size(2))).await.status, 202);
}

#[actix_web::test]
async fn a_body_that_breaks_off_is_not_taken() {
    let (server, fake) = start();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/feeds/grants/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    assert!(fake.events("grants").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_not_waited_for_for_ever() {
    let fake = Arc::new(Fake::default());
    fake.hangs.send_replace(true);
    let node = Node { backend: fake.clone(), door: Door::new(true), body_limit: 9, room: Arc::new(Semaphore::new(9)) };
    let app = test::init_service(App::new().app_data(Data::new(node)).configure(dispatch::register)).await;
    let request = test::TestRequest::post()
        .insert_header(("host", "localhost"))
        .uri("/v1/feeds/grants/events")
        .set_payload("{}")
        .to_request();
    let asked = tokio::time::Instant::now();
    let answer = test::call_service(&app, request).await;
    assert_eq!((answer.status().as_u16(), asked.elapsed().as_secs()), (503, 60));
    assert!(answer.headers().contains_key("retry-after"));
    fake.under_way(0).await;
}

#[actix_web::test]
async fn what_is_in_flight_at_the_end_is_answered_and_then_nobody_listens() {
    let (server, fake) = start();
    fake.hangs.send_replace(true);
    let address = server.address;
    let in_flight = tokio::spawn(async move { publish(of_size(2)).send(address).await.status });
    fake.under_way(1).await;
    let stopping = tokio::spawn(server.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // A slow machine can only make this pass, never fail.
    let cut = tokio::time::timeout(Duration::from_millis(200), fake.under_way(0)).await;
    assert!(cut.is_err(), "the request in flight was cut");
    fake.hangs.send_replace(false);
    assert_eq!(in_flight.await.unwrap(), 202);
    stopping.await.unwrap();
}
