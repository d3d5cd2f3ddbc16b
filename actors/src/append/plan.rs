//! Plans new rows: only on a live connection, after a look at the file, just before the write.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::look::Before;
use super::write::temporary_name;
use super::{Appender, Arrived, FRESH, Looked, Tell, look};
use crate::event::Event;
use crate::failure::{Failure, FailureKind};
use crate::ports::{FilePartner, Rows, WriteTo};
use crate::receipt::Entry;
use crate::settings::WriteMode;
use crate::work::{FileWork, Place, Plan, Row};

/// How often a plan is made anew because the file changed between the plan and the write.
const TRIES: u32 = 5;

/// What is written before a look, and settled while the next part is written: each costs the partner a sync.
const PART_ROWS: usize = 8_192;
const PART_BYTES: usize = 2 << 20;

/// Events as rows, and what a plan keeps of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// For the start of a new file.
    pub header: Bytes,
    pub bytes: Bytes,
    pub rows: Arc<[Row]>,
}

impl Appender {
    pub(super) async fn plan_and_write(&mut self, events: &[Event]) -> Result<Arrived, Failure> {
        self.let_late_writes_pass()?;
        let (events, rows) = encode(self.partner(self.revision)?.as_ref(), events)?;
        let rendered = Rendered { rows: Row::of(events, &rows).into(), header: rows.header, bytes: rows.bytes };
        self.plan_and_write_rendered(rendered, events, None).await
    }

    /// `events` are needed for the case that they must be planned anew.
    pub(super) async fn plan_and_write_rendered(
        &mut self,
        rendered: Rendered,
        events: &[Event],
        mut tell: Option<Tell<'_>>,
    ) -> Result<Arrived, Failure> {
        self.let_late_writes_pass()?;
        for _ in 0..TRIES {
            let work = self.plan(&rendered).await?;
            self.tools.begin(&work).await?;
            self.last = Some(work.clone());
            self.untouched = true;
            (self.tools.step)("append.planned");
            let expected = (!work.plan.new_file).then_some(work.plan.file_offset);
            let found = self.host()?.length(&work.plan.place.path).await?;
            if found == expected {
                return self.write(work, events, tell.take()).await;
            }
            if let Some(arrived) = self.batch_that_is_there(&work, found).await? {
                return Ok(arrived);
            }
        }
        Err(Failure::transient_definite(
            "the file changed each time between looking at it and writing: somebody else writes to it",
        ))
    }

    /// The name of a batch's file says which events it holds: a file of that name with our bytes is ours.
    async fn batch_that_is_there(&mut self, work: &FileWork, found: Option<u64>) -> Result<Option<Arrived>, Failure> {
        if self.settings.write != WriteMode::FilePerBatch || found.is_none() {
            return Ok(None);
        }
        self.untouched = false;
        let partner = self.partner(work.plan.revision)?;
        let moment = self.moment();
        let seen = look::at(self.host()?, work, 0, partner.as_ref(), moment).await?;
        let verdict = super::recover::verdict(work, self.settings.write, &seen);
        self.act(verdict, work.clone(), &[]).await.map(Some)
    }

    async fn plan(&mut self, rendered: &Rendered) -> Result<FileWork, Failure> {
        let partner = self.partner(self.revision)?;
        let (Some(first), Some(last)) = (rendered.rows.first(), rendered.rows.last()) else {
            return Err(Failure::node("nothing to plan"));
        };
        let moment = self.moment();
        let place = partner.place(moment, (first.offset, last.offset))?;
        let looked = self.looked.take().filter(|looked| looked.place == place && looked.at.elapsed() < FRESH);
        let (length, before) = match looked {
            Some(Looked { length, before, .. }) => (Some(length), before),
            None => self.look_anew(&partner, &place).await?,
        };
        let file_offset = length.unwrap_or(0);
        // A header at the start of a file; a line end first if the file's last line has none.
        let lead = match file_offset {
            0 => rendered.header.clone(),
            _ if before.ends_line => Bytes::new(),
            _ => Bytes::from_static(self.settings.line_end.as_bytes()),
        };
        let plan = Plan {
            revision: self.revision,
            planned_at: moment,
            file_offset,
            new_file: length.is_none(),
            anchor: before.anchor,
            lead: u32::try_from(lead.len()).unwrap_or(u32::MAX),
            bytes: join(lead, &rendered.bytes),
            rows: rendered.rows.clone(),
            place,
            letter: self.letter,
        };
        Ok(FileWork { plan, ready: false })
    }

