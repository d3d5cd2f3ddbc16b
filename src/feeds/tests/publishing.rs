//! Publishing, repeats, conflicts and reading.

use super::*;
use crate::feeds::OpenError;

type Change = fn(&mut NewEvent);

#[tokio::test]
async fn events_are_read_as_they_were_published_also_after_a_restart() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("grants");
    hand.set(77);
    let log = open(dir.path(), hand.options());
    let sent = numbered(0..100);
    for event in &sent {
        log.publish(&feed, vec![event.clone()]).await.unwrap();
    }
    let before = all(&log, &feed).await;
    assert!(files(dir.path(), "idx").len() > 3, "several segments are sealed");
    drop(log);
    let log = open(dir.path(), hand.options());
    let after = all(&log, &feed).await;
    assert_eq!(before, after);
    for (n, (read, sent)) in after.iter().zip(&sent).enumerate() {
        assert_eq!((read.offset, read.published), (n as u64, Timestamp(77)));
        assert_eq!((&read.id, &read.data, &read.subject), (&sent.id, &sent.data, &sent.subject));
        assert_eq!((&*read.source, &*read.kind, &read.extensions), (&*sent.source, &*sent.kind, &sent.extensions));
    }
    assert_eq!(log.head(&feed).get(), 100);
}

#[tokio::test]
async fn a_read_keeps_to_its_bounds_and_gives_at_least_one_event() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (feed, other) = (name("a"), name("b"));
    let log = open(dir.path(), hand.options());
    for n in 0..60 {
        publish_each(&log, &feed, n..n + 1).await;
        publish_each(&log, &other, n..n + 1).await;
    }
    let read = |from, until, events, bytes| {
        let (log, feed) = (log.clone(), feed.clone());
        async move {
            let read = log.read(&feed, from, until, events, bytes).await.unwrap();
            read.iter().map(|event| event.offset).collect::<Vec<_>>()
        }
    };
    assert_eq!(read(10, 50, 100, 1 << 20).await, (10..50).collect::<Vec<_>>());
    assert_eq!(read(10, 50, 7, 1 << 20).await, (10..17).collect::<Vec<_>>());
    assert_eq!(read(10, 50, 100, 1).await, [10]);
    assert_eq!(read(10, 50, 100, 8).await, [10], "eight bytes are reached with the first");
    assert_eq!(read(10, 50, 100, 9).await, [10, 11], "stops after the event that reaches the limit");
    assert_eq!(read(60, 70, 100, 100).await, [0; 0]);
    assert_eq!(read(50, 50, 100, 100).await, [0; 0]);
    assert_eq!(log.read(&name("unknown"), 0, 9, 9, 9).await.unwrap(), []);
}

