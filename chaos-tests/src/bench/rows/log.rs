//! The event log itself, called as a library and without the memory of ids (`log-ids`: with it): groups that are synced
//! one by one, against a plain file that gets as many bytes in as many groups.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use hms_actors::id::{FeedName, Timestamp};
use hms_actors::ports::EventLog;
use hms_sync::feeds::{Batch, FeedLog, NewEvent, Options};

use crate::bench::results::{Figure, Goal, Row, Run};
use crate::bench::stage::Clock;
use crate::bench::{Settings, events};

const GOAL: Goal = Goal { reach: 0.8, aim: 0.95 };
/// One group is made ready while another is synced: a node has several publishers.
const CALLERS: usize = 2;

pub fn hundreds(settings: &Settings) -> Row {
    written(settings, "log-100", 100, settings.sized(300_000, 1_000), false)
}

pub fn thousands(settings: &Settings) -> Row {
    written(settings, "log-1000", 1_000, settings.sized(1_000_000, 4_000), false)
}

pub fn with_ids(settings: &Settings) -> Row {
    written(settings, "log-ids", 1_000, settings.sized(1_000_000, 4_000), true)
}

fn written(settings: &Settings, name: &str, group: usize, count: usize, remember_ids: bool) -> Row {
    let mut row = Row::new(name);
    // This is the program that is measured, and a node runs for longer than it takes to get memory from the system: the
    // first turn is for that.
    for turn in 0..=settings.turns {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let run = log(&mut row, folder.path(), group, count, remember_ids);
        let bytes = run.get("bytes") as usize;
        let reference = file(&folder.path().join("reference"), group, count, bytes);
        if let Some(turn) = turn.checked_sub(1) {
            row.push(turn, "node", run);
            row.push(turn, "file", reference);
        }
    }
    let figure = Figure::new(
        &format!("{name}, the log in groups of {group}"),
        "a file, same bytes, fdatasync after each group",
        "×",
        (!remember_ids).then_some(GOAL),
    );
    row.compare(figure, "node", "file", Run::rate);
    row
}

fn log(row: &mut Row, folder: &Path, group: usize, count: usize, remember_ids: bool) -> Run {
    let feed = FeedName::parse("bench").expect("a name");
    let options = || Options { remember_ids, ..Options::new(Arc::new(|| Timestamp(1_800_000_000_000))) };
    let open = || FeedLog::open(folder, options()).expect("the folder is ours");
    let batch = |first: usize| {
        let events: Vec<NewEvent> = (first..count.min(first + group)).map(event).collect();
        Batch::of(&feed, &events)
    };
    let mut batches: Vec<Vec<Batch>> = (0..CALLERS).map(|_| Vec::new()).collect();
    (0..count).step_by(group).enumerate().for_each(|(n, first)| batches[n % CALLERS].push(batch(first)));
    let log = open();
    let clock = Clock::start(None, &[], &[]);
    std::thread::scope(|scope| {
        for batches in batches {
            let log = &log;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
                for batch in batches {
                    runtime.block_on(log.take(batch)).expect("there is room");
                }
            });
        }
    });
    let run = clock.stop(count);
    log.close();
    drop(log);
    let bytes: u64 = segments(folder).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum();
    check(row, &read(&open(), &feed), count);
    run.with("bytes", bytes as f64)
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("the log is there").map_while(Result::ok).map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect()
}

/// What is there after the log was opened again.
fn read(log: &FeedLog, feed: &FeedName) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let (mut ids, mut next) = (Vec::new(), 0);
    loop {
        let events = log.read(feed, next, u64::MAX, 10_000, 64 << 20);
        let events = runtime.block_on(events).expect("the log can be read");
        let Some(last) = events.last() else { return ids };
        next = last.offset + 1;
        ids.extend(events.into_iter().map(|event| event.id));
    }
}

fn check(row: &mut Row, ids: &[String], count: usize) {
    if !is_whole(ids, count) {
        row.violations.push(format!("{} events in the log, not each of {count} once", ids.len()));
    }
    // The null control: one missing, and one twice in its place.
    let mut twice = ids.to_vec();
    twice.pop();
    row.judge_notices = !is_whole(&twice, count);
    twice.extend(ids.first().cloned());
    row.judge_notices &= !is_whole(&twice, count);
}

fn is_whole(ids: &[String], count: usize) -> bool {
    let distinct: HashSet<&String> = ids.iter().collect();
    ids.len() == count && distinct.len() == count
}

/// As many bytes in as many groups.
fn file(path: &Path, group: usize, count: usize, bytes: usize) -> Run {
    let groups = count.div_ceil(group);
    let part = vec![b'.'; bytes / groups];
    let mut file = File::create(path).expect("the folder is writable");
    let clock = Clock::start(None, &[], &[]);
    for _ in 0..groups {
        file.write_all(&part).and_then(|()| file.sync_data()).expect("the disk takes it");
    }
    clock.stop(count)
}

fn event(number: usize) -> NewEvent {
    NewEvent {
        id: events::id(number),
        source: "/bench".to_owned(),
        kind: "bench.grant".to_owned(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: events::data(number).into_bytes().into(),
    }
}
