//! The heart's port on the store: what delivery actors call, from any arbiter.

use async_trait::async_trait;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Epoch, TargetKey, Timestamp};
use hms_actors::ports::{Ledger, OpenTicket, Opened};
use hms_actors::receipt::{Cause, Entry, Receipt};
use hms_actors::work::Work;

use super::{Store, keyed, work, writer};
use crate::fault;
use crate::proof::canonical;

#[async_trait(?Send)]
impl Ledger for Store {
    async fn open(&self, target: &TargetKey) -> Result<Opened, Failure> {
        self.target(target)?;
        let epoch = self.core.fences.next(target);
        // What an older incarnation has in the queue either is done now or will be refused.
        self.ledger.submit(writer::Job::Barrier).await?;
        let (id, settled, standing, tickets) = {
            let state = self.core.state();
            let known = state.targets.get(target).ok_or_else(|| gone(target))?;
            (known.id, known.settled.clone(), known.standing.to_heart(), state.tickets_of(target))
        };
        let work = self.begun(id).await?;
        let full_at = self.paces.submit(keyed::Job::Get(id)).await?.and_then(work::decode_moment);
        Ok(Opened { epoch, settled, work, standing, tickets, full_at })
    }

    async fn begin(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        let ghost = fault::ghost(target, epoch, &work);
        self.store_work(target, epoch, work).await?;
        if let Some((older, work)) = ghost {
            let _ = self.store_work(target, older, work).await;
        }
        fault::point("ledger.after_begin");
        Ok(())
    }

    async fn commit(&self, target: &TargetKey, epoch: Epoch, entries: Vec<Entry>) -> Result<Vec<OpenTicket>, Failure> {
        entries.iter().try_for_each(check_numbers)?;
        self.ledger.submit(writer::Job::Commit { target: target.clone(), epoch, entries }).await?;
        Ok(self.core.state().tickets_of(target))
    }

    async fn pace(&self, target: &TargetKey, epoch: Epoch, full_at: Timestamp) -> Result<(), Failure> {
        let id = self.target(target)?;
        let values = vec![(id, work::encode_moment(full_at).into())];
        let (core, target) = (self.core.clone(), target.clone());
        let guard: keyed::Guard = Box::new(move || core.fences.check(&target, epoch));
        self.paces.submit(keyed::Job::Put { values, guard: Some(guard) }).await.map(drop)
    }

    async fn letter(&self, target: &TargetKey, number: u64) -> Result<Option<Event>, Failure> {
        let letter = self.dead_letter(number).await?;
        let state = self.core.state();
        Ok(letter.filter(|(letter, _)| state.is_of(letter, target)).map(|(_, event)| event))
    }
}

impl Store {
    async fn store_work(&self, target: &TargetKey, epoch: Epoch, work: Work) -> Result<(), Failure> {
        let id = self.target(target)?;
        if fault::no_plan() {
            return Ok(());
        }
        let events = work::events(&work);
        let values = vec![(id, work::encode_work(&work)?)];
        let (core, target) = (self.core.clone(), target.clone());
        let guard: keyed::Guard = Box::new(move || {
            core.fences.check(&target, epoch)?;
            core.room.promise(id, events)
        });
        self.work.submit(keyed::Job::Put { values, guard: Some(guard) }).await?;
        Ok(())
    }

    /// The target's id.
    fn target(&self, key: &TargetKey) -> Result<u64, Failure> {
        self.core.state().targets.get(key).map(|target| target.id).ok_or_else(|| gone(key))
    }

    /// Number of the open doubt ticket that holds the target, if there is one.
    pub fn held_by(&self, target: &TargetKey) -> Option<u64> {
        self.core.state().ticket_of(target, Cause::Doubt)
    }

    /// What was begun, after everything that waits to be stored.
    pub(super) async fn begun(&self, id: u64) -> Result<Option<Work>, Failure> {
        self.work.submit(keyed::Job::Get(id)).await?.map(work::decode_work).transpose()
    }
}

fn gone(target: &TargetKey) -> Failure {
    Failure::fenced(format!("there is no target {target}"))
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
