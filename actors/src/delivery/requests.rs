//! The lane of requests: several in flight, never two that share a key. A key that is stuck holds back
//! only its own events.
//!
//! Events become units (one request each, `unit.rs`); units are stored as begun before they are sent, so that a
//! retry after anything sends the same events, in the shape of the same revision. `outcomes.rs` is what becomes
//! of a unit, `form.rs` how units come about.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Ended;
use super::base::{Base, Left};
use super::control::NotReplayed;
use super::keyed::Keys;
use super::unit::{Name, Outcome, Staged, attempt};
use crate::event::{Event, Key};
use crate::failure::Failure;
use crate::id::{Offset, Revision};
use crate::policy::circuit::Room;
use crate::ports::{Body, RequestPartner, Standing, Tries};
use crate::turns::Turn;
use crate::work::{Unit, Work};

mod asked;
mod form;
mod governed;
mod outcomes;

use form::Page;
use outcomes::Accepted;

/// Data in all units that wait to be sent: an outage costs disk, not memory.
const STAGED_BYTES: usize = 8 << 20;

/// A turn ends when nothing has been sent or answered for so long: the thread may have much else to do.
const PATIENCE: Duration = Duration::from_millis(100);

/// For how long partners, with their connections, are kept for what may come.
const LET_GO: Duration = Duration::from_secs(600);

struct Requests {
    concurrency: usize,
    max_events: usize,
    partners: HashMap<Revision, Rc<dyn RequestPartner>>,
    keys: Keys,
    /// The next offset to be read.
    scan: Offset,
    read: VecDeque<Event>,
    /// What comes after it.
    page: Option<Page>,
    /// Events that waited behind a key and may go now.
    released: VecDeque<(Key, Vec<Offset>)>,
    ready: VecDeque<Staged>,
    /// New ones that are not sent before they are stored as begun.
    storing: Option<Storing>,
    /// Those that go before `ready` as soon as something may go, in feed order.
    retry: VecDeque<Staged>,
    /// Those that wait for a time of their own, in the order in which they were tried.
    stuck: VecDeque<(Instant, Staged)>,
    /// Those that policies hold as they were begun.
    blocked: Vec<Staged>,
    /// New events that policies hold, each with its key.
    held: BTreeMap<Offset, Key>,
    running: FuturesUnordered<LocalBoxFuture<'static, Outcome>>,
    sending: usize,
    /// What is in flight.
    flying: HashMap<Name, Flight>,
    /// What is not committed yet.
    accepted: Accepted,
    /// When the rate limit has a place again.
    paced_until: Option<Instant>,
    /// The unit whose attempt failed last.
    failed_last: Option<Name>,
    /// Who waits for the replay of a dead letter.
    replays: HashMap<u64, oneshot::Sender<Result<(), NotReplayed>>>,
    /// Open units that may share a key with another one.
    shared: usize,
    /// Since when there has been nothing in it.
    empty_since: Option<Instant>,
    turn: Turn,
    /// When something was last sent or ended.
    moved: Instant,
}

/// What comes after work.
#[derive(PartialEq, Eq)]
enum Next {
    Rest,
    Stop,
}

/// Where the unit is that goes next.
enum Which {
    Ready(usize),
    Retry(usize),
    Stuck(usize),
}

/// Units on their way to the disk.
struct Storing {
    units: Vec<Staged>,
    /// When they are there, with the bodies that were made meanwhile.
    stored: LocalBoxFuture<'static, Result<Vec<Option<Body>>, Failure>>,
}

/// A unit in flight.
struct Flight {
    unit: Unit,
    keys: Rc<[Key]>,
    began: Instant,
}

/// Ends when it was told to. What waits for work is small: a lane is there only while it has something in it.
pub(super) async fn run(base: &mut Base, left: Box<Left>, concurrency: usize, max_events: usize) -> Ended {
    let mut lane = Box::new(Requests::new(base, concurrency, max_events));
    Box::pin(lane.take_up(base, left)).await?;
    while Box::pin(work(base, &mut lane)).await? == Next::Rest {
        drop(lane);
        base.wait(None).await;
        lane = Box::new(Requests::new(base, concurrency, max_events));
    }
    Ok(())
}

