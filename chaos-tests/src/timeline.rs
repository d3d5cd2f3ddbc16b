//! The picture of a run, as SVG without a script: a lane for each target with what was delivered over time, the
//! circuit's states as a band, faults marked, and the node's own troubles across all lanes. Light and dark.

use std::fmt::Write;
use std::time::SystemTime;

use chrono::DateTime;
use serde_json::Value;

use crate::judge::{Target, World, state_of};
use crate::report::since;
use crate::runner::Story;
use crate::scenario::stage::Mark;

const LEFT: f64 = 190.0;
const PLOT: f64 = 880.0;
const TOP: f64 = 84.0;
const LANE: f64 = 74.0;
/// Of a lane: where the curve's ground is, and the circuit's band under it.
const GROUND: f64 = 54.0;
const BAND: f64 = 7.0;
/// Width of a letter of the small text, about.
const LETTER: f64 = 5.6;

const STYLE: &str = "
  :root { --paper: #ffffff; --ink: #1b1f24; --soft: #667080; --line: #d8dde3; --curve: #1f6feb; --fill: #1f6feb22;
          --closed: #2da44e; --half: #d4a72c; --open: #cf222e; --forced: #8250df; --fault: #cf222e1f; --edge: #cf222e;
          --node: #6672803a; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #0d1117; --ink: #e6edf3; --soft: #8d96a0; --line: #2b323b; --curve: #58a6ff; --fill: #58a6ff26;
            --closed: #3fb950; --half: #d29922; --open: #f85149; --forced: #a371f7; --fault: #f8514944; --edge: #f85149;
            --node: #8d96a040; } }
  .paper { fill: var(--paper); } text { font: 11px system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; } .soft { fill: var(--soft); } .line { stroke: var(--line); }
  .curve { stroke: var(--curve); fill: none; stroke-width: 1.6; } .area { fill: var(--fill); }
  .closed { fill: var(--closed); } .half_open { fill: var(--half); } .open { fill: var(--open); }
  .forced_open { fill: var(--forced); } .unknown { fill: var(--line); } .fault { fill: var(--fault); } .node { fill: var(--node); }
  .edge { stroke: var(--edge); stroke-dasharray: 3 2; } .small { font-size: 10px; } .end { text-anchor: end; }
";

/// The whole picture.
pub fn draw(story: &Story) -> String {
    let span = since(story.started, story.ended).max(1);
    let picture = Picture { story, span, svg: String::new() };
    picture.drawn().unwrap_or_else(|error| panic!("a String takes all that is written: {error}"))
}

struct Picture<'a> {
    story: &'a Story,
    /// Milliseconds from left to right.
    span: u64,
    svg: String,
}

