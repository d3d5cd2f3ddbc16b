//! Benchmarks of the whole: the released program against the cheapest partners that can be made, each row beside its
//! reference in the same run, by turns, and every run judged. `docs/performance.md` says how to read the figures.

pub mod command;
mod cpu;
mod events;
mod machine;
mod many;
mod paced;
mod page;
mod picture;
pub mod results;
mod rows;
mod sink;
mod stage;
mod wire;
mod witness;

use std::path::PathBuf;

use results::Row;

/// How much is done.
#[derive(Debug, Clone)]
pub struct Settings {
    pub program: PathBuf,
    /// Node and reference, so many times one after the other.
    pub turns: usize,
    /// Of the sizes in docs/performance.md.
    pub scale: f64,
}

impl Settings {
    /// So many at full scale; never fewer than `least`.
    fn sized(&self, full: usize, least: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(least)
    }
}

/// A row of the table.
pub struct Bench {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Settings) -> Row,
}

impl Bench {
    pub fn measure(&self, settings: &Settings) -> Row {
        Row { commit: machine::commit(), scale: settings.scale, ..(self.run)(settings) }
    }
}

pub fn all() -> &'static [Bench] {
    rows::ALL
}
