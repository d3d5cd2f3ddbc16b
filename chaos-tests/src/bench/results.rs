//! What a benchmark finds, as it stands in the JSON file: every raw figure, and what follows from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cpu::Cpu;
use super::machine::Machine;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub version: String,
    pub at: String,
    pub rows: Vec<Row>,
}

impl Results {
    /// In the place of an older one of its name.
    pub fn take(&mut self, row: Row) {
        match self.rows.iter_mut().find(|old| old.name == row.name) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
    }

    pub fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }
}

/// A row of the table, or two that are measured in the same runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// Of the checkout, with `+` if something in it was not committed.
    pub commit: String,
    /// Of the sizes in docs/performance.md.
    pub scale: f64,
    pub figures: Vec<Figure>,
    pub runs: Vec<Run>,
    /// What the judge found wrong, in words. Must be empty.
    pub violations: Vec<String>,
    /// Whether the judge, shown the same with one event missing and one twice, found both.
    pub judge_notices: bool,
}

/// One measured thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    /// What it is divided by, or measured beside.
    pub against: String,
    /// `×`, `MiB`, `KiB` or `s`.
    pub unit: String,
    pub goal: Option<Goal>,
    /// One a turn.
    pub values: Vec<f64>,
    /// Each run by the one before it of the same kind: what the machine does by itself.
    pub control: Vec<f64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Goal {
    pub reach: f64,
    pub aim: f64,
}

/// One run of one side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    pub turn: usize,
    /// `node`, or the name of the reference.
    pub of: String,
    pub events: usize,
    pub seconds: f64,
    pub cpu: Cpu,
    /// What else was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, f64>,
}

impl Run {
    /// Events a second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// CPU microseconds an event, which are seconds a million.
    pub fn micros(&self, cpu: f64) -> f64 {
        cpu * 1e6 / self.events as f64
    }

    fn told(&self, row: &str) -> String {
        let Self { turn, of, events, seconds, cpu, more, .. } = self;
        let cpu = [("node", cpu.node), ("publisher", cpu.publisher), ("receiver", cpu.receiver)];
        let cpu: Vec<String> = cpu.iter().map(|(who, cpu)| format!("{who} {:.2}", self.micros(*cpu))).collect();
        let more: String = more.iter().map(|(name, value)| format!("  {name} {value:.3}")).collect();
        format!(
            "{row} turn {turn} {of:<10} {events} events in {seconds:.3} s, {:.0}/s; CPU µs an event: {}{more}",
            self.rate(),
            cpu.join(", ")
        )
    }

    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub fn get(&self, name: &str) -> f64 {
        self.more.get(name).copied().unwrap_or(f64::NAN)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { min, median, max })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Aim,
    Reached,
    Missed,
    /// Turns lie on both sides of the goal, or there was but one.
    NotDecided,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Reached => "yes",
            Self::Missed => "no",
            Self::NotDecided => "not decided",
        }
    }
}

impl Figure {
    pub fn new(name: &str, against: &str, unit: &str, goal: Option<Goal>) -> Self {
        let (name, against, unit) = (name.to_owned(), against.to_owned(), unit.to_owned());
        Self { name, against, unit, goal, values: Vec::new(), control: Vec::new() }
    }

    /// All turns must be on one side of the goal.
    pub fn verdict(&self) -> Option<Verdict> {
        let goal = self.goal?;
        let spread = Spread::of(&self.values)?;
        // The better, the larger; or the smaller.
        let is_more_better = goal.aim > goal.reach;
        let (worst, best) = if is_more_better { (spread.min, spread.max) } else { (-spread.max, -spread.min) };
        let (reach, aim) = if is_more_better { (goal.reach, goal.aim) } else { (-goal.reach, -goal.aim) };
        Some(match () {
            () if self.values.len() < 2 => Verdict::NotDecided,
            () if worst >= aim => Verdict::Aim,
            () if worst >= reach => Verdict::Reached,
            () if best < reach => Verdict::Missed,
            () => Verdict::NotDecided,
        })
    }
}

