//! What is kept, what goes, and when: age, readers, budgets, and the memory of ids.

use super::*;

/// Without the room that the last journal has ahead.
fn on_disk(dir: &Path) -> u64 {
    let size = |path| crate::feeds::frame::written(&std::fs::read(path).unwrap(), 0) as u64;
    ["log", "idx", "ids"].iter().flat_map(|kind| files(dir, kind)).map(size).sum()
}

fn after(hours: i64) -> Timestamp {
    Timestamp(hours * HOUR_MS)
}

#[tokio::test]
async fn old_events_go_when_every_reader_has_passed_and_not_before() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    log.start_retention();
    log.register_reader(&feed, "fast", 0);
    log.register_reader(&feed, "slow", 0);
    publish_each(&log, &feed, 0..60).await;
    log.advance(&feed, "fast", 60);
    log.advance(&feed, "slow", 17);
    log.maintain(Timestamp(HOUR_MS - 1)).await;
    assert_eq!(log.oldest(&feed), 0, "too young");
    log.maintain(after(1)).await;
    assert_eq!(offsets(&log, &feed).await, (17..60).collect::<Vec<_>>(), "the slow reader's own");
    log.remove_reader(&feed, "slow");
    log.maintain(after(1)).await;
    assert_eq!((offsets(&log, &feed).await.len(), log.oldest(&feed)), (0, 60));
    assert_eq!(files(dir.path(), "log").len(), 1, "only the segment that is written is left");
    drop(log);
    let log = open(dir.path(), hand.options());
    assert_eq!(log.feed(&feed).map(|feed| (feed.head, feed.oldest, feed.bytes)), Some((60, 60, 0)));
    assert_eq!(log.publish(&feed, numbered(100..101)).await.unwrap()[0].offset, 60, "offsets go on");
}

#[tokio::test]
async fn a_request_that_was_begun_keeps_all_its_events_until_all_are_settled() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let log = open(dir.path(), hand.options());
    publish_each(&log, &feed, 0..60).await;
    // After a crash in the middle of a commit: of the request with 10, 11 and 14 the first is settled.
    log.register_reader(&feed, "reader", 11);
    log.keep(&feed, "reader", 10..15);
    log.start_retention();
    log.maintain(after(1)).await;
    assert_eq!(offsets(&log, &feed).await, (10..60).collect::<Vec<_>>());
    log.advance(&feed, "reader", 14);
    log.maintain(after(1)).await;
    assert_eq!(log.oldest(&feed), 10, "14 is not settled, and goes with 10 and 11");
    log.register_reader(&feed, "reader", 14);
    log.maintain(after(1)).await;
    assert_eq!(log.oldest(&feed), 10, "an apply changes nothing in that");
    log.advance(&feed, "reader", 15);
    log.maintain(after(1)).await;
    assert_eq!(log.oldest(&feed), 15);
    assert_eq!(log.missing(&feed, 15), [], "what retention lets go is not lost");
}

#[tokio::test]
async fn what_was_removed_stays_removed_after_a_restart() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (pinned, gone) = (name("pinned"), name("gone"));
    let log = open(dir.path(), hand.options());
    log.start_retention();
    log.register_reader(&pinned, "reader", 0);
    // The first segment holds one event of `gone` and stays for the others; the next one is removed.
    publish_each(&log, &gone, 0..1).await;
    publish_each(&log, &pinned, 0..20).await;
    publish_each(&log, &gone, 1..40).await;
    // The segment that is written is young: it was begun before anything was removed, and goes on.
    hand.set(HOUR_MS / 2);
    publish_each(&log, &name("young"), 0..40).await;
    log.maintain(after(1)).await;
    assert!(dir.path().join("000000000001.log").exists() && !dir.path().join("000000000002.log").exists());
    drop(log);
    let log = open(dir.path(), hand.options());
    assert_eq!((log.oldest(&gone), offsets(&log, &gone).await.len()), (40, 0));
    assert_eq!(offsets(&log, &pinned).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_goes_before_all_readers_are_known() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), Options { feed_disk: 4_096, ..hand.options() });
    publish_each(&log, &name("a"), 0..30).await;
    log.maintain(after(1_000)).await;
    assert_eq!(log.oldest(&name("a")), 0);
}

