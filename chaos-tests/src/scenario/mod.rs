//! Scenarios: who plays, what goes wrong when, and what the judge expects. Each is data: a cast and a schedule that
//! is made from a seed. How it is run is `runner.rs`.

pub mod actor;
pub mod clock;
mod controls;
mod disk;
mod files;
mod kills;
mod letters;
mod machine;
mod outages;
mod partners;
pub mod publisher;
mod recipes;
pub mod schedule;
pub mod stage;
pub mod witness;

use schedule::{Dice, Schedule};
use stage::Cast;

use crate::judge::Rule;

/// One scenario.
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// Rounds unless told otherwise; a campaign has more.
    pub rounds: u32,
    pub cast: fn() -> Cast,
    pub schedule: fn(&mut Dice, u32) -> Schedule,
    /// A null control: something was removed from the courier, and the judge must find one of these.
    pub must_find: &'static [Rule],
}

/// All of them.
pub fn all() -> Vec<&'static Scenario> {
    [
        kills::SCENARIOS,
        outages::SCENARIOS,
        machine::SCENARIOS,
        recipes::SCENARIOS,
        partners::SCENARIOS,
        letters::SCENARIOS,
        files::SCENARIOS,
        controls::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn find(name: &str) -> Option<&'static Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// The same for the same seed and rounds, to the byte.
    pub fn schedule(&self, seed: u64, rounds: u32) -> Schedule {
        (self.schedule)(&mut Dice::new(seed), rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_to_the_byte() {
        for scenario in all() {
            let schedule = |seed| scenario.schedule(seed, scenario.rounds).to_string();
            assert_eq!(schedule(7), schedule(7), "{}", scenario.name);
        }
        let kills = find("node-killed-at-random").expect("a scenario");
        assert_ne!(kills.schedule(7, 10).to_string(), kills.schedule(8, 10).to_string());
    }

    #[test]
    fn names_are_unique_and_every_scenario_says_what_happens() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(all().iter().all(|scenario| scenario.about.ends_with('.')));
    }
}