/// Works until it is told to stop, or there has been nothing to do for a while.
async fn work(base: &mut Base, lane: &mut Requests) -> Result<Next, Failure> {
    loop {
        if base.refresh() {
            // Somebody asked for a run: what waits for its retry is tried now.
            lane.hurry();
        }
        let (answers, replays) = Box::pin(base.asks()).await?;
        for answer in answers {
            Box::pin(lane.answered(base, answer)).await?;
        }
        for replay in replays {
            Box::pin(lane.replay(base, replay)).await?;
        }
        if base.control.stopping() && lane.running.is_empty() {
            lane.leave(base).await?;
            return Ok(Next::Stop);
        }
        lane.commit_what_is_due(base);
        lane.paced_until = lane.paced_until.filter(|&at| at > Instant::now());
        if base.room() != Room::Nothing {
            Box::pin(lane.ask_again(base)).await?;
            lane.complain_of_what_holds_back(base);
            if lane.has_turn(base) {
                Box::pin(lane.stage(base)).await?;
                Box::pin(lane.launch(base)).await?;
                lane.keep_turn(base);
            }
        } else {
            lane.turn.end();
            // An outage costs no memory: what is read and made ahead is read and made again.
            lane.page = None;
            lane.ready.iter_mut().for_each(|staged| staged.body = None);
        }
        Box::pin(base.close_policy_ticket()).await?;
        let busy = lane.storing.is_some() || lane.turn.waits() || lane.candidate(base, base.room()).is_some();
        base.control.under_way_since(lane.flying.values().map(|flight| flight.began).min());
        base.show(lane.running.len(), busy, lane.replaying());
        if lane.may_rest(base) {
            return Ok(Next::Rest);
        }
        let alarm = lane.alarm(base);
        tokio::select! {
            Some(outcome) = lane.running.next(), if !lane.running.is_empty() => Box::pin(lane.ended(base, outcome)).await?,
            bodies = stored(&mut lane.storing) => lane.stored(bodies?),
            () = lane.turn.comes(), if lane.turn.waits() => {}
            () = base.wait(alarm) => {}
        }
    }
}

/// When the units are on disk to stay; never if there are none.
async fn stored(storing: &mut Option<Storing>) -> Result<Vec<Option<Body>>, Failure> {
    match storing {
        Some(storing) => (&mut storing.stored).await,
        None => std::future::pending().await,
    }
}

impl Requests {
    fn new(base: &Base, concurrency: usize, max_events: usize) -> Self {
        Self {
            concurrency,
            max_events,
            partners: HashMap::new(),
            keys: Keys::default(),
            scan: base.settled.below(),
            read: VecDeque::new(),
            page: None,
            released: VecDeque::new(),
            ready: VecDeque::new(),
            storing: None,
            retry: VecDeque::new(),
            stuck: VecDeque::new(),
            blocked: Vec::new(),
            held: BTreeMap::new(),
            running: FuturesUnordered::new(),
            sending: 0,
            flying: HashMap::new(),
            accepted: Accepted::default(),
            paced_until: None,
            failed_last: None,
            replays: HashMap::new(),
            shared: 0,
            empty_since: None,
            turn: Turn::default(),
            moved: Instant::now(),
        }
    }

    /// Whether it may send now. A probe waits for no turn: it is one request.
    fn has_turn(&mut self, base: &Base) -> bool {
        base.room() == Room::Probe || self.turn.is_here() || (self.can_go_on(base) && self.turn.ask())
    }

    /// The turn ends when there is nothing to send, or what was sent takes long.
    fn keep_turn(&mut self, base: &Base) {
        if !self.can_go_on(base) && (self.running.is_empty() || self.moved.elapsed() >= PATIENCE) {
            self.turn.end();
        }
    }

    /// Whether something can be done before anything in flight has ended.
    fn can_go_on(&self, base: &Base) -> bool {
        let room = base.room();
        let sends = room != Room::Free || self.sending < self.concurrency;
        self.paced_until.is_none()
            && (self.storing.is_some() || (sends && self.candidate(base, room).is_some()) || self.can_stage(base))
    }

    /// What an earlier incarnation has left.
    async fn take_up(&mut self, base: &mut Base, left: Box<Left>) -> Ended {
        if let Some(Work::Requests(units)) = left.work {
            self.resume(base, units, &left.standing).await?;
        }
        self.note_hang(base).await
    }

    /// Whether nothing of it is needed any more: all that there is to know the base knows. Connections are kept for a
    /// while.
    fn may_rest(&mut self, base: &Base) -> bool {
        let waits = !self.read.is_empty() || !self.released.is_empty() || !self.held.is_empty();
        let waits = waits || self.paced_until.is_some() || base.ask_at().is_some() || self.turn.waits();
        if waits || !self.keys.is_empty() || !self.running.is_empty() || self.open_units().next().is_some() {
            self.empty_since = None;
            return false;
        }
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        self.partners.is_empty() || since.elapsed() >= LET_GO
    }

