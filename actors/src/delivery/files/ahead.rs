//! Rows that are rendered ahead: while a plan is carried out and settled, on a thread of its own where the partner has
//! one. Nothing is planned or stored here; a failure is met again, and told of, when it is these events' turn.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::Files;
use crate::append::Rendered;
use crate::delivery::base::Base;
use crate::id::Offset;
use crate::work::Row;

/// Rows of one plan, and their bytes: each plan is synced three times or more, however large it is.
const MAX_ROWS: usize = 32_768;
const MAX_BYTES: usize = 8 << 20;

/// Events that are in memory for it, and their data.
const PIECE: usize = 4_096;
const PIECE_BYTES: usize = 1 << 20;

/// All that waits from an offset on, as much as a plan holds.
pub(super) struct Ahead {
    from: Offset,
    /// Who was asked about the events.
    judges: u64,
    pub rendered: Rendered,
}

impl Ahead {
    /// These are the oldest events that are not settled, and whoever would be asked about them now was.
    pub fn is_next(&self, base: &Base) -> bool {
        let next = (self.from, self.from, self.judges);
        (base.settled.below(), base.settled.end(), base.judges.generation()) == next
    }
}

impl Files {
    /// The future gives what can be planned from `from` on. Who uses it looks whether it is what comes next.
    pub(super) fn render_ahead(
        &mut self,
        base: &Base,
        from: Offset,
    ) -> Option<impl Future<Output = Option<Ahead>> + use<>> {
        let (log, feed, until) = (base.env.log.clone(), base.recipe.feed.clone(), base.until());
        let (judges, revision) = (base.judges.clone(), base.settings.revision);
        let partner = (from < until).then(|| self.appender.renders())?.ok()?;
        let asked = judges.generation();
        Some(async move {
            let (mut header, mut bytes, mut rows) = (Default::default(), Vec::new(), Vec::<Row>::new());
            let mut next = from;
            while next < until && rows.len() < MAX_ROWS && bytes.len() < MAX_BYTES {
                let Ok(events) = log.read(&feed, next, until, PIECE, PIECE_BYTES).await else { break };
                let Some(last) = events.last() else { break };
                next = last.offset + 1;
                if events.iter().any(|event| judges.no_to(revision, event).is_some()) {
                    break;
                }
                let rendering = AssertUnwindSafe(partner.render(events)).catch_unwind();
                let Ok(Ok((piece, rendered))) = rendering.await else { break };
                if rows.is_empty() {
                    // The pieces that follow are about as large.
                    let pieces = (MAX_ROWS as u64).min(until - from).div_ceil(piece.len().max(1) as u64) as usize;
                    bytes.reserve((pieces * rendered.bytes.len()).min(MAX_BYTES + PIECE_BYTES));
                    rows.reserve(pieces * piece.len());
                }
                header = rendered.header;
                bytes.extend_from_slice(&rendered.bytes);
                rows.extend(piece);
            }
            let rendered = Rendered { header, bytes: bytes.into(), rows: rows.into() };
            let some = !rendered.rows.is_empty() && judges.generation() == asked;
            some.then_some(Ahead { from, judges: asked, rendered })
        })
    }
}
