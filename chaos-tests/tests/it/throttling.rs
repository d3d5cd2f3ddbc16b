//! How fast a target may be served: what the partner asks for, and the recipe's rate limit, over a kill too.

use std::time::{Duration, Instant, SystemTime};

use chaos_tests::node::Node;
use chaos_tests::partners::https::Answer;
use chaos_tests::partners::sshd::Sshd;
use chaos_tests::proxy::{Fault, Proxy};
use chaos_tests::wait;

use super::one_target::OneTarget;

/// When requests came, after the first of them.
fn arrivals(stage: &OneTarget) -> Vec<Duration> {
    let received = stage.partner.received();
    let first = received[0].at;
    received.iter().map(|request| request.at.duration_since(first).unwrap_or_default()).collect()
}

#[test]
fn a_partner_that_names_seconds_gets_them_from_the_whole_target() {
    for status in [429, 503] {
        let stage = OneTarget::running("");
        stage.partner.script([Answer::retry_after(status, 2)]);
        stage.publish(0..4);
        stage.until("checkpoint", 4);
        let arrivals = arrivals(&stage);
        assert_eq!(arrivals.len(), 5, "{status}: {arrivals:?}");
        assert!(arrivals[1] >= Duration::from_secs(2), "{status}: {arrivals:?}");
        assert_eq!(stage.target()["opened_total"], 0, "asking for time once is no failure");
        assert!(stage.node.open_tickets().is_empty());
    }
}

#[test]
fn a_partner_that_names_a_date_is_left_alone_until_then() {
    let stage = OneTarget::running("");
    let date = SystemTime::now() + Duration::from_secs(4);
    stage.partner.script([Answer::retry_at(429, date)]);
    stage.publish(0..2);
    stage.until("checkpoint", 2);
    let received = stage.partner.received();
    assert_eq!(received.len(), 3);
    // A date has no fractions of a second.
    assert!(received[1].at >= date - Duration::from_secs(1), "{received:?}");
}

#[test]
fn no_more_requests_start_than_the_rate_lets_over_a_kill() {
    const BURST: usize = 20;
    const BETWEEN: Duration = Duration::from_secs(1);
    let mut stage = OneTarget::running("    rate_limit: {rate: 1/s, burst: 20}\n");
    stage.publish(0..32);
    wait::until("an empty bucket", || (stage.partner.count() > BURST).then_some(()));
    stage.node.kill9();
    stage.node.start();
    stage.until("checkpoint", 32);
    // With this any window of one second has at most rate + burst - 1 of them. Tests and node share a machine: a
    // request may have been under way for a while when it comes. A bucket that a restart fills would let through at
    // once what takes twelve seconds.
    let (arrivals, on_its_way) = (arrivals(&stage), Duration::from_secs(1));
    for (first, &from) in arrivals.iter().enumerate() {
        for (last, &to) in arrivals.iter().enumerate().skip(first + BURST) {
            let least = BETWEEN * u32::try_from(last - first + 1 - BURST).expect("there are few");
            assert!(to - from + on_its_way >= least, "requests {first} to {last} came within {:?}", to - from);
        }
    }
    let limit = &stage.target()["rate_limit"];
    assert_eq!((limit["rate"].as_f64(), limit["burst"].as_u64()), (Some(1.0), Some(20)));
}

#[test]
fn the_opening_of_sftp_sessions_counts_as_well() {
    let (mut node, sshd) = (Node::new(), Sshd::new());
    let proxy = Proxy::start(([127, 0, 0, 1], sshd.port()).into());
    proxy.set(Fault::Reset);
    node.settings(&format!(
        "connect_to:\n  finance.example:22: 127.0.0.1:{}\nknown_hosts: {}\nsecrets_dir: {}\n",
        proxy.addr().port(),
        node.file("known_hosts", &sshd.known_as("finance.example")).display(),
        node.path("secrets").display()
    ));
    node.file("secrets/FINANCE_SSH_KEY", &sshd.client_key());
    node.start().apply(
        "id: slow.sync\nsource:\n  feed: grants\ntargets:\n  - name: finance\n    adapter: sftp\n    \
         host: finance.example\n    path: /a.jsonl\n    format: jsonl\n    rate_limit: 1/s\n    \
         circuit: {failures: 1, open_for: 100ms, max_open_for: 100ms}\nschedule: on_change\n",
    );
    node.publish("grants", "e0", "{}");
    wait::until("a session", || (proxy.connections() > 0).then_some(()));
    let first = Instant::now();
    wait::until("five more", || (proxy.connections() > 5).then_some(()));
    assert!(first.elapsed() >= Duration::from_secs(4), "five sessions in {:?} at 1/s", first.elapsed());
}
