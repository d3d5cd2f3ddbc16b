//! A server that stops in the middle of a write: the wait ends, the thread is free, nothing is lost or doubled
//! once it goes on.

use std::sync::mpsc;
use std::time::Duration;

use hms_actors::failure::FailureKind;
use hms_actors::ports::WriteTo;

use crate::contract::noise;
use crate::sftp::{Setup, connect};
use crate::sshd::Sshd;

/// Far beyond what any of these tests takes: a thread that is blocked for ever must not block the test run.
const NEVER: Duration = Duration::from_secs(120);

/// More than the sockets and the server can hold back: a write of it can't end while the server is stopped.
const LARGE: usize = 64 * 1024 * 1024;

#[test]
fn a_server_that_stops_in_the_middle_of_a_write_times_out_and_the_next_connection_finishes_it() {
    must_end(async || {
        let sshd = Sshd::start();
        let mut setup = Setup::of(&sshd);
        setup.target.timeout = Duration::from_secs(2);
        let partner = setup.partner(&sshd);
        let path = sshd.path("grants.csv").display().to_string();
        let bytes = noise(LARGE);

        let mut host = connect(&partner).await.unwrap();
        let write = host.write(&path, 0, &bytes, WriteTo::Fresh);
        let (written, ()) = tokio::join!(write, stop_once_it_grows(&sshd, &path));
        let failure = written.unwrap_err();
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, false), "{failure}");
        assert!(failure.message.contains("no answer within 2s"), "{failure}");
        assert!(host.length(&path).await.unwrap_err().message.contains("was closed"));
        drop(host);

        sshd.signal("CONT");
        let mut host = connect(&partner).await.unwrap();
        host.write(&path, 0, &bytes, WriteTo::Existing).await.unwrap();
        assert_eq!(host.length(&path).await, Ok(Some(LARGE as u64)));
        assert!(std::fs::read(&path).unwrap() == bytes, "the file differs");
    });
}

#[test]
fn a_write_that_is_abandoned_half_way_leaves_nothing_behind_that_blocks() {
    must_end(async || {
        let sshd = Sshd::start();
        let partner = Setup::of(&sshd).partner(&sshd);
        let path = sshd.path("grants.csv").display().to_string();
        let bytes = noise(LARGE);

        let mut host = connect(&partner).await.unwrap();
        let write = host.write(&path, 0, &bytes, WriteTo::Fresh);
        tokio::select! {
            biased;
            () = stop_once_it_grows(&sshd, &path) => {}
            written = write => panic!("nobody has stopped it: {written:?}"),
        }
        assert!(host.length(&path).await.unwrap_err().message.contains("was closed"));
        drop(host);
        assert!(connect(&partner).await.is_ok());
    });
}

#[test]
fn a_host_that_accepts_and_says_nothing_is_an_outage() {
    must_end(async || {
        let sshd = Sshd::start();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut setup = Setup::of(&sshd);
        setup.target.timeout = Duration::from_millis(300);
        for address in setup.connect_to.0.values_mut() {
            address.1 = silent.local_addr().unwrap().port();
        }
        let failure = connect(&setup.partner(&sshd)).await.err().expect("it has connected");
        assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, true), "{failure}");
        assert!(failure.message.contains("SSH handshake"), "{failure}");
    });
}

/// Stops the server as soon as it has written something.
async fn stop_once_it_grows(sshd: &Sshd, path: &str) {
    while std::fs::metadata(path).map_or(0, |found| found.len()) == 0 {
        tokio::task::yield_now().await;
    }
    sshd.signal("STOP");
}

/// Runs `test` on a thread of its own and fails if that never ends.
fn must_end<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _done = done;
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    match ended.recv_timeout(NEVER) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the thread is blocked"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}
