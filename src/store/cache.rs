//! The cache of the state, in sled: it only makes starts quick. It can be deleted; what it lacks is rebuilt
//! from the audit. It is saved as a whole every few seconds, never per record.
//!
//! A row's key is its JSON name, a zero byte and a piece's number (2 bytes, big-endian); the value is that
//! piece of the row's JSON. Values stay under 16 KiB, because sled leaks big ones. All changes of one save
//! are one batch, so that rows and the audit number that they include belong together; the key `seal` says
//! how many rows there are and the sum of their checksums, because sled recovers what it can of a damaged
//! file and does not say what it left out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use hms_actors::id::TargetKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::{Counters, Row, State, StoredRecipe, TicketState};

pub(super) struct Cache {
    db: sled::Db,
    seal: Seal,
}

/// What the rows add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Seal {
    rows: u64,
    sum: u64,
}

const SEAL: &[u8] = b"seal";
const PIECE: usize = 15 << 10;
const UNLOCKED_WITHIN: Duration = Duration::from_secs(5);

/// A row and its JSON; `None` when it is gone.
pub(super) type Change = (Row, Option<Vec<u8>>);

impl Cache {
    /// The cache and the state in it, given which records of the audit are there. A cache that can't be used is moved aside.
    pub fn open(dir: &Path, records: Range<u64>, now: i64) -> (Option<Self>, State) {
        let why = match Self::load(dir) {
            Ok((cache, state)) => {
                let (first, end, seq) = (records.start, records.end, state.counters.seq);
                if (first..=end).contains(&seq) || cache.seal.rows == 0 {
                    return (Some(cache), state);
                }
                drop(cache);
                format!("it includes audit records below {seq}, but there are those from {first} to below {end}")
            }
            Err(why) => why,
        };
        let aside = dir.with_file_name(format!("state.damaged-{now}"));
        tracing::warn!("the cache {} is not used ({why}): moved to {}, rebuilding", dir.display(), aside.display());
        if let Err(error) = std::fs::rename(dir, &aside) {
            tracing::warn!("can't move {} aside ({error}): running without a cache", dir.display());
            return (None, State::default());
        }
        match Self::load(dir) {
            Ok((cache, state)) => (Some(cache), state),
            Err(why) => {
                tracing::warn!("running without a cache: {why}");
                (None, State::default())
            }
        }
    }

    fn load(dir: &Path) -> Result<(Self, State), String> {
        // sled may panic over a damaged file, and a damaged cache must not keep the node from starting.
        catch_unwind(AssertUnwindSafe(|| {
            let db = open_unlocked(dir)?;
            let (state, seal) = read_state(&db)?;
            Ok((Self { db, seal }, state))
        }))
        .unwrap_or_else(|_| Err("reading it panicked".to_owned()))
    }

    /// Stores the changes, all or none. After an error the cache is not used again: what it lacks then, later
    /// changes would hide. sled may panic over a disk that is full.
    pub fn save(&mut self, changes: Vec<Change>) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| self.save_all(changes).map_err(|error| error.to_string())))
            .unwrap_or_else(|_| Err("writing it panicked".to_owned()))
    }

    fn save_all(&mut self, changes: Vec<Change>) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        for (row, value) in changes {
            self.save_row(&json(&row), value.as_deref(), &mut batch)?;
        }
        batch.insert(SEAL, json(&self.seal));
        self.db.apply_batch(batch)?;
        self.db.flush().map(drop)
    }

    fn save_row(&mut self, name: &[u8], value: Option<&[u8]>, batch: &mut sled::Batch) -> Result<(), sled::Error> {
        let mut old = Vec::new();
        for piece in self.db.scan_prefix([name, &[0]].concat()) {
            let (key, piece) = piece?;
            old.extend_from_slice(&piece);
            batch.remove(key);
        }
        if !old.is_empty() {
            self.seal.take_out(name, &old);
        }
        if let Some(value) = value {
            self.seal.put_in(name, value);
            for (number, piece) in (0u16..).zip(value.chunks(PIECE)) {
                batch.insert([name, &[0], &number.to_be_bytes()].concat(), piece);
            }
        }
        Ok(())
    }
}

/// The lock of a database that was closed just now may be held for another moment: by sled's threads, or by a child of this process
/// between fork and exec. Taking that for damage would throw a good cache away.
fn open_unlocked(dir: &Path) -> Result<sled::Db, String> {
    let deadline = Instant::now() + UNLOCKED_WITHIN;
    loop {
        match sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(8 << 20).open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(|e| e.to_string()),
        }
    }
}

