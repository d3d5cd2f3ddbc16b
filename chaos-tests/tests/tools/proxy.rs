//! Each fault of the proxy, in front of a real server and seen from a client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chaos_tests::proxy::{Fault, Proxy, Towards};
use chaos_tests::wait;

/// Answers each byte with itself, and remembers what came on all its connections.
struct Echo {
    address: SocketAddr,
    came: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, came) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<u8>>>::default());
        let all = came.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let came = all.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut bytes) {
                        came.lock().expect("no panic").extend(&bytes[..length]);
                        let _ = stream.write_all(&bytes[..length]);
                    }
                });
            }
        });
        Self { address, came }
    }

    fn came(&self) -> Vec<u8> {
        self.came.lock().expect("no panic").clone()
    }
}

fn stage() -> (Echo, Proxy) {
    let echo = Echo::start();
    let proxy = Proxy::seeded(echo.address, 7);
    (echo, proxy)
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    stream.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout above zero");
    stream
}

/// What comes back for `bytes`, which must be as many.
fn echoed(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).expect("the connection is up");
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).expect("an answer");
    back
}

#[track_caller]
fn assert_works(client: &mut TcpStream) {
    assert_eq!(echoed(client, b"hello"), b"hello");
}

#[track_caller]
fn assert_reset(client: &mut TcpStream) {
    let mut bytes = Vec::new();
    let error = client.read_to_end(&mut bytes).expect_err("a reset");
    assert_eq!((error.kind(), bytes.len()), (ErrorKind::ConnectionReset, 0));
}