    /// The length of the file that is to be appended to, and what stands before it.
    async fn look_anew(
        &mut self,
        partner: &Rc<dyn FilePartner>,
        place: &Place,
    ) -> Result<(Option<u64>, Before), Failure> {
        self.connect(partner, place).await?;
        let found = self.host()?.length(&place.path).await?;
        if found.is_none() {
            // A folder that is gone for a while (a mount, a rename) takes the file along: that is no new file.
            // Making the temporary file tells, before there is a plan.
            self.host()?.write(&temporary_name(&place.path), 0, &[], WriteTo::Fresh).await?;
        }
        let length = match self.settings.write {
            WriteMode::Append => found,
            WriteMode::FilePerBatch => None,
        };
        self.note_changes(place, length).await?;
        let before = look::before(self.host()?, &place.path, length.unwrap_or(0)).await?;
        Ok((length, before))
    }

    /// Compares the file with how we left it; a plan of which nothing was sent says how it was then.
    async fn note_changes(&mut self, place: &Place, length: Option<u64>) -> Result<(), Failure> {
        let Some(left) = self.last.as_ref().filter(|work| &work.plan.place == place) else { return Ok(()) };
        let Some(found) = length else { return Ok(()) };
        let expected = if self.untouched { left.plan.file_offset } else { left.plan.end() };
        let made_by_us = !(self.untouched && left.plan.new_file);
        if found == expected || left.plan.rows.is_empty() || !made_by_us {
            return Ok(());
        }
        let path = place.path.clone();
        let entry = Entry::FileChanged { path: path.clone(), expected, found };
        self.tools.ledger.commit(&self.tools.target, self.tools.epoch, vec![entry]).await?;
        if found > 0 && found < expected {
            let reason = format!(
                "{path}: the file has {found} bytes where we left {expected}: somebody cut it; rows go on after what is there"
            );
            self.tools.foreign_writer(reason, self.attempts).await?;
        }
        Ok(())
    }
}

/// Where parts of about the same size end: after how many rows, and how many bytes.
pub(super) fn parts(plan: &Plan) -> Vec<(usize, usize)> {
    let count = plan.rows.len().div_ceil(PART_ROWS).max(plan.bytes.len().div_ceil(PART_BYTES)).max(1);
    let (mut row, mut end) = (0, plan.lead as usize);
    let after = |rows: &[Row]| {
        (row, end) = (row + rows.len(), end + rows.iter().map(|row| row.length as usize).sum::<usize>());
        (row, end)
    };
    plan.rows.chunks(plan.rows.len().div_ceil(count).max(1)).map(after).collect()
}

/// As many of the first events as can be encoded: a refused one must not hold back those before it.
fn encode<'a>(partner: &dyn FilePartner, mut events: &'a [Event]) -> Result<(&'a [Event], Rows), Failure> {
    loop {
        match partner.encode(events) {
            Err(failure) if failure.kind == FailureKind::Refused && events.len() > 1 => {
                events = &events[..events.len() / 2]
            }
            result => return result.map(|rows| (events, rows)),
        }
    }
}

fn join(lead: Bytes, rows: &Bytes) -> Bytes {
    if lead.is_empty() {
        return rows.clone();
    }
    let mut bytes = BytesMut::with_capacity(lead.len() + rows.len());
    bytes.put(lead);
    bytes.put_slice(rows);
    bytes.freeze()
}
