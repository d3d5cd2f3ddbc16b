//! Each family of the store, damaged in each way while the node is down: what is acknowledged is kept or named as
//! lost, nothing is sent twice, and where the node can't go on by itself it names the command that helps.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chaos_tests::node::Node;
use chaos_tests::process::{self, Beside, Lines, Signal};
use chaos_tests::wait;
use serde_json::{Value, json};

use super::drop_box::{self, DropBox};
use super::edges::{Edge, FEED, RECIPE};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// Its last bytes are gone.
    Truncated,
    /// A bit in its middle is another; in the audit at the beginning of a line, where a start can see it.
    Flipped,
    Missing,
}

use Damage::{Flipped, Missing, Truncated};

/// What the node makes of it.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It starts, says so, and goes on as if nothing had been.
    GoesOn(&'static str),
    /// It starts, says so, and what is lost ends in sight: a dead letter of who still needed it.
    Loses(&'static [&'static str]),
    /// It does not start, and says why and what to do.
    Refuses(&'static [&'static str]),
}

use Then::{GoesOn, Loses, Refuses};

fn damage(path: &Path, how: Damage) {
    let open = || OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let length = fs::metadata(path).expect("the file is there").len();
    match how {
        Truncated => open().set_len(length - 10.min(length)).expect("the file can be cut"),
        Flipped => {
            let bytes = fs::read(path).expect("the file can be read");
            let middle = bytes.len() / 2;
            let line = bytes[middle..].windows(2).position(|pair| pair == b"\n{").map_or(middle, |at| middle + at + 1);
            open().write_all_at(&[bytes[line] ^ 0x10], line as u64).expect("the file is writable");
        }
        Missing => fs::remove_file(path).expect("the file is there"),
    }
}

/// The file of a family, as the contract of the data directory names them.
fn file(edge: &Edge, name: &str) -> PathBuf {
    edge.node.data_dir().join(name)
}

/// A node that has stopped with something delivered and something waiting, begun and not.
fn stage(kill: bool) -> Edge {
    let mut edge = Edge::running(Node::new());
    for n in 0..20 {
        edge.publish(&format!("done{n}"));
    }
    edge.judge();
    edge.partner.down();
    for n in 0..5 {
        edge.publish(&format!("waits{n}"));
    }
    edge.complains("http", "connect");
    // With their receipts: a row alone says nothing of whether the store knows of it.
    let spooled = || (edge.node.target(RECIPE, "spool")["backlog"] == 0).then_some(());
    wait::until("the file's rows", spooled);
    if kill {
        edge.node.kill9()
    } else {
        edge.node.terminate()
    };
    edge
}

fn check(name: &str, how: Damage, then: Then) {
    let mut edge = stage(false);
    let path = file(&edge, name);
    let whole = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    damage(&path, how);
    match then {
        GoesOn(_) | Loses(_) => edge.node.start(),
        Refuses(words) => {
            let said = refused(&edge);
            for word in words {
                assert!(said.contains(word), "no `{word}` in: {said}");
            }
            assert!(said.contains(&path.display().to_string()), "the file is not named: {said}");
            // The backup.
            fs::write(&path, whole).expect("the folder is writable");
            edge.node.start()
        }
    };
    edge.partner.up();
    edge.publish("after");
    if let Loses(_) = then {
        tell(&mut edge, &["waits4"]);
    }
    edge.judge();
    if let GoesOn(words) = then {
        assert!(edge.has_said(words), "no `{words}`");
    }
    if let Loses(words) = then {
        words.iter().for_each(|words| assert!(edge.has_said(words), "no `{words}`"));
    }
}

/// Exactly what the partner over HTTP has not had is told as lost.
fn tell(edge: &mut Edge, ids: &[&str]) {
    let audit = edge.node.audit();
    let lost = |record: &&Value| record["kind"] == "dead_lettered" && record["reason"] == "lost";
    let lost: Vec<_> = audit.iter().filter(lost).map(|record| (record["target"].as_str(), &record["offset"])).collect();
    let offset = |id: &str| edge.promised.iter().find(|event| event.id == id).expect("it was acknowledged").offset;
    let expected: Vec<Value> = ids.iter().map(|id| offset(id).into()).collect();
    assert_eq!(lost, expected.iter().map(|offset| (Some("http"), offset)).collect::<Vec<_>>(), "the file has them");
    edge.lost.extend(ids.iter().map(|&id| id.to_owned()));
}

