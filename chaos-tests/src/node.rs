//! A node: the real `hms` program in a process, a folder and a port of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, Client};
use crate::port::Port;
use crate::process::{self, Beside, Lines, Output, Signal};
use crate::wait;

/// A node that may be up or down. It is killed when dropped.
pub struct Node {
    program: PathBuf,
    home: TempDir,
    port: Port,
    env: BTreeMap<String, String>,
    /// What `hms.yaml` says besides data folder and address.
    settings: String,
    /// Whether it is started without `--insecure-loopback`.
    asks_for_tokens: bool,
    /// For a node that speaks TLS.
    client: Option<Client>,
    log: Lines,
    running: Option<Child>,
}

impl Node {
    /// The program as users get it.
    pub fn new() -> Self {
        let given = std::env::var_os("HMS_BIN").map(PathBuf::from);
        Self::of(given.unwrap_or_else(|| built("hms", "cargo build --release -p hms-sync")))
    }

    /// Whatever program of ours there is: `HMS_BIN`, else what was built last, with fault points or without.
    pub fn newest() -> Option<PathBuf> {
        if let Some(given) = std::env::var_os("HMS_BIN") {
            return Some(PathBuf::from(given)).filter(|path| path.is_file());
        }
        let built = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
        ["hms", "hms-faults"].into_iter().filter_map(beside).max_by_key(built)
    }

    /// The `hms` of the same build, if there is one.
    pub fn released() -> Option<PathBuf> {
        beside("hms")
    }

    /// The program with fault points, which otherwise is the same.
    pub fn faulty() -> Self {
        Self::of(built("hms-faults", "cargo build --release -p chaos-tests"))
    }

    pub fn of(program: PathBuf) -> Self {
        Self {
            program,
            home: tempfile::tempdir().expect("the temporary folder is writable"),
            port: Port::reserve(),
            env: BTreeMap::new(),
            settings: String::new(),
            asks_for_tokens: false,
            client: None,
            log: Lines::default(),
            running: None,
        }
    }

