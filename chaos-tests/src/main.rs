//! `cargo run -p chaos-tests`: runs scenarios against the real program and says what the judge found.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chaos_tests::node::Node;
use chaos_tests::report::Report;
use chaos_tests::runner::{self, Story};
use chaos_tests::scenario::{self, Scenario};
use chaos_tests::timeline;
use chaos_tests::{backlog, bench, compare};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

/// Takes the real `hms`, real partners and a seed, does harm, and judges from outside whether every promise was kept.
#[derive(Debug, Parser)]
#[command(name = "chaos-tests", version, max_term_width = 100, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Examples:
  chaos-tests list
  chaos-tests run node-killed-at-random --seed 7 --rounds 200 --out report/
  chaos-tests run all
  chaos-tests soak --minutes 60 --out soak/

The program is the one that HMS_BIN names, else the `hms` or `hms-faults` of the same build, whichever is newer
(`cargo build -p hms-sync -p chaos-tests`). Scenarios with an SFTP server need root and OpenSSH's sshd.

Exit codes: 0 every promise was kept, 1 one was broken or a run broke off, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// All scenarios, with what happens in them
    List,
    /// Prints what a seed makes of a scenario, and runs nothing
    Schedule {
        scenario: String,
        #[command(flatten)]
        dice: Dice,
    },
    /// Runs one scenario, or `all`
    Run {
        scenario: String,
        #[command(flatten)]
        dice: Dice,
        #[command(flatten)]
        output: Output,
    },
    /// Measures the throughput of half of many targets while the other half hangs, beside a run without faults
    Compare {
        #[arg(long, default_value_t = 1000)]
        targets: usize,
        #[arg(long, default_value_t = 20)]
        events: usize,
        /// Of each of the three, one after the other
        #[arg(long, default_value_t = 2)]
        turns: usize,
        #[arg(long)]
        json: bool,
    },
    /// Measures what a backlog costs in memory and on disk: one of two partners is down, and comes back
    Backlog {
        #[arg(long, default_value_t = 1_000_000)]
        events: usize,
        #[arg(long)]
        json: bool,
    },
    /// Measures speed and size, each beside its reference in the same run: docs/performance.md
    Bench(bench::command::Arguments),
    /// Runs all scenarios by turns, each time with the next seed, until the time is over or a promise is broken
    Soak {
        #[arg(long)]
        minutes: u64,
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, Args)]
struct Dice {
    /// The same seed gives the same schedule of faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Unless given, the scenario's own number
    #[arg(long)]
    rounds: Option<u32>,
}

#[derive(Debug, Args)]
struct Output {
    /// Writes SCENARIO-SEED/report.json and timeline.svg below this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Prints the reports as JSON, one a line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(wrong) => {
            eprintln!("chaos-tests: {wrong}");
            ExitCode::from(2)
        }
    }
}

impl Command {
    /// Whether every promise was kept; an error is wrong usage.
    fn run(self) -> Result<bool, String> {
        match self {
            Self::List => list(),
            Self::Schedule { scenario, dice } => {
                for scenario in wanted(&scenario)? {
                    print!("{}", scenario.schedule(dice.seed, dice.rounds.unwrap_or(scenario.rounds)));
                }
            }
            Self::Run { scenario, dice, output } => {
                let scenarios = wanted(&scenario)?;
                ready(&output)?;
                let runs = scenarios.iter().map(|scenario| one(scenario, dice, &output));
                return Ok(runs.fold(true, |all, good| all & good));
            }
            Self::Compare { targets, events, turns, json } => {
                ready(&Output { out: None, json })?;
                told(&compare::half_hang(targets, events, turns), json);
            }
            Self::Backlog { events, json } => {
                ready(&Output { out: None, json })?;
                let cost = backlog::measure(events);
                told(&cost, json);
                return Ok(cost.is_good());
            }
            Self::Bench(arguments) => return arguments.run(),
            Self::Soak { minutes, seed, output } => {
                ready(&output)?;
                return Ok(soak(Duration::from_secs(60 * minutes), seed, &output));
            }
        }
        Ok(true)
    }
}

fn told(measured: &(impl Serialize + Display), json: bool) {
    match json {
        true => println!("{}", serde_json::to_string(measured).expect("numbers are JSON")),
        false => print!("{measured}"),
    }
}

fn list() {
    for scenario in scenario::all() {
        println!("{:<46}{:>4} rounds\n    {}", scenario.name, scenario.rounds, scenario.about);
    }
}

fn wanted(name: &str) -> Result<Vec<&'static Scenario>, String> {
    if name == "all" {
        return Ok(scenario::all());
    }
    let found = scenario::find(name).map(|scenario| vec![scenario]);
    found.ok_or_else(|| format!("there is no scenario `{name}`; `chaos-tests list` names them"))
}

/// What can be said before anything runs.
fn ready(output: &Output) -> Result<(), String> {
    Node::newest().ok_or("no hms to test: run `cargo build -p hms-sync -p chaos-tests`, or set HMS_BIN to one")?;
    match &output.out {
        Some(folder) => fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display())),
        None => Ok(()),
    }
}

fn one(scenario: &'static Scenario, dice: Dice, output: &Output) -> bool {
    let (story, report) = runner::run(scenario, dice.seed, dice.rounds.unwrap_or(scenario.rounds));
    match output.json {
        true => println!("{}", serde_json::to_string(&report).expect("a report has only text and numbers")),
        false => print!("{report}"),
    }
    if let Some(folder) = &output.out
        && let Err(error) = write(folder, &story, &report)
    {
        eprintln!("chaos-tests: {}: {error}", folder.display());
        return false;
    }
    report.is_good()
}

fn write(folder: &Path, story: &Story, report: &Report) -> std::io::Result<()> {
    let folder = folder.join(format!("{}-{}", report.scenario, report.seed));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)?)?;
    fs::write(folder.join("timeline.svg"), timeline::draw(story))
}

fn soak(time: Duration, first: u64, output: &Output) -> bool {
    let end = Instant::now() + time;
    for seed in first.. {
        for scenario in scenario::all() {
            if Instant::now() >= end {
                return true;
            }
            if !one(scenario, Dice { seed, rounds: None }, output) {
                return false;
            }
        }
    }
    true
}