/// What it says then.
const WAITS: &str = "Restore the folder events/ that belongs to it; if there is none, apply one of its recipes again";

/// A node without its folder of events: it is not ready, and waits for what a human says.
pub struct Unready(Beside, Lines);

impl Unready {
    pub fn without_events(node: &Node) -> Self {
        fs::remove_dir_all(node.data_dir().join("events")).expect("it is there");
        Self::start(node)
    }

    fn start(node: &Node) -> Self {
        let (serving, said) = Beside::follow(&mut node.serve());
        let unready = Self(serving, said);
        unready.says(WAITS);
        wait::until("the endpoint", || node.http().send("GET", "/healthz", &[], Vec::new()).ok());
        let reasons = node.http().get("/readyz").expect(503).text();
        assert!(reasons.contains(WAITS), "{reasons}");
        unready
    }

    /// What would be taken now would be gone once the folder is restored.
    fn takes_nothing(&self, node: &Node) {
        let refused = node.try_publish(FEED, "meanwhile", "{}").expect("the node answers").expect(503).text();
        assert!(refused.contains("takes no events for now"), "{refused}");
    }

    fn reloads(&self) {
        self.0.signal(Signal::HUP);
        self.says("configuration and secrets are read again");
    }

    fn says(&self, words: &str) {
        wait::until(words, || self.1.all().iter().any(|line| line.contains(words)).then_some(()));
    }

    pub fn ends(self) {
        self.0.terminate();
    }
}

#[test]
fn without_its_folder_of_events_a_recipe_waits_for_the_backup_or_for_a_human_who_applies_it_again() {
    let mut edge = stage(true);
    let unready = Unready::without_events(&edge.node);
    edge.partner.up();
    unready.takes_nothing(&edge.node);
    // No human has said a word by these.
    unready.reloads();
    unready.takes_nothing(&edge.node);
    unready.ends();
    let unready = Unready::start(&edge.node);
    unready.takes_nothing(&edge.node);
    for refused in [["run", RECIPE].as_slice(), &["pause", RECIPE], &["delete", RECIPE, "--abandon"]] {
        let said = edge.node.cli(["sync"].iter().chain(refused).copied()).failed_with(1);
        assert!(said.contains(WAITS), "{refused:?}: {said}");
    }
    // One that is new would not know what it misses, and one that is refused is not the word either.
    let recipe = edge.recipe();
    let said = edge.node.try_apply(&recipe.replace(RECIPE, "new.sync")).failed_with(1);
    assert!(said.contains(WAITS), "{said}");
    let (http, spool) = (recipe.find("  - name: http").expect("it is there"), recipe.find("  - name: spool"));
    let without_http = format!("{}{}", &recipe[..http], &recipe[spool.expect("it is there")..]);
    let said = edge.node.try_apply(&without_http).failed_with(1);
    assert!(said.contains("--abandon"), "{said}");
    unready.takes_nothing(&edge.node);
    let said = edge.apply();
    assert!(said.contains(WAITS), "{said}");
    unready.ends();
    edge.node.start();
    edge.publish("after");
    let given = edge.promised.last().expect("it was just published").offset;
    assert_eq!(given, 25, "an offset that has a receipt is not given out again");
    tell(&mut edge, &["waits0", "waits1", "waits2", "waits3", "waits4"]);
    edge.judge();
}

#[test]
fn a_folder_of_events_that_is_put_back_is_as_if_it_had_never_been_away() {
    let mut edge = stage(false);
    let (events, away) = (file(&edge, "events"), file(&edge, "away"));
    fs::rename(&events, &away).expect("it is there");
    let unready = Unready::start(&edge.node);
    unready.takes_nothing(&edge.node);
    unready.ends();
    fs::remove_dir_all(&events).expect("the node made another");
    fs::rename(&away, &events).expect("it is there");
    edge.node.start();
    edge.partner.up();
    edge.publish("after");
    edge.judge();
}

#[test]
fn without_its_folder_of_events_no_recipe_of_the_feed_gives_up_what_it_waits_for() {
    let mut edge = stage(false);
    // It has begun nothing and settled nothing, and would be started last.
    let recipe = "z-behind.sync";
    let path = edge.node.path("spool/behind.csv");
    edge.node.start();
    edge.node.apply(&format!(
        "id: {recipe}\nsource:\n  feed: {FEED}\n  fields: [id]\n  from: beginning\ntargets:\n  - name: spool\n    \
         adapter: file\n    path: {}\n    format: csv\nschedule: cron \"0 3 1 1 *\"\n",
        path.display()
    ));
    edge.node.terminate();
    let unready = Unready::without_events(&edge.node);
    unready.says(&format!("\"recipe\":\"{recipe}\""));
}