    /// An environment variable of the node, from its next start on.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The node's next life is without the variable.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.env.remove(name);
        self
    }

    /// From the next start on it asks for tokens.
    pub fn ask_for_tokens(&mut self) -> &mut Self {
        self.asks_for_tokens = true;
        self
    }

    /// How it is spoken to from now on.
    pub fn speak_through(&mut self, client: Client) -> &mut Self {
        self.client = Some(client);
        self
    }

    /// Lines of `hms.yaml`, from the next start on.
    pub fn settings(&mut self, yaml: &str) -> &mut Self {
        self.settings.push_str(yaml);
        self
    }

    /// Replaces the lines of `hms.yaml` and has the running node read them.
    pub fn reconfigure(&mut self, yaml: &str) {
        yaml.clone_into(&mut self.settings);
        self.configuration();
        let running = self.running.as_ref().expect("the node is up");
        process::signal(running.id(), Signal::HUP);
    }

    fn configuration(&self) -> PathBuf {
        let (data_dir, address) = (self.data_dir(), self.port.address());
        let first = format!("data_dir: {}\nlisten: {address}\ntimezone: UTC\n", data_dir.display());
        self.file("hms.yaml", &(first + &self.settings))
    }

    /// Writes a file into the node's home, where `hms.yaml` is.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("the path has a folder")).expect("the home is writable");
        fs::write(&path, text).expect("the home is writable");
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    pub fn http(&self) -> Client {
        self.client.clone().unwrap_or_else(|| Client::new(self.port.address()))
    }

    /// Starts the node and waits until it is ready.
    pub fn start(&mut self) -> &mut Self {
        self.start_with(None);
        self
    }

    /// Starts a node that ends, as kill -9 would, when it passes `point`.
    pub fn start_to_die_at(&mut self, point: &str) -> &mut Self {
        self.start_with(Some(point));
        self
    }

    fn start_with(&mut self, fault: Option<&str>) {
        let mut command = self.serve();
        if let Some(point) = fault {
            command.env("HMS_FAULT", point);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program can be started");
        self.log.follow(child.stderr.take().expect("stderr is piped"));
        self.running = Some(child);
        let client = self.http();
        let ready = wait::within(wait::DEADLINE, || {
            let is_ready = client.send("GET", "/readyz", &[], Vec::new()).is_ok_and(|answer| answer.status == 200);
            (is_ready || !self.is_running()).then_some(is_ready)
        });
        assert_eq!(ready, Some(true), "the node did not become ready:\n{}", self.log());
    }

    /// The command that starts this node, for tests of starts that must fail.
    pub fn serve(&self) -> Command {
        let mut command = self.command();
        command.args(["serve", "--config"]).arg(self.configuration());
        if !self.asks_for_tokens {
            command.arg("--insecure-loopback");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// What the program says of itself.
    pub fn version(&self) -> String {
        let printed = process::run(self.command().arg("--version"), b"").stdout;
        printed.trim().to_owned()
    }

    /// The program in its home, with nothing of this process's own hms settings.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HMS_")) {
            command.env_remove(name);
        }
        command.envs(&self.env).current_dir(self.home.path());
        command
    }

    /// Runs a command of `hms` against this node.
    pub fn cli<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.cli_with_input(args, b"")
    }

    pub fn cli_with_input<'a>(&self, args: impl IntoIterator<Item = &'a str>, stdin: &[u8]) -> Output {
        let mut command = self.command();
        command.args(args).args(["--node", self.http().base()]);
        process::run(&mut command, stdin)
    }

    /// The same, without waiting for its end.
    pub fn cli_beside<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Beside {
        Beside::run(self.command().args(args).args(["--node", self.http().base()]))
    }

    /// Its process, while it is up.
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    pub fn is_running(&mut self) -> bool {
        let status = self.running.as_mut().map(|child| child.try_wait().expect("the child is ours"));
        matches!(status, Some(None))
    }

    /// Waits for a node that is going to die by itself.
    pub fn wait_until_dead(&mut self) {
        if let Some(mut child) = self.running.take() {
            process::ended(&mut child, "the node that was to die");
        }
    }

    /// Ends the node between any two of its instructions.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
        }
    }

    /// Sends the node a signal.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.running.as_ref().expect("the node is up").id(), signal);
    }

    /// Asks the node to end, which it must do in order.
    #[track_caller]
    pub fn terminate(&mut self) {
        let mut child = self.running.take().expect("the node is up");
        process::signal(child.id(), Signal::TERM);
        let status = process::ended(&mut child, "the node that was asked to end");
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills the node and starts it again.
    pub fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    /// Everything the node has logged over all its lives.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.all()
    }

    fn log(&self) -> String {
        self.log_lines().join("\n")
    }

    /// Writes a recipe into the node's home and applies it, which must succeed; gives what was printed.
    #[track_caller]
    pub fn apply(&self, recipe: &str) -> String {
        self.try_apply(recipe).ok()
    }

    pub fn try_apply(&self, recipe: &str) -> Output {
        let path = self.file("recipe.yaml", recipe).display().to_string();
        self.cli(["sync", "apply", &path])
    }

    /// `hms sync run`, which must succeed for all targets.
    #[track_caller]
    pub fn run(&self, recipe: &str) -> String {
        self.cli(["sync", "run", recipe]).ok()
    }

    /// Publishes an event, which must be acknowledged; gives its offset.
    #[track_caller]
    pub fn publish(&self, feed: &str, id: &str, data: &str) -> u64 {
        let answer = self.try_publish(feed, id, data).expect("the node answers").expect(202).json();
        answer["events"][0]["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {answer}"))
    }

    pub fn try_publish(&self, feed: &str, id: &str, data: &str) -> Result<Answer, reqwest::Error> {
        let headers = [("content-type", "application/json"), ("ce-id", id)];
        self.http().send("POST", &format!("/v1/feeds/{feed}/events"), &headers, data.into())
    }

    /// What the node says about a target of a recipe.
    #[track_caller]
    pub fn target(&self, recipe: &str, target: &str) -> Value {
        let answer = self.http().get(&format!("/v1/recipes/{recipe}")).expect(200).json();
        let targets = answer["targets"].as_array().unwrap_or_else(|| panic!("no targets in {answer}"));
        let found = targets.iter().find(|entry| entry["target"] == target || entry["name"] == target);
        found.unwrap_or_else(|| panic!("no target {target} in {answer}")).clone()
    }

    /// The audit so far, record by record, as far as the node has it.
    pub fn audit(&self) -> Vec<Value> {
        let mut records: Vec<Value> = Vec::new();
        loop {
            let last = records.last().and_then(|last| last["seq"].as_u64());
            let from = last.map_or(String::new(), |last| format!("from={}&", last + 1));
            let page = self.http().get(&format!("/v1/audit?{from}limit=1000")).expect(200).text();
            if page.is_empty() {
                return records;
            }
            records.extend(page.lines().map(|line| -> Value { serde_json::from_str(line).expect("a line is JSON") }));
        }
    }

    /// The open tickets.
    pub fn open_tickets(&self) -> Vec<Value> {
        let answer = self.http().get("/v1/tickets?state=open").expect(200).json();
        answer["tickets"].as_array().unwrap_or_else(|| panic!("no tickets in {answer}")).clone()
    }

    /// Answers a ticket over the admin endpoint.
    pub fn answer_ticket(&self, number: u64, action: &str, note: Option<&str>) -> Answer {
        let body = json!({"action": action, "note": note}).to_string();
        self.http().post(&format!("/v1/tickets/{number}"), &[("content-type", "application/json")], body)
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the node's log:\n{}\n---", self.log());
        }
    }
}

/// A program beside our own, or beside the folder of the tests: cargo puts tests into `<profile>/deps` and
/// programs into `<profile>`.
fn beside(name: &str) -> Option<PathBuf> {
    let ours = std::env::current_exe().ok()?;
    ours.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn built(name: &str, how: &str) -> PathBuf {
    beside(name).unwrap_or_else(|| panic!("{name} is missing: run `{how}` in this profile first, or set HMS_BIN"))
}
