//! The node's file descriptors are used up, while it runs. It neither dies nor spins, says what it lacks, and goes
//! on when there are descriptors again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chaos_tests::node::Node;
use chaos_tests::wait;

use super::edges::Edge;

/// The process that runs in the folder.
fn process_in(home: &Path) -> u32 {
    let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let here = |id: &u32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == home);
    ids.find(here).expect("the node is up")
}

fn open_files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("the node is up").count()
}

fn limit(process: u32, files: usize) {
    let output = Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--nofile={files}:")]).output();
    let output = output.expect("the program prlimit is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Time on a processor, user and system.
fn used(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the node is up");
    let after_name = stat.rsplit_once(')').expect("the name is in brackets").1;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_node_without_descriptors_lives_on_says_so_and_recovers_by_itself() {
    let mut edge = Edge::running(Node::new());
    edge.publish("before");
    edge.judge();
    let process = process_in(&edge.node.path(".").canonicalize().expect("the home is there"));
    // The partners are away until the descriptors are, so that something waits.
    edge.partner.down();
    let (spool, aside) = (edge.node.path("spool"), edge.node.path("spool-aside"));
    fs::rename(&spool, &aside).expect("it is there");
    for n in 0..5 {
        edge.publish(&format!("e{n}"));
    }
    edge.complains("http", "connect");
    fs::rename(&aside, &spool).expect("it is there");
    edge.partner.up();
    let usual = open_files(process);
    limit(process, 3);

    edge.says("Too many open files");
    let (began, cpu) = (Instant::now(), used(process));
    // Connections that can't be accepted wait in the kernel's queue.
    let address = edge.node.port().address();
    let waiting: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).expect("the queue is long")).collect();
    wait::until("deliveries to have been tried for a while", || {
        (began.elapsed() > Duration::from_secs(5)).then_some(())
    });
    let share = (used(process) - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(edge.node.is_running());
    assert!(share < 0.5, "it spins: {share} of a processor");
    drop(waiting);

    limit(process, usual + 500);
    edge.publish("after");
    edge.judge();
    assert_eq!(edge.node.http().get("/readyz").status, 200);
}
