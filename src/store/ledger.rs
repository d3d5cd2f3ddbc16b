//! The heart's port on the store: what delivery actors call, from any arbiter.

use async_trait::async_trait;
use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, TargetKey};
use hms_actors::ports::{Ledger, Opened};
use hms_actors::receipt::{Cause, Entry, Receipt};
use hms_actors::settled::Settled;
use hms_actors::work::Work;

use super::{Store, canonical, keyed, work, writer};
use crate::fault;

#[async_trait(?Send)]
impl Ledger for Store {
    async fn open(&self, target: &TargetKey) -> Result<Opened, Failure> {
        self.target(target)?;
        let epoch = self.core.fences.next(target);
        // What an older incarnation has in the queue either is done now or will be refused.
        self.ledger.submit(writer::Job::Barrier).await?;
        let (id, settled) = self.target(target)?;
        let work = self.begun(id).await?;
        Ok(Opened { epoch, settled, work })
    }

    async fn begin(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        let (id, _) = self.target(target)?;
        let events = work::events(&work);
        let values = vec![(id, work::encode_work(&work)?)];
        let (core, target) = (self.core.clone(), target.clone());
        let guard: keyed::Guard = Box::new(move || {
            core.fences.check(&target, epoch)?;
            core.room.promise(id, events)
        });
        self.work.submit(keyed::Job::Put { values, guard: Some(guard) }).await?;
        fault::point("ledger.after_begin");
        Ok(())
    }

    async fn commit(&self, target: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<(), Failure> {
        entries.iter().try_for_each(check_numbers)?;
        self.ledger.submit(writer::Job::Commit { target: target.clone(), epoch, entries }).await
    }

    fn held_by(&self, target: &TargetKey) -> Option<u64> {
        self.core.state().ticket_of(target, Cause::Doubt)
    }
}

impl Store {
    /// The target's id and what it has behind it.
    fn target(&self, key: &TargetKey) -> Result<(u64, Settled), Failure> {
        let state = self.core.state();
        let target = state.targets.get(key).ok_or_else(|| Failure::fenced(format!("there is no target {key}")))?;
        Ok((target.id, target.settled.clone()))
    }

    /// What was begun, after everything that waits to be stored.
    pub(super) async fn begun(&self, id: u64) -> Result<Option<Work>, Failure> {
        self.work.submit(keyed::Job::Get(id)).await?.map(work::decode_work).transpose()
    }
}

/// A partner's numbers that no record can hold would fail the whole group, so they are refused before.
fn check_numbers(entry: &Entry) -> Result<(), Failure> {
    let numbers = match entry {
        Entry::FileChanged { expected, found, .. } => [*expected, *found],
        Entry::Delivered { receipt: Receipt::File { file_offset, length, .. }, .. } => [*file_offset, *length],
        _ => return Ok(()),
    };
    match numbers.iter().find(|&&number| number > canonical::MAX_WHOLE) {
        Some(number) => Err(Failure::configuration(format!("a file of {number} bytes can't be: the partner is wrong"))),
        None => Ok(()),
    }
}