    /// Takes up the units that an earlier incarnation had begun. A unit of which a part is settled is sent
    /// whole again: its key and its bytes are those of the whole.
    async fn resume(&mut self, base: &mut Base, mut units: Vec<Unit>, standing: &Standing) -> Ended {
        units.retain(|unit| unit.letter.is_some() || unit.offsets.iter().any(|&at| !base.settled.contains(at)));
        units.sort_by_key(|unit| unit.offsets.first().copied());
        for unit in units {
            let events = match unit.letter {
                None => base.read_each(&unit.offsets).await?,
                Some(letter) => match base.letter(letter).await? {
                    Some(event) => vec![event],
                    // Delivered or dropped meanwhile.
                    None => continue,
                },
            };
            if events.len() != unit.offsets.len() {
                return Err(Failure::node("events of a request that was begun are not in the event store"));
            }
            let partner = self.partner(base, unit.revision)?;
            let mut staged = Staged::new(unit, events, partner.as_ref());
            let tried = standing.tries.get(&staged.counted_as()).copied().unwrap_or_default();
            // Nobody knows whether an attempt was under way when that incarnation ended.
            staged.tries = Tries { may_have_arrived: true, ..tried };
            staged.stays = true;
            // It may be a part of a batch, and share a key with another part.
            staged.shared = true;
            self.open_unit(staged);
        }
        Ok(())
    }

    /// A unit that is begun and is to be sent before new ones.
    fn open_unit(&mut self, staged: Staged) {
        self.shared += usize::from(staged.shared);
        staged.keys.iter().for_each(|key| self.keys.take(key.clone()));
        self.put_before(staged);
    }

    /// It goes before new ones, in feed order.
    fn put_before(&mut self, staged: Staged) {
        let at = self.retry.partition_point(|other| other.first() < staged.first());
        self.retry.insert(at, staged);
    }

    /// Sends what there is room for.
    async fn launch(&mut self, base: &mut Base) -> Ended {
        while self.paced_until.is_none() {
            let room = base.room();
            if room == Room::Nothing || (room == Room::Free && self.sending >= self.concurrency) {
                break;
            }
            let Some(staged) = self.candidate(base, room).and_then(|which| self.pull(which)) else { break };
            let Some(staged) = self.governed(base, staged).await? else { continue };
            let partner = match self.partner(base, staged.unit.revision) {
                Ok(partner) => partner,
                Err(failure) => {
                    self.not_sent(base, staged, failure).await?;
                    continue;
                }
            };
            if let Err(at) = base.pacer.try_place().await? {
                self.paced_until = Some(at);
                self.retry.push_front(staged);
                break;
            }
            let permit = base.begin_attempt().await?;
            let flight = Flight { unit: staged.unit.clone(), keys: staged.keys.clone(), began: Instant::now() };
            self.flying.insert(staged.name(), flight);
            self.sending += 1;
            self.running.push(Box::pin(attempt(base, partner, staged, permit)));
            self.moved = Instant::now();
            if !self.turn.goes_on() {
                break;
            }
        }
        Ok(())
    }

    /// Which unit goes next, if one may: what was tried before new ones. A probe is not held up by a unit's own
    /// back-off, and goes with another unit than the last one that was refused.
    fn candidate(&self, base: &Base, room: Room) -> Option<Which> {
        let (now, probe, refuses_all) = (Instant::now(), room == Room::Probe, base.refuses_all());
        let due = |at: Instant, staged: &Staged| at <= now || (probe && (refuses_all || !staged.refused_last));
        let free = |(at, staged): &(Instant, Staged)| due(*at, staged) && !self.conflicts(staged);
        let ready = || self.ready.iter().position(|staged| !self.conflicts(staged)).map(Which::Ready);
        let retry = || self.retry.iter().position(|staged| !self.conflicts(staged)).map(Which::Retry);
        let stuck = || self.stuck.iter().position(free).map(Which::Stuck);
        match room {
            Room::Nothing => None,
            Room::Probe if refuses_all => ready().or_else(retry).or_else(stuck),
            _ => retry().or_else(stuck).or_else(ready),
        }
    }

    fn pull(&mut self, which: Which) -> Option<Staged> {
        match which {
            Which::Ready(at) => self.ready.remove(at),
            Which::Retry(at) => self.retry.remove(at),
            Which::Stuck(at) => self.stuck.remove(at).map(|(_, staged)| staged),
        }
    }