#[tokio::test]
async fn ids_are_remembered_after_their_events_are_gone_until_the_window_has_passed() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let feed = name("a");
    let options = || Options { retention: HOUR, dedupe_window: 3 * HOUR, ..hand.options() };
    let log = open(dir.path(), options());
    publish_each(&log, &feed, 0..60).await;
    log.start_retention();
    log.maintain(after(1)).await;
    assert_eq!((log.oldest(&feed), files(dir.path(), "log").len()), (60, 1));
    drop(log);
    let log = open(dir.path(), options());
    log.start_retention();
    log.maintain(Timestamp(3 * HOUR_MS - 1)).await;
    let again = log.publish(&feed, numbered(0..60)).await.unwrap();
    assert!(again.iter().zip(0..).all(|(event, n)| event.duplicate && event.offset == n));
    let refused = log.publish(&feed, vec![event("e7", "{}")]).await.unwrap_err();
    let expected = PublishError::Conflict { id: "e7".into(), offset: 7, differs: "content".into() };
    assert_eq!(refused, expected, "only a hash is left of it");
    log.maintain(after(3)).await;
    assert_eq!(files(dir.path(), "ids").len(), 0);
    assert_eq!(log.publish(&feed, vec![event("e7", "{}")]).await.unwrap()[0].offset, 60);
}

#[tokio::test]
async fn a_slow_reader_pins_only_its_own_bytes() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (busy, slow) = (name("busy"), name("slow"));
    let log = open(dir.path(), hand.options());
    log.start_retention();
    log.register_reader(&slow, "reader", 0);
    for n in 0..30 {
        publish_each(&log, &busy, n * 10..n * 10 + 10).await;
        publish_each(&log, &slow, n..n + 1).await;
    }
    let (before, events) = (on_disk(dir.path()), all(&log, &slow).await);
    log.maintain(after(1)).await;
    let of_logs: u64 = files(dir.path(), "log").iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    let pinned = log.feed(&slow).unwrap().bytes;
    let headers = 24 * files(dir.path(), "log").len() as u64 + 100;
    assert!(of_logs <= pinned + headers, "{of_logs} bytes of logs for {pinned} that are needed; {before} before");
    assert_eq!(all(&log, &slow).await, events);
    drop(log);
    let log = open(dir.path(), hand.options());
    assert_eq!(all(&log, &slow).await, events, "also after a restart");
    assert_eq!((log.oldest(&busy), log.head(&busy).get()), (300, 300));
}

#[tokio::test]
async fn a_full_feed_refuses_for_itself_while_others_publish() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (full, other) = (name("full"), name("other"));
    let log = open(dir.path(), Options { feed_disk: 6_000, ..hand.options() });
    log.start_retention();
    let mut n = 0;
    let refused = loop {
        match log.publish(&full, numbered(n..n + 1)).await {
            Ok(_) => n += 1,
            Err(refused) => break refused,
        }
    };
    let PublishError::FeedFull { feed, used, limit } = refused else { panic!("{refused}") };
    assert_eq!((feed.as_str(), limit), ("full", 6_000));
    assert_eq!(used, log.feed(&full).unwrap().bytes);
    publish_each(&log, &other, 0..10).await;
    assert_eq!(offsets(&log, &full).await.len() as u64, n, "a feed without a reader loses nothing");
    log.register_reader(&full, "reader", 0);
    assert!(log.publish(&full, numbered(n..n + 1)).await.is_err(), "all of it is still needed");
    log.advance(&full, "reader", 10);
    log.publish(&full, numbered(n..n + 1)).await.unwrap();
    let kept = offsets(&log, &full).await;
    assert!(kept[0] > 0 && kept[0] <= 10, "what the reader has passed went first, however young");
    assert_eq!(kept.last(), Some(&n));
}

