//! What happens when, as data: a schedule is made from a seed before anything runs, so the same seed gives the same
//! bytes. How a step is carried out is `stage.rs`.

use std::fmt;
use std::ops::RangeInclusive;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stage::Stage;
use crate::proxy::{self, Towards};

/// One thing that happens.
#[derive(Clone)]
pub enum Step {
    /// So many new events are published, and repeated until they are acknowledged, beside what follows.
    Publish(u32),
    /// All that was published is acknowledged.
    Acknowledged,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// kill -9 of the node.
    Kill,
    /// The node's machine loses power: what was not synced is gone. It must have been started with `power`.
    PowerCut,
    Start,
    /// The node starts with a fault point at which it will die, or worse: the value of `HMS_FAULT`.
    StartWith(String),
    /// The node has died at its fault point; until then there is always another event.
    Died,
    /// Something is wrong with a target's partner, or on the way to it, from now on.
    Fault(String, Fault),
    /// Everything is well again with the target's partner.
    Heal(String),
    /// Somebody at the partner does something to our file.
    Hand(String, Hand),
    /// So many attempts have failed that the target's circuit is open, however long their back-off was.
    Opened(String),
    /// What waits is tried now.
    Run,
    /// `hms dlq replay` of all dead letters, so many a second, beside what follows; it ends with the node.
    Replay(u64),
    /// All dead letters are replayed, again and again until none is left.
    ReplayAll,
    /// Nothing waits any more; tickets that ask whether rows arrived are answered by somebody who looks.
    Settle,
    /// The node's clock says so many minutes after the first midnight of the run, from now on. Only a node with fault
    /// points looks.
    ClockAt(i64),
    /// What only one scenario does.
    Call(&'static str, fn(&mut Stage)),
}

/// What is wrong with a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens, and all connections are cut.
    Down,
    /// Requests are taken and never answered, every second one carried out; a file server's machine stops.
    Hang,
    /// Requests are answered with 200 at once, and then with a body that never ends.
    Tarpit,
    /// The network on the way.
    Network(Towards, proxy::Fault),
    /// The disk is full.
    Full,
    /// Every request is answered so, and has no effect.
    Answer(u16),
    /// Every n-th request is carried out, and its connection cut before the answer.
    LoseReplies(u32),
    /// Each answer takes so many milliseconds.
    Slow(u64),
    /// Requests that contain this text are refused with 422.
    Refuse(String),
    /// Every n-th request is answered with 503.
    Flap(u32),
}

/// What somebody else does at the partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hand {
    /// Takes the file away, as the mainframe does.
    PickUp,
    /// Takes the file away and puts an empty one in its place.
    Empty,
    /// Cuts the file after so many rows, having read it.
    CutAfter(usize),
    /// Appends a row.
    Append(String),
    /// Takes the file away and begins it anew with a row.
    BeginAnew(String),
}

pub(super) fn fault(target: &str, fault: Fault) -> Step {
    Step::Fault(target.to_owned(), fault)
}

pub(super) fn heal(target: &str) -> Step {
    Step::Heal(target.to_owned())
}

/// All steps of a run.
#[derive(Clone, Default)]
pub struct Schedule(pub Vec<Step>);

impl Schedule {
    pub fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.0.extend(steps);
        self
    }
}

impl FromIterator<Step> for Schedule {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

/// One line a step.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Publish(count) => write!(f, "publish {count}"),
            Self::Acknowledged => write!(f, "all acknowledged"),
            Self::Wait(milliseconds) => write!(f, "wait {milliseconds} ms"),
            Self::Kill => write!(f, "kill -9 the node"),
            Self::PowerCut => write!(f, "cut the power"),
            Self::Start => write!(f, "start the node"),
            Self::StartWith(point) => write!(f, "start the node with {point}"),
            Self::Died => write!(f, "publish until it has died"),
            Self::Fault(target, fault) => write!(f, "{target}: {fault}"),
            Self::Heal(target) => write!(f, "{target}: well again"),
            Self::Hand(target, hand) => write!(f, "{target}: {hand}"),
            Self::Opened(target) => write!(f, "{target}: until its circuit is open"),
            Self::Run => write!(f, "run"),
            Self::Replay(rate) => write!(f, "replay all, {rate}/s"),
            Self::ReplayAll => write!(f, "replay until no dead letter is left"),
            Self::Settle => write!(f, "settle"),
            Self::ClockAt(minutes) => write!(f, "the clock steps to midnight {minutes:+} min"),
            Self::Call(what, _) => write!(f, "{what}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Down => write!(f, "down"),
            Self::Hang => write!(f, "hangs"),
            Self::Tarpit => write!(f, "tarpit"),
            Self::Network(towards, fault) => write!(f, "network towards {towards:?}: {fault:?}"),
            Self::Full => write!(f, "disk full"),
            Self::Answer(status) => write!(f, "answers {status}"),
            Self::LoseReplies(every) => write!(f, "loses reply {every}, {}, …", 2 * every),
            Self::Slow(milliseconds) => write!(f, "takes {milliseconds} ms"),
            Self::Refuse(text) => write!(f, "refuses {text}"),
            Self::Flap(every) => write!(f, "503 for request {every}, {}, …", 2 * every),
        }
    }
}

impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::PickUp => write!(f, "file picked up"),
            Self::Empty => write!(f, "file emptied"),
            Self::CutAfter(rows) => write!(f, "file cut after {rows} rows"),
            Self::Append(row) => write!(f, "foreign row {row}"),
            Self::BeginAnew(row) => write!(f, "file begun anew with {row}"),
        }
    }
}

/// Random numbers of a seed, the same on every machine.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// Some events, as a publisher's burst.
    pub fn burst(&mut self) -> Step {
        Step::Publish(self.0.random_range(1..=12))
    }

    pub fn wait(&mut self, milliseconds: RangeInclusive<u64>) -> Step {
        Step::Wait(self.number(milliseconds))
    }

    pub fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.0.random_range(0..items.len())]
    }
}
