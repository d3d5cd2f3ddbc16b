//! Child processes with an end: what they print is collected, and no test waits for one for ever.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Pid;
pub use rustix::process::Signal;

use crate::wait;

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Output {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "the command failed: {self:?}");
        self.stdout
    }

    /// Both outputs of a command that must have ended with `code`.
    #[track_caller]
    pub fn failed_with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "expected exit code {code}: {self:?}");
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what} can't be started: {error}"));
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    // A command that does not read its input closes the pipe; that is its right.
    let _ = child.stdin.take().expect("stdin is piped").write_all(stdin);
    let status = ended(&mut child, &what);
    let text = |reader: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().expect("reading a pipe does not panic")).into_owned()
    };
    Output { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A command that runs beside the test. It is killed when dropped.
#[derive(Debug)]
pub struct Beside(Child);

impl Beside {
    /// What it prints is nobody's.
    pub fn run(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap_or_else(|error| panic!("the command can't be started: {error}")))
    }

    /// What it says on its standard error is collected.
    pub fn follow(command: &mut Command) -> (Self, Lines) {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("the command can't be started: {error}"));
        let said = Lines::default();
        said.follow(child.stderr.take().expect("stderr is piped"));
        (Self(child), said)
    }

    pub fn signal(&self, with: Signal) {
        signal(self.0.id(), with);
    }

    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        ended(&mut self.0, "the command that was asked to end")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the child has ended; kills it at the deadline.
pub fn ended(child: &mut Child, what: &str) -> ExitStatus {
    let status = wait::within(wait::DEADLINE, || child.try_wait().expect("the child is ours"));
    status.unwrap_or_else(|| {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{what} did not end within {:?}", wait::DEADLINE)
    })
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// The lines that a running process has printed so far.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Collects from `pipe` until it ends.
    pub fn follow(&self, pipe: impl Read + Send + 'static) {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                lines.lock().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    pub fn all(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// Sends a signal to a process that a test has started, or to a descendant of one.
/// It may have ended by itself: then there is nobody to tell.
pub fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("process ids are small and not zero");
    let _ = rustix::process::kill_process(process, signal);
}

/// Stops a process and all its descendants, and says who they are. Children may outlive their
/// parent and have sessions of their own, so they are found by their parents. A stopped process makes
/// no more children: when a round finds nobody new, nobody is missing.
pub fn stop_tree(root: u32) -> Vec<u32> {
    let mut stopped = Vec::new();
    loop {
        let found = tree(root);
        if found.len() == stopped.len() {
            return found;
        }
        found.iter().for_each(|&process| signal(process, Signal::STOP));
        stopped = found;
    }
}

/// A process and all its descendants, itself first.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("Linux has /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, parent(process)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == found[next]).map(|(process, _)| *process);
        let children: Vec<u32> = children.collect();
        found.extend(children);
        next += 1;
    }
    found
}

/// The second field after the name in parentheses, which may hold anything.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// What a process calls itself; empty if it is gone.
pub fn name(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default()
}
