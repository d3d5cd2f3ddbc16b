//! The port: what is written, what is left out, who is fenced off.

use hms_actors::work::{Unit, Work};
use tempfile::tempdir;

use super::*;

fn units(offset: Offset) -> Work {
    Work::Requests(vec![Unit { revision: 1, offsets: [offset].into(), letter: None, seal: 0 }])
}

#[tokio::test]
async fn a_delivery_leaves_the_record_that_the_contract_shows() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    store.commit(&key("gis"), epoch, vec![delivered(0)]).await.unwrap();
    let (seq, line) = store.read_lines(1, 1).unwrap().remove(0);
    let expected = format!(
        concat!(
            r#"{{"attempt":1,"event_id":"e0","feed":"grants","kind":"delivered","offset":0,"payload_sha256":"{}","#,
            r#""receipt":{{"file_offset":0,"length":10,"path":"/inbox/a.csv"}},"recipe":"r.sync","seq":1,"#,
            r#""target":"gis","time":"2026-11-03T10:00:00.000Z"}}"#
        ),
        "01".repeat(32)
    );
    assert_eq!((seq, std::str::from_utf8(&line).unwrap()), (1, expected.as_str()));
}

#[tokio::test]
async fn every_kind_of_record_and_receipt_reads_back_as_it_was_written() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let rest = Receipt::Rest {
        status: 201,
        url: "https://x/\"é".into(),
        idempotency_key: "k".into(),
        response_sha256: [2; 32],
        duration_ms: 12,
        transport: Some(Transport { protocol: "tls", algorithms: "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519".into() }),
    };
    let unsynced = Receipt::File { path: "/p".into(), file_offset: 1, length: 2, fsync: false, transport: None };
    let by = |offset, receipt| Entry::Delivered {
        event: event(offset),
        attempt: 1,
        payload_sha256: [3; 32],
        receipt,
        letter: None,
    };
    let changed = Entry::FileChanged { path: "/p".to_owned(), expected: 3, found: 4 };
    let (policies, reason) = (vec!["no-pii-abroad".to_owned()], "é".to_owned());
    let blocked = Entry::Blocked { event: event(4), attempt: 0, policies, reason, letter: None };
    let entries = vec![by(0, rest), by(1, unsynced), by(2, Receipt::Operator), failed(3), dead(3), changed, blocked];
    store.commit(&key("gis"), epoch, entries).await.unwrap();
    store.commit(&key("gis"), epoch, vec![ticket(Cause::Outage, 3), resolved(1)]).await.unwrap();
    store.operator("circuit.open", "ops", [("target".to_owned(), "gis".to_owned())].into()).await.unwrap();
    store.recipe_changed(change(Change::Paused)).await.unwrap();
    for (seq, line) in store.read_lines(0, 100).unwrap() {
        let record: record::Record = serde_json::from_slice(&line).unwrap();
        assert_eq!(record.seq, seq);
        assert_eq!(crate::proof::canonical::to_vec(&record).unwrap(), line);
    }
    let records = audit(&store);
    assert_eq!(records[2]["receipt"]["fsync"], false);
    assert_eq!(records[3]["receipt"], "operator");
    assert_eq!((&records[4]["failure"], &records[4]["events"]), (&Value::from("transient"), &Value::from(1)));
    let expected = "recipe delivered delivered delivered attempt_failed dead_lettered file_changed blocked \
                    ticket_opened ticket_resolved operator recipe";
    assert_eq!(kinds(&store).join(" "), expected);
}

#[tokio::test]
async fn an_event_is_settled_once_per_target_also_within_one_group() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis", "cobol"]).await;
    let gis = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let cobol = Ledger::open(&*store, &key("cobol")).await.unwrap().epoch;
    let (gis_key, cobol_key) = (key("gis"), key("cobol"));
    let commits = (
        store.commit(&gis_key, gis, vec![delivered(0), delivered(0), delivered(5)]),
        store.commit(&gis_key, gis, vec![delivered(5), dead(0)]),
        store.commit(&cobol_key, cobol, vec![delivered(5)]),
    );
    let (a, b, c) = tokio::join!(commits.0, commits.1, commits.2);
    [a, b, c].into_iter().for_each(|committed| drop(committed.unwrap()));
    store.commit(&gis_key, gis, vec![dead(5)]).await.unwrap();
    assert_eq!(kinds(&store), ["recipe", "delivered", "delivered", "delivered"]);
    let settled = store.settled(&gis_key).unwrap();
    assert_eq!((settled.below(), settled.contains(5), settled.contains(1)), (1, true, false));
    assert_eq!(store.dead_letter_count(), 0);
}