impl Row {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Every run was judged, and by a judge that sees.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.judge_notices
    }

    /// Notes a run, and says so: some take minutes.
    pub fn push(&mut self, turn: usize, of: &str, run: Run) {
        let run = Run { turn, of: of.to_owned(), ..run };
        eprintln!("{}", run.told(&self.name));
        self.runs.push(run);
    }

    pub fn runs_of<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.of == of)
    }

    /// Adds a figure: `of` by `against`, turn by turn, each measured by `value`.
    pub fn compare(&mut self, mut figure: Figure, of: &str, against: &str, value: impl Fn(&Run) -> f64) {
        let all = |of: &str| self.runs_of(of).map(&value).collect::<Vec<f64>>();
        let (ours, others) = (all(of), all(against));
        figure.values = ours.iter().zip(&others).map(|(ours, other)| ours / other).collect();
        let again = |values: &[f64]| values.windows(2).map(|pair| pair[1] / pair[0]).collect::<Vec<f64>>();
        figure.control = [again(&ours), again(&others)].concat();
        self.figures.push(figure);
    }

    /// Adds a figure: how much `of` has more than `against`, turn by turn.
    pub fn differ(&mut self, mut figure: Figure, of: &str, against: &str, value: impl Fn(&Run) -> f64) {
        let all = |of: &str| self.runs_of(of).map(&value).collect::<Vec<f64>>();
        let (ours, others) = (all(of), all(against));
        figure.values = ours.iter().zip(&others).map(|(ours, other)| ours - other).collect();
        let again = |values: &[f64]| values.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<f64>>();
        figure.control = [again(&ours), again(&others)].concat();
        self.figures.push(figure);
    }

    /// Adds a figure that stands by itself.
    pub fn measure(&mut self, mut figure: Figure, of: &str, value: impl Fn(&Run) -> f64) {
        figure.values = self.runs_of(of).map(value).collect();
        self.figures.push(figure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(goal: Goal, values: &[f64]) -> Option<Verdict> {
        Figure { values: values.to_vec(), ..Figure::new("a", "b", "×", Some(goal)) }.verdict()
    }

    #[test]
    fn turns_on_both_sides_of_the_goal_decide_nothing() {
        let (more, less) = (Goal { reach: 0.6, aim: 0.85 }, Goal { reach: 16.0, aim: 8.0 });
        assert_eq!(figure(more, &[0.59, 0.61]), Some(Verdict::NotDecided));
        assert_eq!(figure(more, &[0.61, 0.9]), Some(Verdict::Reached));
        assert_eq!(figure(more, &[0.86, 0.9]), Some(Verdict::Aim));
        assert_eq!(figure(more, &[0.5, 0.55]), Some(Verdict::Missed));
        assert_eq!(figure(more, &[0.9]), Some(Verdict::NotDecided));
        assert_eq!(figure(less, &[17.0, 15.0]), Some(Verdict::NotDecided));
        assert_eq!(figure(less, &[15.0, 7.0]), Some(Verdict::Reached));
        assert_eq!(figure(less, &[17.0, 18.0]), Some(Verdict::Missed));
        assert_eq!(figure(less, &[7.0, 8.0]), Some(Verdict::Aim));
    }

    #[test]
    fn a_run_is_compared_with_the_reference_of_its_turn_and_with_the_run_before() {
        let mut row = Row::new("a");
        for (turn, (of, seconds)) in [("node", 2.0), ("file", 1.0), ("node", 4.0), ("file", 1.0)].iter().enumerate() {
            row.runs.push(Run { turn: turn / 2, of: (*of).to_owned(), events: 4, seconds: *seconds, ..Run::default() });
        }
        row.compare(Figure::new("a", "file", "×", None), "node", "file", Run::rate);
        assert_eq!(row.figures[0].values, [0.5, 0.25]);
        assert_eq!(row.figures[0].control, [0.5, 1.0]);
        assert_eq!(Spread::of(&[0.25, 0.5]), Some(Spread { min: 0.25, median: 0.375, max: 0.5 }));
    }
}