#[track_caller]
fn assert_refused(proxy: &Proxy) {
    let error = TcpStream::connect(proxy.addr()).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Nothing comes, for as long as one can wait in a test. It can only err towards passing.
#[track_caller]
fn assert_silent(client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout above zero");
    let error = client.read(&mut [0]).expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.set_read_timeout(Some(wait::DEADLINE)).expect("a timeout above zero");
}

#[test]
fn a_healthy_proxy_forwards_counts_and_passes_the_end_on() {
    let (echo, proxy) = stage();
    let bytes: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    let mut stream = client(&proxy);
    let mut writing = stream.try_clone().expect("a socket can be shared");
    let all = bytes.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(&all).expect("the connection is up");
        writing.shutdown(Shutdown::Write).expect("the connection is up");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the server closes when it has answered all");
    writer.join().expect("no panic");
    assert!(back == bytes && echo.came() == bytes);
    assert_eq!((proxy.connections(), proxy.bytes_to_partner(), proxy.bytes_to_node()), (1, 300_000, 300_000));
}

#[test]
fn a_proxy_that_refuses_leaves_connections_alone_and_comes_back_on_its_address() {
    let (_echo, proxy) = stage();
    let mut before = client(&proxy);
    assert_works(&mut before);
    proxy.set(Fault::Refuse);
    assert_refused(&proxy);
    assert_works(&mut before);
    proxy.heal();
    assert_works(&mut client(&proxy));
    assert_works(&mut before);
}

#[test]
fn a_machine_that_is_down_resets_and_refuses() {
    let (_echo, proxy) = stage();
    let mut before = client(&proxy);
    assert_works(&mut before);
    proxy.set(Fault::Down);
    assert_reset(&mut before);
    assert_refused(&proxy);
    proxy.heal();
    assert_works(&mut client(&proxy));
}

#[test]
fn a_reset_ends_connections_and_every_new_one() {
    let (_echo, proxy) = stage();
    let mut before = client(&proxy);
    assert_works(&mut before);
    proxy.set(Fault::Reset);
    assert_reset(&mut before);
    let mut new = client(&proxy);
    assert_reset(&mut new);
    proxy.heal();
    assert_works(&mut client(&proxy));
}

#[test]
fn latency_is_there_in_each_direction_it_was_set_for() {
    let (_echo, proxy) = stage();
    let mut stream = client(&proxy);
    let base = Duration::from_millis(150);
    for (towards, least) in [(Towards::Both, 2 * base), (Towards::Partner, base), (Towards::Node, base)] {
        proxy.set_towards(towards, Fault::Latency { base, jitter: Duration::from_millis(20) });
        let before = Instant::now();
        assert_works(&mut stream);
        assert!(before.elapsed() >= least, "{towards:?}");
    }
}

#[test]
fn a_narrow_line_takes_its_time_and_changes_nothing() {
    let (_echo, proxy) = stage();
    let mut stream = client(&proxy);
    proxy.set_towards(Towards::Node, Fault::Bandwidth { bytes_per_second: 20_000 });
    let (before, bytes) = (Instant::now(), [7; 10_000]);
    assert_eq!(echoed(&mut stream, &bytes), bytes);
    assert!(before.elapsed() >= Duration::from_millis(500), "10,000 bytes at 20,000 a second");
}

#[test]
fn the_end_of_a_stream_comes_late() {
    let (_echo, proxy) = stage();
    let mut stream = client(&proxy);
    assert_works(&mut stream);
    let late = Duration::from_millis(300);
    proxy.set_towards(Towards::Node, Fault::SlowClose(late));
    let before = Instant::now();
    stream.shutdown(Shutdown::Write).expect("the connection is up");
    assert_eq!(stream.read(&mut [0]).expect("an end in order"), 0);
    assert!(before.elapsed() >= late);
}

#[test]
fn a_black_hole_swallows_what_existing_and_new_connections_send_until_it_heals() {
    let (echo, proxy) = stage();
    let mut before = client(&proxy);
    assert_works(&mut before);
    proxy.set(Fault::BlackHole);
    let mut new = client(&proxy);
    for stream in [&mut before, &mut new] {
        stream.write_all(b"anybody?").expect("the connection is up");
        assert_silent(stream);
    }
    assert_eq!(echo.came(), b"hello");
    proxy.heal();
    for stream in [&mut before, &mut new] {
        let mut back = [0; 8];
        stream.read_exact(&mut back).expect("what waited goes on");
        assert_eq!(&back, b"anybody?");
    }
}

#[test]
fn a_black_hole_in_one_direction_swallows_only_the_answer() {
    let (echo, proxy) = stage();
    let mut stream = client(&proxy);
    proxy.set_towards(Towards::Node, Fault::BlackHole);
    stream.write_all(b"anybody?").expect("the connection is up");
    wait::until("the bytes at the partner", || (echo.came() == b"anybody?").then_some(()));
    assert_silent(&mut stream);
}

#[test]
fn a_connection_is_cut_at_the_byte() {
    let (echo, proxy) = stage();
    let mut existing = client(&proxy);
    assert_works(&mut existing);
    proxy.set_towards(Towards::Partner, Fault::CutAt(3));
    existing.write_all(b"abcdef").expect("the connection is up");
    let mut bytes = Vec::new();
    let error = existing.read_to_end(&mut bytes).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    wait::until("the bytes before the cut", || (echo.came() == b"helloabc").then_some(()));

    proxy.set_towards(Towards::Node, Fault::CutAt(4));
    let mut new = client(&proxy);
    new.write_all(b"uvwxyz").expect("the connection is up");
    let mut bytes = Vec::new();
    let error = new.read_to_end(&mut bytes).expect_err("a reset");
    assert_eq!((error.kind(), bytes.as_slice()), (ErrorKind::ConnectionReset, b"uvwx".as_slice()));
}

#[test]
fn garbage_begins_at_its_byte_changes_each_and_comes_again_with_its_seed() {
    let seen = || {
        let (_echo, proxy) = stage();
        proxy.set_towards(Towards::Node, Fault::Garbage { from: 10 });
        echoed(&mut client(&proxy), &[b'x'; 100])
    };
    let back = seen();
    assert_eq!(back[..10], [b'x'; 10]);
    assert!(back[10..].iter().all(|byte| *byte != b'x'), "{back:?}");
    assert_eq!(back, seen());
}

#[test]
fn a_partner_that_is_not_there_is_a_reset() {
    let (echo, proxy) = stage();
    drop(echo);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    assert_reset(&mut client(&Proxy::start(nobody)));
    assert_works(&mut client(&proxy));
}
