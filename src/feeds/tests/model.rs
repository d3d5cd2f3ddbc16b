//! The log against a plain model: any sequence of publishing, restarts, harm to files that a crash or a
//! careless hand can do, and housekeeping.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use proptest::prelude::*;

use super::*;

const FEEDS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    /// Ids of one request, each with which of two contents.
    Publish {
        feed: usize,
        events: Vec<(u8, bool)>,
    },
    Restart,
    /// A restart after a crash in the middle of a write: so many bytes of a request that nobody was told of.
    Torn {
        bytes: usize,
    },
    /// A restart with the files of a kind gone.
    Lost {
        kind: &'static str,
    },
    Register {
        feed: usize,
        reader: u8,
        back: u64,
    },
    Advance {
        feed: usize,
        reader: u8,
        by: u64,
    },
    Remove {
        feed: usize,
        reader: u8,
    },
    Maintain {
        minutes: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let feed = || 0..FEEDS.len();
    let publish = (feed(), proptest::collection::vec((any::<u8>(), proptest::bool::weighted(0.1)), 1..12));
    prop_oneof![
        12 => publish.prop_map(|(feed, events)| Step::Publish { feed, events }),
        1 => Just(Step::Restart),
        1 => (1usize..200).prop_map(|bytes| Step::Torn { bytes }),
        1 => prop_oneof![Just("idx"), Just("ids")].prop_map(|kind| Step::Lost { kind }),
        1 => (feed(), 0..2u8, 0..30u64).prop_map(|(feed, reader, back)| Step::Register { feed, reader, back }),
        3 => (feed(), 0..2u8, 0..30u64).prop_map(|(feed, reader, by)| Step::Advance { feed, reader, by }),
        1 => (feed(), 0..2u8).prop_map(|(feed, reader)| Step::Remove { feed, reader }),
        3 => (1..90i64).prop_map(|minutes| Step::Maintain { minutes }),
    ]
}

/// What a feed must be.
#[derive(Default)]
struct Plain {
    /// Id, data and publication by offset.
    events: Vec<(String, String, i64)>,
    /// Offset of the last use of each id.
    ids: HashMap<String, usize>,
    readers: BTreeMap<String, Offset>,
}

impl Plain {
    /// Everything from here on must still be there.
    fn needed(&self, now: i64) -> usize {
        let young = self.events.iter().position(|(_, _, published)| published + HOUR_MS > now);
        let readers = self.readers.values().min().map_or(usize::MAX, |&position| position as usize);
        young.unwrap_or(self.events.len()).min(readers)
    }
}

struct Run {
    dir: tempfile::TempDir,
    hand: Hand,
    now: i64,
    log: Option<Arc<FeedLog>>,
    plain: [Plain; 3],
    /// Ids that were remembered only in a lost table may be forgotten.
    lost_ids: bool,
}

impl Run {
    fn new() -> Self {
        let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
        let mut run = Self { dir, hand, now: 0, log: None, plain: Default::default(), lost_ids: false };
        run.restart(|_| ());
        run
    }

    fn log(&self) -> &FeedLog {
        self.log.as_ref().unwrap()
    }

    fn restart(&mut self, harm: impl FnOnce(&Path)) {
        self.log = None;
        harm(self.dir.path());
        let log = open(self.dir.path(), Options { segment_bytes: 1_024, ..self.hand.options() });
        for (feed, plain) in FEEDS.iter().zip(&self.plain) {
            plain.readers.iter().for_each(|(reader, &position)| log.register_reader(&name(feed), reader, position));
        }
        log.start_retention();
        self.log = Some(log);
    }

