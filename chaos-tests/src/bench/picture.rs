//! The figures as a picture (SVG without a script, light and dark): a line for each figure that has a goal, on a scale of
//! its own from nothing to beyond the goal, with all turns from the least to the most.

use std::fmt::Write;

use super::page::significant;
use super::results::{Figure, Results, Spread, Verdict};

const LEFT: f64 = 300.0;
const PLOT: f64 = 460.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 62.0;
const LINE: f64 = 30.0;

const STYLE: &str = "
  :root { --paper: #ffffff; --ink: #1b1f24; --soft: #667080; --line: #d8dde3; --good: #2da44e; --bad: #cf222e; --open: #d4a72c; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #0d1117; --ink: #e6edf3; --soft: #8d96a0; --line: #2b323b; --good: #3fb950; --bad: #f85149; --open: #d29922; } }
  .paper { fill: var(--paper); } text { font: 12px system-ui, sans-serif; fill: var(--ink); }
  .title { font-size: 16px; font-weight: 600; } .soft { fill: var(--soft); } .line { stroke: var(--line); }
  .end { text-anchor: end; } .small { font-size: 10px; } .goal { stroke: var(--ink); } .aim { stroke: var(--ink); stroke-dasharray: 2 2; }
  .good { fill: var(--good); stroke: var(--good); } .bad { fill: var(--bad); stroke: var(--bad); } .open { fill: var(--open); stroke: var(--open); }
  .spread { stroke-width: 4; stroke-linecap: round; stroke-opacity: .45; }
";

pub fn draw(results: &Results) -> String {
    let mut svg = String::new();
    drawn(&mut svg, results).expect("a String takes all that is written");
    svg
}

fn drawn(svg: &mut String, results: &Results) -> std::fmt::Result {
    let figures = results.rows.iter().flat_map(|row| &row.figures);
    let figures: Vec<(&Figure, Spread)> = figures
        .filter(|figure| figure.goal.is_some())
        .filter_map(|figure| Some((figure, Spread::of(&figure.values)?)))
        .collect();
    let (width, height) = (LEFT + PLOT + RIGHT, TOP + LINE * figures.len() as f64 + 16.0);
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Figures beside \
         their goals\">\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">Measured, and what was to be reached</text>\n\
         <text class=\"soft\" x=\"16\" y=\"45\">Each on its own scale: the goal is the solid tick, the aim the dashed one; dot and \
         line are median and spread of the turns. {}</text>",
        escaped(&results.version),
    )?;
    for (number, (figure, spread)) in figures.iter().enumerate() {
        line(svg, figure, *spread, TOP + LINE * number as f64)?;
    }
    svg.push_str("</svg>\n");
    Ok(())
}

fn line(svg: &mut String, figure: &Figure, spread: Spread, top: f64) -> std::fmt::Result {
    let Some(goal) = figure.goal else { return Ok(()) };
    let most = goal.reach.max(goal.aim) * 1.25;
    // What lies outside is drawn at the edge; the number beside it says how far.
    let x = |value: f64| LEFT + PLOT * (value / most).clamp(0.0, 1.0);
    let class = match figure.verdict() {
        Some(Verdict::Aim | Verdict::Reached) => "good",
        Some(Verdict::Missed) => "bad",
        _ => "open",
    };
    let (middle, is_more_better) = (top + LINE / 2.0, goal.aim > goal.reach);
    let sign = if is_more_better { "≥" } else { "≤" };
    writeln!(
        svg,
        "<text class=\"end\" x=\"{:.0}\" y=\"{:.1}\">{}</text><line class=\"line\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{middle:.1}\" \
         y2=\"{middle:.1}\"/>",
        LEFT - 12.0,
        middle + 4.0,
        escaped(&figure.name),
        LEFT + PLOT,
    )?;
    for (class, value) in [("goal", goal.reach), ("aim", goal.aim)] {
        let at = x(value);
        writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            middle - 8.0,
            middle + 8.0
        )?;
    }
    writeln!(
        svg,
        "<line class=\"{class} spread\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"4\"/>\
         <text x=\"{:.0}\" y=\"{:.1}\">{} {}<tspan class=\"small soft\">  {sign} {}</tspan></text>",
        x(spread.min),
        x(spread.max),
        x(spread.median),
        LEFT + PLOT + 14.0,
        middle + 4.0,
        significant(spread.median),
        figure.unit,
        significant(goal.reach),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