    /// Whether a key of it is in flight, or belongs to an older part of its batch. Only units that came about by a
    /// split or a replay share keys with others.
    fn conflicts(&self, staged: &Staged) -> bool {
        if self.shared == 0 {
            return false;
        }
        let shares = |keys: &[Key]| keys.iter().any(|key| staged.keys.binary_search(key).is_ok());
        let in_flight = self.flying.values().any(|flight| shares(&flight.keys));
        let is_older =
            |other: &Staged| other.unit.letter.is_none() && other.first() < staged.first() && shares(&other.keys);
        let wait = || self.retry.iter().chain(self.stuck.iter().map(|(_, other)| other)).chain(&self.blocked);
        let waits = || wait().any(is_older);
        in_flight || (staged.unit.letter.is_none() && waits())
    }

    /// The dead letters that are being delivered.
    fn replaying(&self) -> Vec<u64> {
        if self.shared == 0 { Vec::new() } else { self.open_units().filter_map(|unit| unit.letter).collect() }
    }

    /// What waits for a time of its own goes now.
    fn hurry(&mut self) {
        self.stuck.iter_mut().for_each(|(at, _)| *at = Instant::now());
    }

    /// Told to stop: only what was really tried stays begun; the rest belongs to the next revision. A single event of
    /// which it is known that no attempt had an effect is free for it as well: a wrong address can be mended.
    async fn leave(&mut self, base: &Base) -> Ended {
        self.ready.clear();
        self.storing = None;
        self.retry.retain(Staged::stays_begun);
        self.blocked.retain(Staged::stays_begun);
        self.stuck.retain(|(_, staged)| staged.stays_begun());
        self.store_open(base).await
    }

    /// All units that are begun and not settled.
    fn open_units(&self) -> impl Iterator<Item = &Unit> {
        let staged = self.retry.iter().chain(self.stuck.iter().map(|(_, staged)| staged)).chain(&self.ready);
        let staged = staged.chain(self.storing.iter().flat_map(|storing| &storing.units)).chain(&self.blocked);
        staged.map(|staged| &staged.unit).chain(self.flying.values().map(|flight| &flight.unit))
    }

    /// Stores what is begun and not settled. What was on its way to the disk is a part of it, and takes its place there
    /// no more: the ledger does things in the order in which it is asked to.
    async fn store_open(&mut self, base: &Base) -> Ended {
        base.begin(Work::Requests(self.open_units().cloned().collect())).await?;
        self.stored(Vec::new());
        Ok(())
    }

    /// Begins to store what is begun and not settled, with these new units, which are begun under `seal`. Their bodies are
    /// made meanwhile.
    fn store(&mut self, base: &Base, units: Vec<Staged>, partner: Rc<dyn RequestPartner>, seal: u32) {
        let opened = self.open_units().chain(units.iter().map(|staged| &staged.unit)).cloned().collect();
        let begun = base.begin(Work::Requests(opened));
        let requests = units.iter().map(|staged| staged.events.clone()).collect();
        let stored = async move {
            // A panic is met again, and told of, when it is sent.
            let rendering = AssertUnwindSafe(partner.render(requests, seal)).catch_unwind();
            let (stored, bodies) = join(begun, rendering).await;
            stored.map(|()| bodies.unwrap_or_default())
        };
        self.storing = Some(Storing { units, stored: Box::pin(stored) });
    }

    /// What was on its way to the disk is there, and may go.
    fn stored(&mut self, bodies: Vec<Option<Body>>) {
        let Some(Storing { mut units, .. }) = self.storing.take() else { return };
        self.moved = Instant::now();
        units.iter_mut().zip(bodies).for_each(|(staged, body)| staged.body = body);
        self.ready.extend(units);
    }

    /// When something that waits could be sent.
    fn alarm(&self, base: &Base) -> Option<Instant> {
        let could = base.room() != Room::Nothing && self.sending < self.concurrency;
        // What is due and was not sent waits for something that is in flight, or comes later itself.
        let now = Instant::now();
        let due = self.stuck.iter().map(|(at, _)| *at).filter(|at| *at > now).min().filter(|_| could);
        let asks = base.ask_at().filter(|_| base.room() != Room::Nothing);
        let let_go = self.empty_since.map(|since| since + LET_GO);
        // Once that is past it was not for nothing in flight that the turn was kept.
        let turn = Some(self.moved + PATIENCE).filter(|&at| self.turn.is_here() && at > now);
        [self.paced_until.or(due), self.accepted.due(), asks, let_go, turn].into_iter().flatten().min()
    }

    fn partner(&mut self, base: &Base, revision: Revision) -> Result<Rc<dyn RequestPartner>, Failure> {
        if let Some(partner) = self.partners.get(&revision) {
            return Ok(partner.clone());
        }
        let partner = base.env.partners.requests(&base.key, revision)?;
        self.partners.insert(revision, partner.clone());
        Ok(partner)
    }
}
