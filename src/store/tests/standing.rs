//! What the records say of how it went: circuits, attempts, dead letters and the tickets that wait for them; the
//! same after a start from the cache and from the audit alone.

use hms_actors::policy::circuit::{CircuitMemory, CircuitState};
use hms_actors::ports::{Ledger, OpenTicket, Standing};
use tempfile::tempdir;

use super::*;

fn refused(offset: Offset, attempt: u32) -> Entry {
    let (kind, error) = (FailureKind::Refused, format!("422 the {attempt}th time"));
    Entry::AttemptFailed {
        event: event(offset),
        events: 1,
        attempt,
        payload_sha256: None,
        kind,
        error,
        may_have_arrived: false,
        retry_after: None,
        letter: None,
    }
}

fn given_up(offset: Offset) -> Entry {
    let Entry::DeadLettered { event, attempt, reason, may_have_arrived, .. } = dead(offset) else { unreachable!() };
    Entry::DeadLettered { event, attempt, reason, may_have_arrived, cause: Some(Cause::Refused) }
}

fn replayed(letter: u64, offset: Offset) -> Entry {
    let Entry::Delivered { event, attempt, payload_sha256, receipt, .. } = delivered(offset) else { unreachable!() };
    Entry::Delivered { event, attempt, payload_sha256, receipt, letter: Some(letter) }
}

fn causes(tickets: &[OpenTicket]) -> Vec<Cause> {
    tickets.iter().map(|ticket| ticket.cause).collect()
}

/// What an incarnation starts from: from the cache, and from the audit alone.
async fn seen_again(dir: &Path, store: Arc<Store>) -> Vec<(Standing, Vec<OpenTicket>)> {
    drop(store);
    let mut seen = Vec::new();
    for rebuilt in [false, true] {
        if rebuilt {
            std::fs::remove_dir_all(dir.join("state")).unwrap();
        }
        let opened = Ledger::open(&*open(dir), &key("gis")).await.unwrap();
        seen.push((opened.standing, opened.tickets));
    }
    seen
}

#[tokio::test]
async fn circuit_failures_and_attempts_survive_a_restart_and_the_loss_of_the_cache() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let memory = CircuitMemory {
        state: CircuitState::Open,
        since: Timestamp(1_000),
        probe_at: Some(Timestamp(31_000)),
        open_for_ms: 30_000,
        opened_total: 4,
    };
    let circuit = Entry::Circuit { memory: memory.clone(), reason: "down".to_owned(), by: None };
    let entries = vec![failed(3), refused(7, 1), failed(3), circuit, ticket(Cause::Outage, 3)];
    store.commit(&key("gis"), epoch, entries).await.unwrap();
    for (standing, tickets) in seen_again(dir.path(), store).await {
        assert_eq!((standing.circuit, standing.failures_in_a_row), (memory.clone(), 2));
        assert_eq!(standing.refused.into_iter().collect::<Vec<_>>(), [7]);
        assert_eq!((standing.tries[&(3, 1)].attempts, standing.tries[&(7, 1)].refused), (2, 1));
        assert_eq!(causes(&tickets), [Cause::Outage]);
    }
}

#[tokio::test]
async fn a_success_ends_the_row_of_failures_and_forgets_the_attempts_at_what_is_settled() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let entries = vec![failed(3), refused(7, 1), delivered(3)];
    store.commit(&key("gis"), epoch, entries).await.unwrap();
    for (standing, _) in seen_again(dir.path(), store).await {
        assert_eq!((standing.failures_in_a_row, standing.refused.len()), (0, 0));
        assert_eq!(standing.tries.into_keys().collect::<Vec<_>>(), [(7, 1)]);
    }
}