#[tokio::test]
async fn a_full_node_makes_room_by_what_all_readers_have_passed_and_never_by_what_has_no_reader() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (read, unread) = (name("read"), name("unread"));
    let disk = 60_000;
    let log = open(dir.path(), Options { disk, dedupe_window: Duration::ZERO, ..hand.options() });
    log.start_retention();
    log.register_reader(&read, "reader", 0);
    publish_each(&log, &unread, 0..40).await;
    for n in 0..1_500 {
        publish_each(&log, &read, n..n + 1).await;
        log.advance(&read, "reader", n);
    }
    assert!(on_disk(dir.path()) <= disk + 4_096, "an index more than the budget at the most");
    assert_eq!(offsets(&log, &unread).await, (0..40).collect::<Vec<_>>());
    assert!(log.oldest(&read) > 1_000);
    let mut n = 1_500;
    let refused = loop {
        match log.publish(&read, numbered(n..n + 1)).await {
            Ok(_) => n += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, PublishError::NodeFull { limit: 60_000, .. }), "{refused}");
    assert_eq!(offsets(&log, &read).await.last(), Some(&(n - 1)));
    log.advance(&read, "reader", n);
    log.publish(&read, numbered(n..n + 1)).await.unwrap();
}

#[tokio::test]
async fn feeds_show_their_readers_and_how_far_they_are_behind() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let log = open(dir.path(), hand.options());
    log.register_reader(&name("b"), "x", 0);
    log.publish(&name("a"), numbered(0..5)).await.unwrap();
    log.register_reader(&name("a"), "y", 2);
    log.advance(&name("a"), "y", 1);
    let feeds = log.feeds();
    assert_eq!(feeds.iter().map(|feed| feed.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let reader = &feeds[0].readers[0];
    assert_eq!((feeds[0].head, reader.name.as_str(), reader.position, reader.lag), (5, "y", 2, 3));
    log.remove_reader(&name("b"), "x");
    assert_eq!(log.feed(&name("b")), None);
}

#[tokio::test]
async fn ten_thousand_feeds_live_in_one_journal() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let options = || Options { segment_bytes: 4 << 20, ..hand.options() };
    let log = open(dir.path(), options());
    let feeds: Vec<FeedName> = (0..10_000).map(|n| name(&format!("feed-{n}"))).collect();
    for round in 0..3 {
        for some in feeds.chunks(1_000) {
            let requests = some.iter().map(|feed| log.publish(feed, numbered(round..round + 1)));
            assert!(futures_util::future::join_all(requests).await.iter().all(Result::is_ok));
        }
    }
    assert!(files(dir.path(), "log").len() < 5);
    drop(log);
    let log = open(dir.path(), options());
    assert_eq!(log.feeds().len(), 10_000);
    for feed in feeds.iter().step_by(997) {
        assert_eq!(offsets(&log, feed).await, [0, 1, 2]);
    }
    log.start_retention();
    log.maintain(after(1)).await;
    drop(log);
    let log = open(dir.path(), options());
    assert!(log.feeds().iter().all(|feed| (feed.head, feed.oldest) == (3, 3)));
}

#[tokio::test]
async fn a_feed_that_is_withheld_takes_nothing_and_goes_on_where_it_was_told_to_also_after_a_kill() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let (feed, other) = (name("a"), name("b"));
    let log = open(dir.path(), hand.options());
    log.publish(&feed, numbered(0..3)).await.unwrap();
    log.withhold(&feed, 10);
    let refused = log.publish(&feed, numbered(3..4)).await.unwrap_err();
    assert!(matches!(&refused, PublishError::Withheld { feed } if feed == "a"), "{refused}");
    log.publish(&other, numbered(0..60)).await.unwrap();
    assert_eq!((log.head(&feed).get(), log.withheld(&feed)), (3, Some(10)), "nobody has said a word yet");
    log.go_on(&feed).await;
    assert_eq!((log.head(&feed).get(), log.withheld(&feed)), (10, None));
    let killed = tempfile::tempdir().unwrap();
    for path in ["log", "idx", "ids", "mark"].iter().flat_map(|kind| files(dir.path(), kind)) {
        std::fs::copy(&path, killed.path().join(path.file_name().unwrap())).unwrap();
    }
    let log = open(killed.path(), hand.options());
    assert_eq!(log.publish(&feed, numbered(3..4)).await.unwrap()[0].offset, 10);
    assert_eq!(offsets(&log, &feed).await, [0, 1, 2, 10]);
    assert!(matches!(&log.missing(&feed, 0)[..], [lost] if *lost == (3..10)));
}
