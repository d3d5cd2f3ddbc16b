//! Files in all their forms: a file per batch, headers, line ends, formats, awkward values.

use chaos_tests::judge::{Evidence, FileCopy, Guarantee, Target, World, judge};
use chaos_tests::node::Node;

use super::drop_box::{DropBox, FEED, RECIPE, row};

fn running(more: &str) -> DropBox {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    stage.node.apply(&stage.recipe(more));
    stage
}

/// All files of the spool, by name.
fn files(stage: &DropBox) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(stage.node.path("spool")).expect("the folder is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("the rows are UTF-8"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn each_batch_is_a_file_of_its_own() {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    let recipe = stage.recipe("    write: file_per_batch\n").replace("grants.csv", "{batch}.csv");
    stage.node.apply(&recipe);
    stage.publish("GR-0");
    stage.publish("GR-1");
    stage.run().ok();
    stage.publish("GR-2");
    stage.run().ok();
    let expected = [
        ("drop.sync-spool-0-1.csv".to_owned(), row("GR-0") + &row("GR-1")),
        ("drop.sync-spool-2-2.csv".to_owned(), row("GR-2")),
    ];
    assert_eq!(files(&stage), expected);
}

#[test]
fn a_file_per_batch_never_overwrites_what_somebody_else_has_put_there() {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    let recipe = stage.recipe("    write: file_per_batch\n").replace("grants.csv", "{batch}.csv");
    stage.node.apply(&recipe);
    stage.node.file("spool/drop.sync-spool-0-0.csv", "not ours\n");
    stage.publish("GR-0");
    stage.run().failed_with(1);
    assert_eq!(files(&stage), [("drop.sync-spool-0-0.csv".to_owned(), "not ours\n".to_owned())]);
    assert_eq!(stage.node.open_tickets().len(), 1);
}

#[test]
fn a_file_per_batch_needs_the_batch_in_its_path() {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    let refused = stage.node.try_apply(&stage.recipe("    write: file_per_batch\n")).failed_with(2);
    assert!(refused.contains("{batch}"), "{refused}");
}

#[test]
fn a_header_is_written_once_and_names_are_mapped() {
    let mut stage = running("    header: true\n    line_end: crlf\n    map: {amount: amt}\n");
    stage.publish("GR-1");
    stage.run().ok();
    stage.publish("GR-2");
    stage.run().ok();
    assert_eq!(stage.text(), "id,amt\r\nGR-1,1250.10\r\nGR-2,1250.10\r\n");
}

#[test]
fn values_are_carried_digit_for_digit_and_quoted_as_rfc_4180_says() {
    let stage = running("");
    for (id, data) in [
        ("money", r#"{"id":"money","amount":1250.10}"#),
        ("long", r#"{"id":"long","amount":12345678901234567890}"#),
        ("exponent", r#"{"id":"exponent","amount":1E400}"#),
        ("quoted", r#"{"id":"a \"b\", c","amount":"line\nbreak"}"#),
        ("nested", r#"{"id":"nested","amount":{"a":[1.0,null]}}"#),
        ("null", r#"{"id":"null","amount":null}"#),
        ("absent", r#"{"id":"absent","other":1}"#),
        ("letters", r#"{"id":"Brücke \u2603","amount":true}"#),
    ] {
        stage.node.publish(FEED, id, data);
    }
    stage.run().ok();
    let expected = "money,1250.10\nlong,12345678901234567890\nexponent,1E400\n\"a \"\"b\"\", c\",\"line\nbreak\"\n\
                    nested,\"{\"\"a\"\":[1.0,null]}\"\nnull,\nabsent,\nBrücke ☃,true\n";
    assert_eq!(stage.text(), expected);
}

#[test]
fn json_lines_carry_the_publishers_own_digits() {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    stage.node.apply(&stage.recipe("").replace("format: csv", "format: jsonl"));
    stage.node.publish(FEED, "GR-1", "{\"id\": \"GR-1\", \"dropped\": 1,\n \"amount\": 1250.10}");
    stage.run().ok();
    assert_eq!(stage.text(), "{\"id\":\"GR-1\",\"amount\":1250.10}\n");
}

#[test]
fn rows_of_others_between_ours_are_kept_and_a_missing_line_end_is_added() {
    let mut stage = running("");
    stage.publish("GR-1");
    stage.run().ok();
    let theirs = stage.text() + "theirs,1";
    stage.node.file("spool/grants.csv", &theirs);
    stage.publish("GR-2");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-1") + "theirs,1\n" + &row("GR-2"));
    assert!(stage.node.audit().iter().any(|record| record["kind"] == "file_changed"));
}

#[test]
fn a_file_that_was_taken_after_its_last_plan_was_settled_is_begun_anew() {
    let mut stage = running("");
    stage.publish("GR-1");
    stage.run().ok();
    std::fs::remove_file(stage.node.path("spool/grants.csv")).expect("the file is there");
    stage.publish("GR-2");
    stage.run().ok();
    assert_eq!(stage.text(), row("GR-2"));
    assert_eq!(stage.node.open_tickets().len(), 0);
}

#[test]
fn two_targets_that_could_write_one_file_are_refused() {
    let stage = running("");
    let second = stage.recipe("").replace(RECIPE, "second.sync");
    let refused = stage.node.try_apply(&second);
    assert!(matches!(refused.code, Some(1 | 2)), "{refused:?}");
    assert!(format!("{refused:?}").contains(RECIPE), "it names the other one: {refused:?}");
}

#[test]
fn a_path_that_climbs_out_is_refused() {
    let mut stage = DropBox::new(Node::new());
    stage.node.start();
    let climbing = stage.recipe("").replace("spool/grants.csv", "spool/../../etc/{recipe}.csv");
    stage.node.try_apply(&climbing).failed_with(2);
}

#[test]
fn the_events_of_a_thousand_publishes_and_ten_kills_are_there_once_and_in_order() {
    let mut stage = running("");
    stage.node.apply(&stage.recipe("").replace("every 1h", "on_change"));
    for number in 0..1000 {
        stage.publish(&format!("GR-{number}"));
        if number % 100 == 50 {
            stage.node.restart();
        }
    }
    stage.run();
    stage.expect(&(0..1000).map(|number| row(&format!("GR-{number}"))).collect::<String>());
    let settled = || stage.node.target(RECIPE, "spool")["backlog"] == 0;
    chaos_tests::wait::until("the receipts", || settled().then_some(()));
    let path = stage.node.path("spool/grants.csv").display().to_string();
    let copy = FileCopy { path, bytes: stage.text().into_bytes(), ..FileCopy::default() };
    let target = Target::new(RECIPE, "spool", Guarantee::ExactlyOnce, Evidence::Files(vec![copy]));
    let (acknowledged, audit) = (stage.promised.clone(), stage.node.audit());
    assert_eq!(judge(&World { acknowledged, audit, targets: vec![target], ..World::default() }), []);
}