/// Killed after the plan of an event is stored, and before its receipt is: nothing but the plan knows of its offset.
fn without_the_event_of_a_plan(point: &str) -> DropBox {
    let mut stage = DropBox::new(Node::faulty());
    stage.node.start();
    stage.node.apply(&stage.recipe(""));
    stage.publish("GR-1");
    stage.run().ok();
    stage.node.terminate();
    stage.node.start_to_die_at(point);
    stage.publish("GR-2");
    let _ = stage.run();
    stage.node.wait_until_dead();

    let unready = Unready::without_events(&stage.node);
    stage.node.apply(&stage.recipe(""));
    stage.publish("GR-3");
    let given: Vec<_> = stage.promised.iter().map(|event| event.offset).collect();
    assert_eq!(given, [0, 1, 2], "an offset that was begun is not given out again");
    stage.run();
    let fates = || {
        let records = stage.node.audit().into_iter().filter(|record| record["offset"].is_u64());
        let fate = |record: Value| json!([record["offset"], record["kind"], record["may_have_arrived"]]);
        Some(records.map(fate).collect::<Vec<_>>()).filter(|fates| fates.len() >= 3)
    };
    let expected = [json!([0, "delivered", null]), json!([1, "dead_lettered", true]), json!([2, "delivered", null])];
    assert_eq!(wait::until("each event's fate", fates), expected);
    unready.ends();
    stage
}

#[test]
fn an_event_that_is_lost_with_its_row_in_the_file_is_told_and_the_next_has_an_offset_of_its_own() {
    let stage = without_the_event_of_a_plan("append.verified");
    stage.expect(&["GR-1", "GR-2", "GR-3"].map(drop_box::row).concat());
}

#[test]
fn an_event_that_is_lost_before_its_row_is_written_is_told_and_the_next_has_an_offset_of_its_own() {
    let stage = without_the_event_of_a_plan("append.planned");
    stage.expect(&["GR-1", "GR-3"].map(drop_box::row).concat());
}

/// What a node says that does not start.
fn refused(edge: &Edge) -> String {
    let output = process::run(&mut edge.node.serve(), b"");
    assert_ne!(output.code, Some(0), "{output:?}");
    output.stderr
}

macro_rules! damages {
    ($($test:ident: $file:literal, $how:ident => $then:expr;)*) => {$(
        #[test]
        fn $test() {
            check($file, $how, $then);
        }
    )*};
}

damages! {
    a_truncated_event_journal: "events/000000000001.log", Truncated => Loses(&["the journal is DAMAGED", "are LOST"]);
    a_flipped_bit_in_the_event_journal: "events/000000000001.log", Flipped => GoesOn("the journal is DAMAGED");
    a_missing_event_journal: "events/000000000001.log", Missing => Refuses(&["restore the file", "rm "]);
    a_missing_mark_of_the_event_journal: "events/000000000001.log.mark", Missing => GoesOn("");
    a_truncated_audit: "audit/00000000000000000000.ndjson", Truncated => Refuses(&["restore the file", "rm "]);
    a_flipped_bit_in_the_audit: "audit/00000000000000000000.ndjson", Flipped => Refuses(&["damaged at line", "restore the file from a backup"]);
    a_missing_audit: "audit/00000000000000000000.ndjson", Missing => Refuses(&["is missing", "restore the file", "rm "]);
    truncated_begun_work: "work/begun.log", Truncated => Refuses(&["restore the file", "rm "]);
    a_flipped_bit_in_begun_work: "work/begun.log", Flipped => Refuses(&["damaged at byte", "restore the file", "mv "]);
    missing_begun_work: "work/begun.log", Missing => Refuses(&["is missing", "restore the file", "rm "]);
    a_missing_mark_of_begun_work: "work/begun.log.mark", Missing => GoesOn("");
    a_truncated_reserve: "work/reserve", Truncated => GoesOn("");
    a_flipped_bit_in_the_reserve: "work/reserve", Flipped => GoesOn("");
    a_missing_reserve: "work/reserve", Missing => GoesOn("");
    a_truncated_cache: "state/db", Truncated => GoesOn("");
    a_flipped_bit_in_the_cache: "state/db", Flipped => GoesOn("");
    a_missing_cache: "state/db", Missing => GoesOn("");
}