#[tokio::test]
async fn an_older_incarnation_can_neither_begin_nor_settle() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let old = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    store.begin(&key("gis"), old, units(0)).await.unwrap();
    let new = Ledger::open(&*store, &key("gis")).await.unwrap();
    assert_eq!(new.work, Some(units(0)));
    let refused = store.commit(&key("gis"), old, vec![delivered(0)]).await.unwrap_err();
    assert!(refused.message.starts_with("fenced"), "{refused}");
    assert!(store.begin(&key("gis"), old, units(1)).await.is_err());
    assert_eq!(store.work(&key("gis")).await.unwrap(), Some(units(0)));
    store.commit(&key("gis"), new.epoch, vec![delivered(0)]).await.unwrap();
    store.fence(&key("gis"));
    assert!(store.commit(&key("gis"), new.epoch, vec![delivered(1)]).await.is_err());
}

#[tokio::test]
async fn what_was_in_the_queue_of_an_older_incarnation_is_in_what_the_new_one_starts_from() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    for offset in 0..50 {
        let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
        let gis = key("gis");
        let (committed, opened) =
            tokio::join!(store.commit(&gis, epoch, vec![delivered(offset)]), Ledger::open(&*store, &gis));
        let contains = opened.unwrap().settled.contains(offset);
        assert_eq!(contains, committed.is_ok());
        if !contains {
            let epoch = Ledger::open(&*store, &gis).await.unwrap().epoch;
            store.commit(&gis, epoch, vec![delivered(offset)]).await.unwrap();
        }
    }
    assert_eq!(store.settled(&key("gis")).unwrap().below(), 50);
}

#[tokio::test]
async fn many_arbiters_commit_at_once_and_no_number_is_missing() {
    let dir = tempdir().unwrap();
    let names = ["a", "b", "c", "d"];
    let store = with_targets(dir.path(), &names).await;
    let run = |name: &'static str| {
        let store = store.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let epoch = Ledger::open(&*store, &key(name)).await.unwrap().epoch;
                for first in (0..200).step_by(4) {
                    let key = key(name);
                    let commits = (first..first + 4).map(|offset| store.commit(&key, epoch, vec![delivered(offset)]));
                    for done in futures_util::future::join_all(commits).await {
                        done.unwrap();
                    }
                }
            });
        })
    };
    names.map(run).into_iter().for_each(|thread| thread.join().unwrap());
    assert!(names.iter().all(|name| store.settled(&key(name)).unwrap().below() == 200));
    let seqs: Vec<u64> = audit(&store).iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..801).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_incident_has_one_ticket_that_is_kept_up_to_date() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let commit = |entries| async { store.commit(&key("gis"), epoch, entries).await.unwrap() };
    commit(vec![ticket(Cause::Doubt, 1), ticket(Cause::Doubt, 2), ticket(Cause::Outage, 1)]).await;
    commit(vec![ticket(Cause::Doubt, 3)]).await;
    assert_eq!(store.audit_size(), 3);
    let first = store.ticket(1).unwrap();
    assert_eq!((first.attempts, first.last_error.as_str()), (3, "error 3"));
    assert_eq!(store.held_by(&key("gis")), Some(1));
    store.resolve_ticket(1, "resolve", "ops", Some("they arrived".to_owned())).await.unwrap();
    assert!(store.resolve_ticket(1, "resolve", "ops", None).await.is_err());
    assert_eq!(store.tickets(Some(TicketState::Open)).len(), 1);
    let opened = Ledger::open(&*store, &key("gis")).await.unwrap();
    assert_eq!(store.held_by(&key("gis")), None);
    // Closed and opened again in one commit: another incident.
    store.commit(&key("gis"), opened.epoch, vec![resolved(2), resolved(2), ticket(Cause::Outage, 1)]).await.unwrap();
    assert_eq!(store.ticket(3).unwrap().state, TicketState::Open);
    assert_eq!(store.tickets(None).len(), 3);
}

#[tokio::test]
async fn a_dead_letter_keeps_its_own_copy_of_the_event() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    store.commit(&key("gis"), epoch, vec![dead(4), dead(2)]).await.unwrap();
    drop(store);
    let store = open(dir.path());
    let (letter, event) = store.dead_letter(1).await.unwrap().unwrap();
    assert_eq!((letter.offset, letter.attempts, letter.reason.as_str()), (4, 3, "refused"));
    assert_eq!(event, whole_event(4));
    assert_eq!(store.dead_letters(2, 10, |_| true).0[0].offset, 2);
    assert_eq!(store.dead_letter(3).await.unwrap(), None);
}