#[tokio::test]
async fn the_same_event_again_is_a_duplicate_with_the_same_offset() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    publish_each(&log, &feed, 0..60).await;
    let again = log.publish(&feed, numbered(0..61)).await.unwrap();
    let expected: Vec<Accepted> =
        (0..61).map(|n| Accepted { id: format!("e{n}"), offset: n, duplicate: n < 60 }).collect();
    assert_eq!(again, expected);
    drop(log);
    let log = open(dir.path(), hand.options());
    let again = log.publish(&feed, numbered(0..61)).await.unwrap();
    assert!(again.iter().all(|event| event.duplicate));
    assert_eq!(log.publish(&name("b"), numbered(0..1)).await.unwrap()[0].offset, 0, "ids are a feed's own");
    assert_eq!(offsets(&log, &feed).await, (0..61).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_id_used_for_something_else_is_refused_with_what_differs_and_nothing_of_the_request_is_stored() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    publish_each(&log, &feed, 0..60).await;
    for sealed in ["e3", "e59"] {
        let number = &sealed[1..];
        let kept = event(sealed, &format!(r#"{{"n":{number}}}"#));
        let changes: [(&str, Change); 4] = [
            ("source", |event| event.source.push('x')),
            ("type", |event| event.kind.push('x')),
            ("subject", |event| event.subject = None),
            ("data", |event| event.data = r#"{"n":"x"}"#.into()),
        ];
        for (expected, change) in changes {
            let mut other = kept.clone();
            change(&mut other);
            let refused = log.publish(&feed, vec![event("new", "{}"), other]).await.unwrap_err();
            let offset = number.parse().unwrap();
            assert_eq!(refused, PublishError::Conflict { id: sealed.to_owned(), offset, differs: expected.to_owned() });
        }
        let mut other = kept;
        other.time = Some("2026-01-01T00:00:00Z".to_owned());
        other.extensions.clear();
        assert!(log.publish(&feed, vec![other]).await.unwrap()[0].duplicate, "time and extensions may differ");
    }
    assert_eq!(log.head(&feed).get(), 60);
}

#[tokio::test]
async fn key_order_does_not_make_a_repeat_a_conflict() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    log.publish(&feed, vec![event("1", r#"{"a":1.10,"b":[2]}"#)]).await.unwrap();
    let again = log.publish(&feed, vec![event("1", r#"{"b":[2],"a":1.10}"#)]).await.unwrap();
    assert_eq!(again, [Accepted { id: "1".into(), offset: 0, duplicate: true }]);
    assert!(log.publish(&feed, vec![event("1", r#"{"b":[2],"a":1.1}"#)]).await.is_err());
}

#[tokio::test]
async fn the_same_id_twice_in_one_request_is_one_event_or_a_conflict() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    let twice = vec![event("1", r#"{"a":1,"b":2}"#), event("2", "{}"), event("1", r#"{"b":2,"a":1}"#)];
    let accepted = log.publish(&feed, twice).await.unwrap();
    let short: Vec<_> = accepted.iter().map(|event| (event.offset, event.duplicate)).collect();
    assert_eq!(short, [(0, false), (1, false), (0, true)]);
    let refused = log.publish(&feed, vec![event("3", "{}"), event("3", "[]")]).await.unwrap_err();
    assert!(matches!(refused, PublishError::Conflict { differs, .. } if differs == "data"));
    assert_eq!(offsets(&log, &feed).await, [0, 1]);
    assert_eq!(log.publish(&feed, Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn requests_of_one_group_see_one_another() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    let requests = (0..50).map(|n| log.publish(&feed, numbered(n / 2..n / 2 + 1)));
    let answers = futures_util::future::join_all(requests).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let accepted = answer.unwrap().remove(0);
        assert_eq!((accepted.offset, accepted.duplicate), (n as u64 / 2, n % 2 == 1));
    }
    let conflicting = futures_util::future::join_all([
        log.publish(&feed, vec![event("x", r#"{"a":1,"b":2}"#)]),
        log.publish(&feed, vec![event("x", r#"{"b":2,"a":1}"#)]),
        log.publish(&feed, vec![event("x", "{}")]),
    ])
    .await;
    assert!(conflicting[1].as_ref().unwrap()[0].duplicate);
    assert!(matches!(&conflicting[2], Err(PublishError::Conflict { differs, .. }) if differs == "data"));
}

#[tokio::test]
async fn the_head_tells_those_who_wait() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    let head = log.head(&feed);
    assert_eq!((head.get(), log.feeds().len()), (0, 0), "asking about a feed does not make it exist");
    log.publish(&feed, numbered(0..3)).await.unwrap();
    head.beyond(0).await;
    assert_eq!(head.get(), 3);
    let log_too = log.clone();
    let elsewhere = std::thread::spawn(move || futures_executor(log_too.publish(&name("a"), numbered(3..4))));
    assert_eq!(elsewhere.join().unwrap().unwrap()[0].offset, 3, "no runtime is needed to publish");
}

/// Waits for a future on a thread without a runtime.
fn futures_executor<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test]
async fn a_second_node_is_kept_out_until_the_first_is_gone() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    let refused = FeedLog::open(dir.path(), hand.options()).err().unwrap();
    assert!(matches!(refused, OpenError::Locked(_)));
    assert!(refused.to_string().contains("in use by another node"), "{refused}");
    drop(log);
    open(dir.path(), hand.options());
}

#[tokio::test]
async fn a_closed_log_refuses_and_still_reads() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    publish_each(&log, &name("a"), 0..40).await;
    assert_eq!(log.healthy(), Ok(()));
    log.close();
    assert!(log.healthy().is_err());
    assert!(matches!(log.publish(&name("a"), numbered(0..1)).await, Err(PublishError::Unwritable { .. })));
    assert_eq!(all(&log, &name("a")).await.len(), 40);
}

#[tokio::test]
async fn times_of_publication_are_found_by_offset_and_offsets_by_time() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    for n in 0..60 {
        hand.set(n * 10);
        publish_each(&log, &feed, n as u64..n as u64 + 1).await;
    }
    drop(log);
    let log = open(dir.path(), hand.options());
    {
        for n in 0..60u64 {
            let at = Timestamp(n as i64 * 10);
            assert_eq!(log.first_published(&feed, n).unwrap(), Some(at));
            assert_eq!(log.offset_at(&feed, at).unwrap(), n);
            assert_eq!(log.offset_at(&feed, Timestamp(at.0 + 1)).unwrap(), n + 1);
        }
        assert_eq!(log.first_published(&feed, 60).unwrap(), None);
        assert_eq!(log.offset_at(&name("unknown"), Timestamp(0)).unwrap(), 0);
    }
}
