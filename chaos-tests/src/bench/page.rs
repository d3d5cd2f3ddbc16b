//! The figures as a table in Markdown, and where it stands in a page.

use std::fmt::Write;

use super::results::{Figure, Results, Row, Run, Spread};

const BEGIN: &str = "<!-- figures: made by `chaos-tests bench report`, not by hand -->\n";
const END: &str = "<!-- end of figures -->";

/// The page with the table between its markers.
pub fn filled(page: &str, results: &Results) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("the page has no line `{}`", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("the page has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table(results)))
}

/// All rows, what each cost, and on what it was measured.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    written(&mut text, results).expect("a String takes all that is written");
    text
}

fn written(text: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(text, "| row | against | measured (min – max) | the machine by itself | reach | aim | reached |")?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- |")?;
    for (row, figure) in results.rows.iter().flat_map(|row| row.figures.iter().map(move |figure| (row, figure))) {
        let goal = |value: fn(&super::results::Goal) -> f64| {
            figure.goal.as_ref().map_or_else(String::new, |goal| short(value(goal), &figure.unit))
        };
        let verdict = match (row.is_good(), figure.verdict()) {
            (false, _) => "not judged good",
            (true, verdict) => verdict.map_or("", |verdict| verdict.as_str()),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {verdict} |",
            figure.name,
            figure.against,
            spread(figure, &figure.values),
            spread(figure, &figure.control),
            goal(|goal| goal.reach),
            goal(|goal| goal.aim),
        )?;
    }
    writeln!(
        text,
        "\n| row | side | turns | scale | events | a second | CPU µs an event: node | publisher or sender | receiver |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    results.rows.iter().try_for_each(|row| sides(text, row))?;
    let machine = &results.machine;
    writeln!(
        text,
        "\n{} cores ({}), {} GiB, Linux {}, {}; {}, {}.",
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        results.version,
        results.at
    )
}

/// The medians of each side of a row.
fn sides(text: &mut String, row: &Row) -> std::fmt::Result {
    let mut sides: Vec<&str> = Vec::new();
    for run in &row.runs {
        if !sides.contains(&run.of.as_str()) {
            sides.push(&run.of);
        }
    }
    for side in sides {
        let median = |value: &dyn Fn(&Run) -> f64| {
            let values: Vec<f64> = row.runs_of(side).map(value).collect();
            Spread::of(&values).map_or(f64::NAN, |spread| spread.median)
        };
        let cpu = [
            median(&|run| run.micros(run.cpu.node)),
            median(&|run| run.micros(run.cpu.publisher)),
            median(&|run| run.micros(run.cpu.receiver)),
        ];
        writeln!(
            text,
            "| {} | {side} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.runs_of(side).count(),
            row.scale,
            median(&|run| run.events as f64),
            significant(median(&Run::rate)),
            significant(cpu[0]),
            significant(cpu[1]),
            significant(cpu[2]),
        )?;
    }
    Ok(())
}

fn spread(figure: &Figure, values: &[f64]) -> String {
    match Spread::of(values) {
        Some(Spread { min, median, max }) => {
            format!("{} ({} – {})", short(median, &figure.unit), significant(min), significant(max))
        }
        None => String::new(),
    }
}

fn short(value: f64, unit: &str) -> String {
    format!("{} {unit}", significant(value))
}

/// Two or three digits that say something.
pub fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{:.0}", (value / 100.0).round() * 100.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
