//! The figures as a table in Markdown, and where it stands in a page.

use std::fmt::Write;

use super::results::{Figure, Results, Row, Run, Spread};

const BEGIN: &str = "<!-- figures: made by `chaos-tests bench report`, not by hand -->\n";
const END: &str = "<!-- end of figures -->";

/// The page with the picture, if there is one beside it, and the table between its markers.
pub fn filled(page: &str, picture: Option<&str>, results: &Results) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("the page has no line `{}`", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("the page has no line `{END}`"))?;
    let picture = picture.map_or_else(String::new, |path| format!("![Each figure beside its goal]({path})\n\n"));
    Ok(format!("{before}{BEGIN}\n{picture}{}\n{END}{after}", table(results)))
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
    traffic(text, results)?;
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

/// What 10⁸ events a day would cost, by what one costs.
fn traffic(text: &mut String, results: &Results) -> std::fmt::Result {
    const A_DAY: f64 = 1e8;
    const SECONDS: f64 = 86_400.0;
    let rows = [("publish", "events B"), ("rest", "audit B"), ("rest-batch", "audit B"), ("sftp", "audit B")];
    let known = rows.iter().filter_map(|(name, disk)| {
        let row = results.rows.iter().find(|row| row.name == *name)?;
        let median = |value: &dyn Fn(&Run) -> f64| Spread::of(&row.runs_of("node").map(value).collect::<Vec<_>>());
        let cpu = median(&|run| run.micros(run.cpu.node))?.median;
        Some((name, cpu, disk, median(&|run| run.get(disk))?.median))
    });
    writeln!(text, "\n| 10⁸ events a day | CPU µs an event | × 10⁸ ÷ 86,400 s | on disk, an event | × 10⁸ |")?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for (name, cpu, disk, bytes) in known {
        let cores = cpu / 1e6 * A_DAY / SECONDS;
        writeln!(
            text,
            "| {name} | {} | {} of a core | {bytes:.0} B ({}) | {} GB a day |",
            significant(cpu),
            significant(cores),
            disk.trim_end_matches(" B"),
            significant(bytes * A_DAY / 1e9),
        )?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpu::Cpu;
    use crate::bench::machine::Machine;

    fn results() -> Results {
        let mut row = Row { judge_notices: true, scale: 1.0, ..Row::new("publish") };
        for (turn, (of, seconds)) in [("node", 2.0), ("file", 1.0), ("node", 4.0), ("file", 1.0)].iter().enumerate() {
            let cpu = Cpu { node: 4.0, ..Cpu::default() };
            let run = Run { events: 1_000_000, seconds: *seconds, cpu, ..Run::default() }.with("events B", 310.0);
            row.push(turn / 2, of, run);
        }
        let goal = super::super::results::Goal { reach: 0.3, aim: 0.6 };
        row.compare(Figure::new("publish", "a file", "×", Some(goal)), "node", "file", Run::rate);
        Results { machine: Machine::default(), version: "hms 0".to_owned(), at: "now".to_owned(), rows: vec![row] }
    }

    #[test]
    fn the_table_takes_the_place_of_an_older_one_and_of_nothing_else() {
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let once = filled(&page, Some("a.svg"), &results()).expect("the markers are there");
        assert_eq!(once, filled(&once, Some("a.svg"), &results()).expect("they still are"));
        assert!(once.starts_with("before\n") && once.ends_with(&format!("{END}\nafter\n")), "{once}");
        assert!(
            once.contains(
                "| publish | a file | 0.38 × (0.25 – 0.50) | 0.75 × (0.50 – 1.00) | 0.30 × | 0.60 × | not decided |"
            ),
            "{once}"
        );
        assert!(once.contains("(a.svg)"), "{once}");
        assert!(once.contains("| publish | 4.00 | 0.005 of a core | 310 B (events) | 31.0 GB a day |"), "{once}");
        assert!(filled("no markers", None, &results()).is_err());
    }

    #[test]
    fn a_row_that_was_not_judged_good_has_no_result() {
        let mut bad = results();
        bad.rows[0].violations.push("lost".to_owned());
        assert!(table(&bad).contains("not judged good"), "{}", table(&bad));
    }
}