    async fn publish(&mut self, feed: usize, events: &[(u8, bool)]) {
        let events: Vec<NewEvent> = events
            .iter()
            .map(|(id, other)| event(&format!("id{id}"), &format!(r#"{{"x":{}}}"#, u8::from(*other))))
            .collect();
        let answer = self.log().publish(&name(FEEDS[feed]), events.clone()).await;
        let needed = self.plain[feed].needed(self.now);
        let (now, lost_ids) = (self.now, self.lost_ids);
        let plain = &mut self.plain[feed];
        // Ids that must be remembered: the event must be kept or is within the window.
        let remembered =
            |plain: &Plain, offset: usize| offset >= needed || (!lost_ids && plain.events[offset].2 + HOUR_MS > now);
        match answer {
            Ok(accepted) => {
                for (sent, got) in events.iter().zip(accepted) {
                    let data = std::str::from_utf8(&sent.data).unwrap().to_owned();
                    let known = plain.ids.get(&sent.id).copied();
                    if got.duplicate {
                        let known = known.expect("a duplicate of something");
                        assert_eq!((got.offset as usize, &plain.events[known].1), (known, &data));
                    } else {
                        assert!(known.is_none_or(|known| !remembered(plain, known)), "a repeat was taken as new");
                        assert_eq!(got.offset as usize, plain.events.len());
                        plain.ids.insert(sent.id.clone(), plain.events.len());
                        plain.events.push((sent.id.clone(), data, now));
                    }
                }
            }
            Err(PublishError::Conflict { id, .. }) => {
                let of_id = events.iter().filter(|event| event.id == id).map(|event| event.data.to_vec());
                let known = plain.ids.get(&id).map(|&known| plain.events[known].1.clone().into_bytes());
                let contents: std::collections::HashSet<Vec<u8>> = of_id.chain(known).collect();
                assert_eq!(contents.len(), 2, "a conflict between equals");
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { feed, ref events } => self.publish(feed, events).await,
            Step::Restart => self.restart(|_| ()),
            Step::Torn { bytes } => self.restart(|dir| tear(dir, bytes)),
            Step::Lost { kind } => {
                self.lost_ids |= kind == "ids";
                self.restart(|dir| files(dir, kind).iter().for_each(|path| std::fs::remove_file(path).unwrap()));
            }
            Step::Register { feed, reader, back } => {
                let oldest = self.log().oldest(&name(FEEDS[feed]));
                let position = (self.plain[feed].events.len() as u64).saturating_sub(back).max(oldest);
                self.log().register_reader(&name(FEEDS[feed]), &reader.to_string(), position);
                self.plain[feed].readers.insert(reader.to_string(), position);
            }
            Step::Advance { feed, reader, by } => {
                let head = self.plain[feed].events.len() as u64;
                if let Some(position) = self.plain[feed].readers.get_mut(&reader.to_string()) {
                    *position = (*position + by).min(head).max(*position);
                    let position = *position;
                    self.log().advance(&name(FEEDS[feed]), &reader.to_string(), position);
                }
            }
            Step::Remove { feed, reader } => {
                self.plain[feed].readers.remove(&reader.to_string());
                self.log().remove_reader(&name(FEEDS[feed]), &reader.to_string());
            }
            Step::Maintain { minutes } => {
                self.now += minutes * 60_000;
                self.hand.set(self.now);
                self.log().maintain(Timestamp(self.now)).await;
            }
        }
    }

    async fn check(&self) {
        for (feed, plain) in FEEDS.iter().zip(&self.plain) {
            let feed = name(feed);
            let oldest = self.log().oldest(&feed) as usize;
            assert_eq!(self.log().head(&feed).get() as usize, plain.events.len());
            assert!(oldest <= plain.needed(self.now), "{feed}: kept from {oldest}, needed {}", plain.needed(self.now));
            let read = all(self.log(), &feed).await;
            assert_eq!(read.len(), plain.events.len() - oldest);
            for (event, offset) in read.iter().zip(oldest..) {
                let (id, data, published) = &plain.events[offset];
                assert_eq!((event.offset as usize, &event.id, event.published.0), (offset, id, *published));
                assert_eq!(event.data, data.as_bytes());
            }
            let first = plain.events.get(oldest).map(|event| Timestamp(event.2));
            assert_eq!(self.log().first_published(&feed, 0).unwrap(), first);
        }
    }
}

/// Leaves the beginning of a good frame at the end of the journal, as a crash does.
fn tear(dir: &Path, bytes: usize) {
    let path = files(dir, "log").pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let scan = crate::feeds::frame::scan(&whole, 1, crate::feeds::frame::Tail::Synced);
    let Some(last) = scan.frames.last() else { return };
    let part = &whole[last.at..last.at + bytes.min(last.length - 1)];
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(part).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_agrees_with_a_plain_model(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in &steps {
                run.take(step).await;
                run.check().await;
            }
        });
    }
}