#[tokio::test]
async fn a_refused_ticket_closes_with_the_last_of_its_dead_letters_delivered_or_dropped() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let entries = vec![refused(1, 1), refused(1, 2), given_up(1), given_up(2), given_up(3), ticket(Cause::Refused, 3)];
    store.commit(&key("gis"), epoch, entries).await.unwrap();
    let history = store.dead_letter(1).await.unwrap().unwrap().0.history;
    assert_eq!(
        history.iter().map(|note| note.error.as_str()).collect::<Vec<_>>(),
        ["422 the 1th time", "422 the 2th time"]
    );

    let open = store.commit(&key("gis"), epoch, vec![replayed(1, 1)]).await.unwrap();
    assert_eq!(causes(&open), [Cause::Refused]);
    // It does not close by itself before, whatever a delivery says.
    let recovered = Entry::TicketResolved { ticket: 1, action: "recovered", by: None, note: None };
    assert_eq!(causes(&store.commit(&key("gis"), epoch, vec![recovered]).await.unwrap()), [Cause::Refused]);
    store.drop_letter(2, "ops", "sent by hand").await.unwrap();
    assert!(store.drop_letter(2, "ops", "again").await.is_err());
    assert!(store.commit(&key("gis"), epoch, vec![replayed(3, 3)]).await.unwrap().is_empty());
    assert_eq!(store.dead_letter_count(), 0);
    let settled = audit(&store).into_iter().find(|record| record["kind"] == "ticket_resolved").unwrap();
    assert_eq!((&settled["action"], &settled["number"]), (&"settled".into(), &1.into()));
    for (_, tickets) in seen_again(dir.path(), store).await {
        assert!(tickets.is_empty());
    }
}

fn blocked(offset: Offset, policy: &str, letter: Option<u64>) -> Entry {
    let (policies, reason) = (vec![policy.to_owned()], "no".to_owned());
    Entry::Blocked { event: event(offset), attempt: 0, policies, reason, letter }
}

#[tokio::test]
async fn what_policies_hold_survives_a_restart_and_is_forgotten_when_it_is_settled() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let epoch = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let given_up = |offset| {
        let Entry::DeadLettered { event, attempt, reason, may_have_arrived, .. } = dead(offset) else { unreachable!() };
        Entry::DeadLettered { event, attempt, reason, may_have_arrived, cause: Some(Cause::Policy) }
    };
    let all = [0, 1, 2, 3].map(|offset| blocked(offset, "no_pii", None));
    store.commit(&key("gis"), epoch, all.into()).await.unwrap();
    let then = vec![blocked(1, "another", None), delivered(2), given_up(3), ticket(Cause::Policy, 0)];
    store.commit(&key("gis"), epoch, then).await.unwrap();
    // A dead letter that policies still say no to is none the less settled.
    store.commit(&key("gis"), epoch, vec![blocked(3, "no_pii", Some(1))]).await.unwrap();
    // The last dead letter goes, but events are still held.
    store.drop_letter(1, "op", "x").await.unwrap();
    for (standing, tickets) in seen_again(dir.path(), store).await {
        let held: Vec<_> = standing.blocked.iter().map(|(offset, by)| (*offset, by[0].as_str())).collect();
        assert_eq!(held, [(0, "no_pii"), (1, "another")]);
        assert_eq!(causes(&tickets), [Cause::Policy]);
    }
}

#[tokio::test]
async fn a_dead_letter_is_delivered_once_and_only_by_its_own_target() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis", "cobol"]).await;
    let gis = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let cobol = Ledger::open(&*store, &key("cobol")).await.unwrap().epoch;
    store.commit(&key("gis"), gis, vec![given_up(1)]).await.unwrap();
    assert_eq!(store.letter(&key("cobol"), 1).await.unwrap(), None);
    store.commit(&key("cobol"), cobol, vec![replayed(1, 1)]).await.unwrap();
    assert_eq!(store.letter(&key("gis"), 1).await.unwrap(), Some(whole_event(1)));
    store.commit(&key("gis"), gis, vec![replayed(1, 1), replayed(1, 1)]).await.unwrap();
    store.commit(&key("gis"), gis, vec![replayed(1, 1)]).await.unwrap();
    let delivered = audit(&store).into_iter().filter(|record| record["kind"] == "delivered").count();
    assert_eq!(delivered, 1);
}

#[tokio::test]
async fn the_moment_of_a_full_bucket_is_there_after_a_restart_and_an_older_incarnation_can_not_set_it() {
    let dir = tempdir().unwrap();
    let store = with_targets(dir.path(), &["gis"]).await;
    let old = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    let new = Ledger::open(&*store, &key("gis")).await.unwrap().epoch;
    store.pace(&key("gis"), new, Timestamp(77)).await.unwrap();
    assert!(store.pace(&key("gis"), old, Timestamp(99)).await.is_err());
    drop(store);
    assert_eq!(Ledger::open(&*open(dir.path()), &key("gis")).await.unwrap().full_at, Some(Timestamp(77)));
}
