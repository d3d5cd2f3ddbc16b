//! `chaos-tests bench`: which rows, how large, and where the figures go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};

use super::results::Results;
use super::{Bench, Settings, all, machine, page};
use crate::node::Node;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    report: Option<Report>,
    /// `all`, or some of the rows; without any they are listed
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Node and reference, so many times one after the other
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Of the sizes in docs/performance.md
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Writes all raw figures to this file; rows that it has already and that are not run now stay
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Report {
    /// Makes the table and the picture of a file with figures, and runs nothing
    Report {
        file: PathBuf,
        /// The page that has the table between its markers
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

impl Arguments {
    /// Whether every run was judged to be good; an error is wrong usage.
    pub fn run(self) -> Result<bool, String> {
        if let Some(Report::Report { file, page, svg }) = self.report {
            return report(&file, page.as_deref(), svg.as_deref()).map(|()| true);
        }
        if self.rows.is_empty() {
            all().iter().for_each(|bench| println!("{:<18}{}", bench.name, bench.about));
            return Ok(true);
        }
        let benches = wanted(&self.rows)?;
        let settings = Settings { program: released()?, turns: self.turns.max(1), scale: self.scale };
        let mut results = begun(&settings, self.json.as_deref())?;
        for bench in benches {
            results.take(bench.measure(&settings));
            // After each row: what is measured is not lost with what comes after it.
            if let Some(file) = &self.json {
                let text = serde_json::to_string_pretty(&results).expect("numbers are JSON");
                fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        print!("{}", page::table(&results));
        for row in results.rows.iter().filter(|row| !row.is_good()) {
            let blind = if row.judge_notices { "" } else { "the judge does not see what is missing or twice" };
            eprintln!("chaos-tests: {}: {blind}{}", row.name, row.violations.join("\n  "));
        }
        Ok(results.is_good())
    }
}

fn wanted(names: &[String]) -> Result<Vec<&'static Bench>, String> {
    if names.iter().any(|name| name == "all") {
        return Ok(all().iter().collect());
    }
    let find = |name: &String| {
        let found = all().iter().find(|bench| bench.name == name);
        found.ok_or_else(|| format!("there is no row `{name}`; `chaos-tests bench` lists them"))
    };
    names.iter().map(find).collect()
}

/// The program as users get it: `HMS_BIN`, else built now. One with fault points would not be that.
fn released() -> Result<PathBuf, String> {
    const BUILD: &str = "cargo build --release --locked -p hms-sync";
    let program = match std::env::var_os("HMS_BIN") {
        Some(given) => PathBuf::from(given),
        None => {
            let mut words = BUILD.split(' ').skip(1);
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo).args(&mut words).current_dir(machine::root()).status();
            if !built.is_ok_and(|status| status.success()) {
                return Err(format!("`{BUILD}` failed"));
            }
            Node::released().ok_or("cargo puts the program elsewhere: name it in HMS_BIN")?
        }
    };
    let bytes = fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    if bytes.windows(FAULTS.len()).any(|window| window == FAULTS) {
        let program = program.display();
        return Err(format!("{program} has fault points in it: measure what users get, built by `{BUILD}`"));
    }
    Ok(program)
}

/// What is in every program with fault points, and in no other.
const FAULTS: &[u8] = b"HMS_FAULT";

fn begun(settings: &Settings, file: Option<&Path>) -> Result<Results, String> {
    let rows = match file.filter(|file| file.exists()) {
        Some(file) => read(file)?.rows,
        None => Vec::new(),
    };
    Ok(Results {
        machine: machine::Machine::here(),
        version: Node::of(settings.program.clone()).version(),
        at: DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true),
        rows,
    })
}

fn read(file: &Path) -> Result<Results, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

fn report(file: &Path, page: Option<&Path>, svg: Option<&Path>) -> Result<(), String> {
    let results = read(file)?;
    let write =
        |path: &Path, text: String| fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    if let Some(svg) = svg {
        write(svg, super::picture::draw(&results))?;
    }
    match page {
        Some(page) => {
            let text = fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
            let picture =
                svg.map(|svg| svg.strip_prefix(page.parent().unwrap_or(page)).unwrap_or(svg).display().to_string());
            write(page, page::filled(&text, picture.as_deref(), &results)?)
        }
        None => {
            print!("{}", page::table(&results));
            Ok(())
        }
    }
}
