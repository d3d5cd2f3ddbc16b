//! What docs/operations.md shows of an outage, a refused event and maintenance is what the program prints. With
//! `HMS_UPDATE=1` the test writes it there; otherwise it finds out if it is still true.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chaos_tests::node::Node;
use chaos_tests::partners::https::{Answer, On};
use chaos_tests::process::Output;
use chaos_tests::wait;

use super::bridge::{Bridge, RECIPE, recipe};

const TARGET: &str = "vdot_gis";

/// A terminal's session so far.
#[derive(Default)]
struct Session(String);

impl Session {
    /// An operator types this.
    fn types<'a>(&mut self, bridge: &Bridge, args: &[&'a str]) -> Output {
        let quoted = |arg: &&'a str| if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() };
        let line = args.iter().map(quoted).collect::<Vec<_>>().join(" ");
        let output = bridge.node.cli(args.iter().copied());
        let _ = write!(self.0, "$ hms {line}\n{}{}", output.stdout, output.stderr);
        self.0.push('\n');
        output
    }

    /// What happens outside of the terminal.
    fn happens(&mut self, what: &str) {
        let _ = writeln!(self.0, "# {what}\n");
    }
}

fn operations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")
}

/// Checks, or writes, what stands between the markers of this name.
fn stands_in_the_docs(name: &str, session: &Session, bridge: &Bridge) {
    let text = session.0.replace(&format!("127.0.0.1:{}", bridge.gis.port()), "127.0.0.1:18443");
    let text = format!("```console\n{}\n```\n", text.trim_end());
    let docs = std::fs::read_to_string(operations()).expect("docs/operations.md is there");
    let (begin, end) = (format!("<!-- transcript {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = docs.find(&begin).unwrap_or_else(|| panic!("no {begin} in docs/operations.md")) + begin.len();
    let until = docs.find(&end).unwrap_or_else(|| panic!("no {end} in docs/operations.md"));
    if std::env::var_os("HMS_UPDATE").is_some() {
        let new = format!("{}{text}{}", &docs[..from], &docs[until..]);
        return std::fs::write(operations(), new).expect("the docs are writable");
    }
    let (shown, said) = (timeless(&docs[from..until]), timeless(&text));
    assert!(shown == said, "docs/operations.md shows\n{shown}\nbut the program says\n{said}\nHMS_UPDATE=1 writes it");
}

/// Lines of words, with moments, ages and the spaces that depend on their length taken out.
fn timeless(text: &str) -> String {
    let is_age = |word: &str| {
        let mut units = word.chars().filter(|letter| !letter.is_ascii_digit());
        word.starts_with(|letter: char| letter.is_ascii_digit())
            && (1..=3).contains(&units.clone().count())
            && units.all(|unit| "dhms".contains(unit))
    };
    let is_moment = |word: &str| word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let plain = |word: &str| {
        let bare = word.trim_matches(|at: char| "(),;:.".contains(at));
        let name = if is_moment(bare) {
            "MOMENT"
        } else if is_age(bare) {
            "AGE"
        } else {
            bare
        };
        if bare.is_empty() { word.to_owned() } else { word.replace(bare, name) }
    };
    // "3 s" in a note is a number and a word.
    let words = |line: &str| line.split_whitespace().map(plain).collect::<Vec<_>>().join(" ");
    let line = |line: &str| match words(line) {
        line if line.contains("succeed again after") => line.chars().filter(|at| !at.is_ascii_digit()).collect(),
        line => line,
    };
    text.lines().map(line).collect::<Vec<String>>().join("\n")
}

#[test]
fn the_transcripts_in_the_docs_are_what_the_program_says() {
    let mut node = Node::new();
    node.env("COLUMNS", "100");
    let mut bridge = Bridge::new(node);
    bridge.node.start().apply(&recipe());
    outage(&mut bridge);
    refused(&mut bridge);
    maintenance(&mut bridge);
}

fn outage(bridge: &mut Bridge) {
    let mut session = Session::default();
    bridge.gis.down();
    session.happens("the map is down; three grants are published");
    for id in ["GR-40", "GR-41", "GR-42"] {
        bridge.publish(id);
    }
    bridge.node.cli(["sync", "run", RECIPE]).failed_with(1);
    session.types(bridge, &["circuit", "list"]).ok();
    session.types(bridge, &["circuit", "show", RECIPE, TARGET]).ok();
    session.types(bridge, &["hitl", "list"]).ok();
    let ticket = bridge.node.open_tickets()[0]["number"].to_string();
    session.types(bridge, &["hitl", "show", &ticket]).ok();
    bridge.gis.up();
    session.happens("the map is back; `hms circuit probe` would try it now, the next probe finds out by itself");
    wait::until("the backlog", || (bridge.node.target(RECIPE, TARGET)["backlog"] == 0).then_some(()));
    session.types(bridge, &["circuit", "list"]).ok();
    session.types(bridge, &["hitl", "list"]).ok();
    session.types(bridge, &["hitl", "show", &ticket]).ok();
    stands_in_the_docs("outage", &session, bridge);
}

fn refused(bridge: &mut Bridge) {
    let mut session = Session::default();
    let event = On::Event("GR-43".to_owned());
    bridge.gis.on(event.clone(), Answer::Json(422, r#"{"error":"lat is not in this county"}"#.to_owned()));
    session.happens("the map refuses one grant, and takes the others");
    for id in ["GR-43", "GR-44"] {
        bridge.publish(id);
    }
    bridge.node.cli(["sync", "run", RECIPE]);
    let letters = wait::until("the dead letter", || {
        let answer = bridge.node.http().get("/v1/dead-letters").expect(200).json();
        answer["dead_letters"].as_array().filter(|letters| !letters.is_empty()).cloned()
    });
    let letter = letters[0]["number"].to_string();
    session.types(bridge, &["dlq", "list"]).ok();
    session.types(bridge, &["dlq", "show", &letter]).ok();
    session.types(bridge, &["hitl", "list"]).ok();
    bridge.gis.off(&event);
    session.happens("the county has mended its map");
    session.types(bridge, &["dlq", "replay", &letter]).ok();
    session.types(bridge, &["dlq", "list"]).ok();
    session.types(bridge, &["hitl", "list"]).ok();
    stands_in_the_docs("refused", &session, bridge);
}

fn maintenance(bridge: &mut Bridge) {
    let mut session = Session::default();
    session.types(bridge, &["circuit", "open", RECIPE, TARGET, "--note", "their maintenance until 6"]).ok();
    bridge.publish("GR-45");
    session.happens("a grant is published");
    session.types(bridge, &["sync", "run", RECIPE]).failed_with(1);
    session.types(bridge, &["circuit", "list"]).ok();
    session.types(bridge, &["circuit", "close", RECIPE, TARGET]).ok();
    wait::until("the backlog", || (bridge.node.target(RECIPE, TARGET)["backlog"] == 0).then_some(()));
    session.types(bridge, &["circuit", "list"]).ok();
    stands_in_the_docs("maintenance", &session, bridge);
}