impl Picture<'_> {
    fn drawn(mut self) -> Result<String, std::fmt::Error> {
        let targets = &self.story.world.targets;
        let bottom = TOP + LANE * targets.len().max(1) as f64;
        let (width, height) = (LEFT + PLOT + 30.0, bottom + 40.0);
        let about = escaped(self.story.scenario.about);
        write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{about}\">\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n"
        )?;
        self.heading()?;
        self.axis(bottom)?;
        for mark in self.story.marks.iter().filter(|mark| mark.target.is_none()) {
            self.trouble(mark, TOP, bottom - TOP, "node")?;
        }
        for (number, target) in targets.iter().enumerate() {
            self.lane(target, TOP + LANE * number as f64)?;
        }
        self.svg.push_str("</svg>\n");
        Ok(self.svg)
    }

    fn heading(&mut self) -> std::fmt::Result {
        let Story { scenario, seed, rounds, version, .. } = self.story;
        let (name, about) = (escaped(scenario.name), escaped(scenario.about));
        writeln!(self.svg, "<text class=\"title\" x=\"16\" y=\"26\">{name}</text>")?;
        writeln!(
            self.svg,
            "<text class=\"soft\" x=\"16\" y=\"44\">{about} Seed {seed}, {rounds} rounds, {}.</text>",
            escaped(version)
        )?;
        let legend = [
            ("area", "delivered"),
            ("closed", "circuit closed"),
            ("half_open", "half-open"),
            ("open", "open"),
            ("forced_open", "forced open"),
            ("fault", "fault at the partner"),
            ("node", "the node"),
        ];
        let mut x = LEFT;
        for (class, words) in legend {
            writeln!(
                self.svg,
                "<rect class=\"{class}\" x=\"{x:.0}\" y=\"58\" width=\"12\" height=\"10\"/><text class=\"small soft\" x=\"{:.0}\" y=\"67\">{words}</text>",
                x + 16.0
            )?;
            x += 34.0 + LETTER * words.len() as f64;
        }
        Ok(())
    }

    fn axis(&mut self, bottom: f64) -> std::fmt::Result {
        let step = tick(self.span);
        for at in (0..=self.span / step).map(|tick| tick * step) {
            let (x, seconds) = (self.x(at), at as f64 / 1000.0);
            writeln!(
                self.svg,
                "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"small soft\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.0}\">{seconds} s</text>",
                bottom + 16.0
            )?;
        }
        Ok(())
    }

    fn lane(&mut self, target: &Target, top: f64) -> std::fmt::Result {
        let ground = top + GROUND;
        let times: Vec<u64> =
            target.records(&self.story.world, "delivered").map(|record| self.moment(record)).collect();
        let (count, promised) = (times.len(), self.story.world.acknowledged.len());
        writeln!(
            self.svg,
            "<line class=\"line\" x1=\"0\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"end\" x=\"{:.0}\" y=\"{:.1}\">{}</text>\
             <text class=\"end small soft\" x=\"{:.0}\" y=\"{:.1}\">{count} of {promised} · {}</text>",
            LEFT + PLOT + 30.0,
            top + LANE,
            top + LANE,
            LEFT - 12.0,
            top + 30.0,
            escaped(&target.name),
            LEFT - 12.0,
            top + 46.0,
            target.guarantee.as_str().replace('_', " "),
        )?;
        for mark in self.story.marks.iter().filter(|mark| mark.target.as_deref() == Some(&target.name)) {
            self.trouble(mark, top + 4.0, GROUND - 4.0, "fault")?;
        }
        self.curve(times, ground, promised.max(1))?;
        self.band(&self.story.world, target, ground + 4.0)
    }

    /// Steps upwards, one for each receipt.
    fn curve(&mut self, mut times: Vec<u64>, ground: f64, most: usize) -> std::fmt::Result {
        times.sort_unstable();
        let mut path = format!("M{:.1},{ground:.1}", LEFT);
        for (number, &at) in times.iter().enumerate() {
            // Many receipts of one moment are one step.
            if times.get(number + 1) != Some(&at) {
                let y = ground - (GROUND - 10.0) * (number + 1) as f64 / most as f64;
                write!(path, "H{:.1}V{y:.1}", self.x(at))?;
            }
        }
        let right = LEFT + PLOT;
        writeln!(
            self.svg,
            "<path class=\"area\" d=\"{path}H{right}V{ground:.1}Z\"/><path class=\"curve\" d=\"{path}H{right}\"/>"
        )
    }

    fn band(&mut self, world: &World, target: &Target, y: f64) -> std::fmt::Result {
        let mut from = 0;
        let mut state = if world.circuits.is_some() { "closed" } else { "unknown" }.to_owned();
        let records = target.records(world, "circuit").map(|record| (self.moment(record), state_of(record).to_owned()));
        let end = (self.span, String::new());
        for (at, next) in records.chain([end]).collect::<Vec<_>>() {
            let (x, width) = (self.x(from), self.x(at) - self.x(from));
            writeln!(
                self.svg,
                "<rect class=\"{state}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAND}\"><title>circuit {state}</title></rect>"
            )?;
            (from, state) = (at, next);
        }
        Ok(())
    }

    /// A fault: a span, or a dashed line for a moment. Its words are in the picture where they fit, and always in
    /// the tip.
    fn trouble(&mut self, mark: &Mark, top: f64, height: f64, class: &str) -> std::fmt::Result {
        let from = since(self.story.started, mark.from);
        let x = self.x(from);
        let words = escaped(&mark.what);
        if mark.is_moment {
            let bottom = top + height;
            return writeln!(
                self.svg,
                "<line class=\"edge\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"><title>{words}</title></line>"
            );
        }
        let until = mark.until.map_or(self.span, |until| since(self.story.started, until));
        let width = (self.x(until) - x).max(1.5);
        writeln!(
            self.svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{words}</title></rect>"
        )?;
        if width > LETTER * mark.what.chars().count() as f64 + 6.0 {
            writeln!(
                self.svg,
                "<text class=\"small soft\" x=\"{:.1}\" y=\"{:.1}\">{words}</text>",
                x + 4.0,
                top + 11.0
            )?;
        }
        Ok(())
    }

    fn x(&self, milliseconds: u64) -> f64 {
        LEFT + PLOT * milliseconds.min(self.span) as f64 / self.span as f64
    }

    /// When a record was written, from the start of the run, by the runner's clock: the node's may have been set.
    fn moment(&self, record: &Value) -> u64 {
        let time = record["time"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let Some(time) = time.map(SystemTime::from) else { return 0 };
        let really = self.story.clock.as_ref().map_or(time, |clock| clock.really(time));
        since(self.story.started, really)
    }
}

/// The distance of ticks: a round number, and at most twelve of them.
fn tick(span: u64) -> u64 {
    let tens = (0..9).map(|power| 10u64.pow(power));
    tens.flat_map(|ten| [ten, 2 * ten, 5 * ten]).find(|step| span / step <= 12).unwrap_or(span)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