#[tokio::test]
async fn a_renamed_target_keeps_checkpoint_work_tickets_and_dead_letters() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["cobol", "gis"]).await;
    let opened = Ledger::open(&*store, &key("cobol")).await.unwrap();
    store.begin(&key("cobol"), opened.epoch, units(3)).await.unwrap();
    let entries = vec![delivered(0), dead(1), ticket(Cause::Doubt, 1)];
    store.commit(&key("cobol"), opened.epoch, entries).await.unwrap();
    store.recipe_changed(applied(2, &["finance<cobol", "gis"])).await.unwrap();
    assert!(store.commit(&key("cobol"), opened.epoch, vec![delivered(2)]).await.is_err());
    for _ in 0..2 {
        let renamed = Ledger::open(&*store, &key("finance")).await.unwrap();
        assert_eq!((renamed.settled.below(), renamed.work), (2, Some(units(3))));
        assert_eq!(store.held_by(&key("finance")), Some(1));
        assert_eq!(store.dead_letters(0, 9, |_| true).0[0].key, key("finance"));
        assert!(Ledger::open(&*store, &key("cobol")).await.is_err());
        // A later text may still say where the name came from.
        let revision = store.next_revision(&recipe_id("r.sync"));
        store.recipe_changed(applied(revision, &["finance<cobol", "gis"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_target_takes_its_work_and_leaves_its_dead_letters() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["cobol", "gis"]).await;
    let opened = Ledger::open(&*store, &key("cobol")).await.unwrap();
    store.begin(&key("cobol"), opened.epoch, units(3)).await.unwrap();
    store.commit(&key("cobol"), opened.epoch, vec![delivered(0), dead(1), ticket(Cause::Doubt, 1)]).await.unwrap();
    store.recipe_changed(applied(2, &["gis"])).await.unwrap();
    assert_eq!(store.ticket(1).unwrap().state, TicketState::Resolved);
    // The same name later is another target.
    store.recipe_changed(applied(3, &["gis", "cobol"])).await.unwrap();
    assert!(store.commit(&key("cobol"), opened.epoch, vec![delivered(7)]).await.is_err());
    let again = Ledger::open(&*store, &key("cobol")).await.unwrap();
    assert_eq!((again.settled.below(), again.work), (0, None));
    assert!(again.epoch > opened.epoch);
    assert_eq!(store.dead_letter_count(), 1);
}

#[tokio::test]
async fn a_change_of_a_recipe_that_does_not_fit_is_refused_in_words() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let message = |result: Result<(), Failure>| result.unwrap_err().message;
    assert!(message(store.recipe_changed(applied(1, &["gis"])).await).contains("revision 1"));
    let mut other_feed = applied(2, &["gis"]);
    if let Change::Applied(applied) = &mut other_feed.change {
        applied.feed = FeedName::parse("others").unwrap();
    }
    assert!(message(store.recipe_changed(other_feed.clone()).await).contains("`grants`"));
    store.recipe_changed(change(Change::Paused)).await.unwrap();
    store.recipe_changed(applied(2, &["gis"])).await.unwrap();
    let recipe = store.recipe(&recipe_id("r.sync")).unwrap();
    assert_eq!((recipe.paused, recipe.text(), recipe.texts.len()), (true, "id: r.sync # 2\n", 2));
    store.recipe_changed(change(Change::Deleted)).await.unwrap();
    assert!(store.recipes().is_empty());
    assert!(message(store.recipe_changed(change(Change::Resumed)).await).contains("no recipe"));
    if let Change::Applied(applied) = &mut other_feed.change {
        applied.revision = store.next_revision(&recipe_id("r.sync"));
    }
    store.recipe_changed(other_feed).await.unwrap();
    assert!(!store.recipe(&recipe_id("r.sync")).unwrap().paused);
}

#[tokio::test]
async fn what_comes_after_a_change_of_the_recipe_is_judged_by_the_changed_recipe() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["cobol", "gis"]).await;
    for round in 0..30 {
        let revision = 2 * round + 2;
        let epoch = Ledger::open(&*store, &key("cobol")).await.unwrap().epoch;
        let (cobol, size) = (key("cobol"), store.audit_size());
        let (removed, again, committed) = tokio::join!(
            store.recipe_changed(applied(revision, &["gis"])),
            store.recipe_changed(applied(revision, &["gis"])),
            store.commit(&cobol, epoch, vec![failed(0)])
        );
        removed.unwrap();
        assert!(again.is_err() && committed.is_err());
        assert_eq!(store.audit_size(), size + 1);
        store.recipe_changed(applied(revision + 1, &["cobol", "gis"])).await.unwrap();
    }
}

#[tokio::test]
async fn a_number_that_no_record_can_hold_is_refused_before_it_spoils_a_group() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let lie = Entry::FileChanged { path: "/p".to_owned(), expected: 0, found: u64::MAX };
    assert!(store.commit(&key("gis"), epoch, vec![lie]).await.is_err());
    store.commit(&key("gis"), epoch, vec![delivered(0)]).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    store.healthy().unwrap();
    store.close();
    assert!(store.healthy().is_err());
    assert!(store.commit(&key("gis"), epoch, vec![delivered(0)]).await.unwrap_err().message.contains("closed"));
}