impl Seal {
    fn put_in(&mut self, name: &[u8], value: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(checksum(name, value));
    }

    fn take_out(&mut self, name: &[u8], value: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(checksum(name, value));
    }
}

fn checksum(name: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(name);
    crc.update(value);
    crc.finalize().into()
}

impl State {
    /// What the cache has to store to be up to date, and forgets that it has to.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let rows = std::mem::take(&mut self.changed);
        rows.into_iter().map(|row| (row.clone(), self.row(&row))).collect()
    }

    /// Every row that there is.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let recipes = self.recipes.keys().cloned().map(Row::Recipe);
        let targets = self.targets.keys().cloned().map(Row::Target);
        let tickets = self.tickets.keys().copied().map(Row::Ticket);
        let letters = self.letters.keys().copied().map(Row::Letter);
        let frontiers = self.frontiers.keys().cloned().map(Row::Frontier);
        std::iter::once(Row::Counters).chain(recipes).chain(targets).chain(tickets).chain(letters).chain(frontiers)
    }

    pub(super) fn row(&self, row: &Row) -> Option<Vec<u8>> {
        match row {
            Row::Counters => Some(json(&self.counters)),
            Row::Recipe(id) => self.recipes.get(id).map(json),
            Row::Target(key) => self.targets.get(key).map(json),
            Row::Ticket(number) => self.tickets.get(number).map(json),
            Row::Letter(number) => self.letters.get(number).map(json),
            Row::Frontier(id) => self.frontiers.get(id).map(json),
        }
    }

    pub(super) fn put_row(&mut self, row: Row, value: &[u8]) -> Result<(), String> {
        fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
            serde_json::from_slice(value).map_err(|e| e.to_string())
        }
        match row {
            Row::Counters => self.counters = parse::<Counters>(value)?,
            Row::Recipe(id) => {
                let recipe = parse::<StoredRecipe>(value)?;
                drop(self.recipes.insert(id.clone(), Box::new(StoredRecipe { id, ..recipe })));
            }
            Row::Target(key) => drop(self.targets.insert(self.shared(key), parse(value)?)),
            Row::Ticket(number) => drop(self.tickets.insert(number, parse(value)?)),
            Row::Letter(number) => drop(self.letters.insert(number, parse(value)?)),
            Row::Frontier(id) => drop(self.frontiers.insert(id, parse(value)?)),
        }
        Ok(())
    }
}

impl State {
    /// The key with the very names that its recipe has, whose row comes before: they are kept once.
    fn shared(&self, key: TargetKey) -> TargetKey {
        let recipe = self.recipes.get(&key.recipe);
        let target = recipe.and_then(|recipe| recipe.targets.keys().find(|name| **name == key.target)).cloned();
        TargetKey {
            recipe: recipe.map_or(key.recipe, |recipe| recipe.id.clone()),
            target: target.unwrap_or(key.target),
        }
    }

    /// Makes the indexes, when all rows are there.
    pub(super) fn index(&mut self) {
        let open = self.tickets.values().filter(|ticket| ticket.state == TicketState::Open);
        self.open = open.map(|ticket| ((ticket.key.clone(), ticket.cause), ticket.number)).collect();
        self.waiting.clear();
        for letter in self.letters.values() {
            let Some(cause) = letter.cause else { continue };
            *self.waiting.entry((letter.key.clone(), cause)).or_default() += 1;
        }
    }
}

/// The state that the rows hold, if they are what was saved last.
fn read_state(db: &sled::Db) -> Result<(State, Seal), String> {
    let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut expected = Seal::default();
    for item in db.iter() {
        let (key, value) = item.map_err(|e| e.to_string())?;
        match key.len().checked_sub(3).filter(|&end| key[end] == 0) {
            Some(end) => rows.entry(key[..end].to_vec()).or_default().extend_from_slice(&value),
            None => expected = serde_json::from_slice(&value).map_err(|e| e.to_string())?,
        }
    }
    let (mut state, mut seal) = (State::default(), Seal::default());
    for (name, value) in rows {
        seal.put_in(&name, &value);
        let row = serde_json::from_slice(&name).map_err(|e| e.to_string())?;
        state.put_row(row, &value)?;
    }
    if seal != expected {
        return Err(format!("its rows are not those that were saved: {seal:?} instead of {expected:?}"));
    }
    state.index();
    Ok((state, seal))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values with names and numbers as keys are always JSON")
}
