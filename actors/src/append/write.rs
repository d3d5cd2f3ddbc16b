//! The writing of a plan that is stored: into the file that is there, part by part if somebody can settle what stands
//! already, or under a temporary name if it is a new one.

use std::ops::Range as Span;

use tokio::time::Instant;

use super::{Appender, Arrived, Tell, look, plan, recover};
use crate::event::Event;
use crate::failure::Failure;
use crate::ports::{Synced, WriteTo};
use crate::work::{FileWork, Plan};
use recover::Verdict;

impl Appender {
    /// Carries out a stored plan: write, then look. What can be settled before the last of it is there is told.
    pub(super) async fn write(
        &mut self,
        work: FileWork,
        events: &[Event],
        tell: Option<Tell<'_>>,
    ) -> Result<Arrived, Failure> {
        let (first, mut told) = (std::mem::replace(&mut self.untouched, false), 0);
        let result = match tell {
            _ if work.plan.new_file => self.write_new(work).await.map(Some),
            Some(tell) => self.write_in_parts(&work.plan, tell, &mut told).await,
            None => self.write_existing(&work.plan, 0..work.plan.bytes.len()).await.map(Some),
        };
        if told == 0 && matches!(&result, Err(failure) if failure.definite) {
            self.untouched = first;
        }
        let written = result?;
        let work = self.last.clone().ok_or_else(|| Failure::node("the plan is gone"))?;
        (self.tools.step)("append.written");
        let path = &work.plan.place.path;
        let found = self.host()?.length(path).await?;
        let Some(synced) = written.filter(|_| found == Some(work.plan.end())) else {
            // Somebody moved, cut or extended the file at this very moment.
            let partner = self.partner(work.plan.revision)?;
            let moment = self.moment();
            let settled = work.plan.rows.get(told).map_or(0, |row| work.plan.length_before(row.offset));
            let seen = look::at(self.host()?, &work, settled, partner.as_ref(), moment).await?;
            let verdict = match recover::verdict(&work, self.settings.write, &seen) {
                Verdict::Write => {
                    return Err(Failure::transient(format!("{path}: the file does not hold what was written")));
                }
                other => other,
            };
            return self.act(verdict, work, events).await;
        };
        (self.tools.step)("append.verified");
        Ok(self.arrived(&work.plan, told..work.plan.rows.len(), synced))
    }

    /// Writes part after part, and looks after each but the last: its rows are told, and can be settled meanwhile.
    /// Nothing if the file was not as it should be.
    async fn write_in_parts(
        &mut self,
        plan: &Plan,
        tell: Tell<'_>,
        told: &mut usize,
    ) -> Result<Option<Synced>, Failure> {
        let mut start = 0;
        for (rows, end) in plan::parts(plan) {
            let synced = self.write_existing(plan, start..end).await?;
            if rows == plan.rows.len() {
                return Ok(Some(synced));
            }
            (self.tools.step)("append.written");
            if self.host()?.length(&plan.place.path).await? != Some(plan.file_offset + end as u64) {
                break;
            }
            (self.tools.step)("append.verified");
            tell(self.arrived(plan, *told..rows, synced));
            (*told, start) = (rows, end);
        }
        Ok(None)
    }

    async fn write_existing(&mut self, plan: &Plan, range: Span<usize>) -> Result<Synced, Failure> {
        (self.tools.step)("append.before_write");
        let offset = plan.file_offset + range.start as u64;
        let result = self.host()?.write(&plan.place.path, offset, &plan.bytes[range], WriteTo::Existing).await;
        self.note_unanswered(result)
    }

    /// A new file is complete under its temporary name before its name appears.
    async fn write_new(&mut self, mut work: FileWork) -> Result<Synced, Failure> {
        (self.tools.step)("append.before_write");
        let path = work.plan.place.path.clone();
        let temporary = temporary_name(&path);
        let result = self.host()?.write(&temporary, 0, &work.plan.bytes, WriteTo::Fresh).await;
        let synced = self.note_unanswered(result)?;
        if self.host()?.length(&temporary).await? != Some(work.plan.bytes.len() as u64) {
            return Err(Failure::transient(format!("{temporary}: the file does not have the length that was written")));
        }
        if !work.ready {
            work.ready = true;
            self.tools.begin(&work).await?;
            self.last = Some(work);
        }
        (self.tools.step)("append.ready");
        if self.host()?.length(&path).await?.is_some() {
            // The next look decides: the temporary file is still there, so nothing of ours is in this one.
            return Err(Failure::transient(format!("{path}: somebody made this file while ours was being written")));
        }
        let result = self.host()?.rename(&temporary, &path).await.map(|()| synced);
        let synced = self.note_unanswered(result)?;
        (self.tools.step)("append.renamed");
        Ok(synced)
    }

    pub(super) fn note_unanswered<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(&result, Err(failure) if !failure.definite) {
            self.unanswered = Some(Instant::now());
        }
        result
    }
}

/// In the same folder, hidden from patterns such as `*.csv`.
pub(super) fn temporary_name(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let slash = if path.contains('/') { "/" } else { "" };
    format!("{folder}{slash}.{name}.hms-part")
}
