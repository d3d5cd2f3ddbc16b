//! Governance: what policies say no to is not sent. It waits, or becomes a dead letter; neither the circuit nor the
//! count of failures has a part in it. What waits is asked about again by back-off, and by each new incarnation
//! (a reload makes one).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::Base;
use crate::delivery::{Ended, Start};
use crate::event::{Event, EventRef};
use crate::failure::Failure;
use crate::few::Few;
use crate::id::{Offset, Revision};
use crate::policy::backoff::Backoff;
use crate::ports::{Denial, Judge, Verdict};
use crate::receipt::{Cause, Entry};
use crate::settings::OnDeny;

/// With so many events that policies hold nothing new is begun.
pub(in crate::delivery) const MAX_HELD: usize = 10_000;

/// A no to one event.
#[derive(Debug, Clone)]
pub(in crate::delivery) struct No {
    pub denial: Denial,
    /// It becomes a dead letter; otherwise it waits.
    pub gives_up: bool,
}

/// An event that policies said no to, and how often it was sent before they did.
pub(in crate::delivery) struct Blocked {
    pub event: Event,
    pub no: No,
    pub attempt: u32,
    pub may_have_arrived: bool,
}

/// A revision's judge, or why there is none.
type Judged = Result<Rc<dyn Judge>, Failure>;

/// The judges of a target, one for each revision that is asked about.
pub(in crate::delivery) struct Judges {
    start: Rc<Start>,
    /// One that can't be had is asked for again when the others are dismissed.
    known: RefCell<Few<Revision, Judged>>,
    /// How often they were dismissed.
    generation: Cell<u64>,
}

impl Judges {
    pub fn new(start: Rc<Start>) -> Rc<Self> {
        Rc::new(Self { start, known: RefCell::default(), generation: Cell::default() })
    }

    /// Another one when others are asked.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// What speaks against sending the event as `revision` has it.
    pub fn no_to(&self, revision: Revision, event: &Event) -> Option<No> {
        match self.verdict(revision, event) {
            Verdict::Allow => None,
            Verdict::Deny(denial) => Some(No { denial, gives_up: self.start.settings.on_deny == OnDeny::DeadLetter }),
            // Nothing is given up because the node can't tell.
            Verdict::CannotTell { words } => {
                Some(No { denial: Denial { policies: Vec::new(), words }, gives_up: false })
            }
        }
    }

    fn verdict(&self, revision: Revision, event: &Event) -> Verdict {
        let mut known = self.known.borrow_mut();
        let Start { env, key, .. } = &*self.start;
        match known.or_insert_with(revision, || env.governor.judge(key, revision)) {
            Ok(judge) => judge.decide(event),
            Err(failure) => Verdict::CannotTell { words: failure.message.clone() },
        }
    }

    /// The next question goes to new judges.
    fn dismiss(&self) {
        self.known.borrow_mut().clear();
        self.generation.set(self.generation.get() + 1);
    }
}

/// What policies hold up.
#[derive(Default)]
pub(super) struct Governing {
    held: BTreeMap<Offset, Held>,
    /// When what is held is asked about again.
    ask_at: Option<Instant>,
    backoff: Backoff,
    /// The ticket may be closed when nothing is held.
    may_close: bool,
}

struct Held {
    /// What is recorded of it.
    policies: Vec<String>,
    /// Why, in words; `None` before it was asked about in this incarnation.
    words: Option<String>,
}

impl Governing {
    /// What the records say.
    pub fn of(blocked: BTreeMap<Offset, Vec<String>>) -> Self {
        let held = blocked.into_iter().map(|(offset, policies)| (offset, Held { policies, words: None }));
        Self { held: held.collect(), may_close: true, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Somebody wants to know now.
    pub fn hurry(&mut self) {
        self.ask_at = self.ask_at.map(|_| Instant::now());
    }

    /// Nothing holds this event any more.
    pub fn forget(&mut self, offset: Offset) {
        if self.held.remove(&offset).is_some() && self.held.is_empty() {
            self.may_close = true;
            self.ask_at = None;
            self.backoff.succeeded();
        }
    }

    /// What the oldest is held for, and how many there are.
    pub fn words(&self) -> Option<String> {
        let why = self.held.values().find_map(|held| held.words.as_ref())?;
        let more = self.held.len() - 1;
        Some(if more > 0 { format!("{why} ({more} more events are held)") } else { why.clone() })
    }

    /// Keeps it; whether that is new.
    fn hold(&mut self, offset: Offset, denial: &Denial, words: String) -> bool {
        let held = Held { policies: denial.policies.clone(), words: Some(words) };
        self.held.insert(offset, held).is_none_or(|before| before.policies != denial.policies)
    }
}

impl Base {
    /// What speaks against sending the event as `revision` has it; nothing holds it any more if nothing does.
    pub fn no_to(&mut self, revision: Revision, event: &Event) -> Option<No> {
        let no = self.judges.no_to(revision, event);
        if no.is_none() {
            self.governing.forget(event.offset);
        }
        no
    }

    /// When what policies hold is asked about again.
    pub fn ask_at(&self) -> Option<Instant> {
        self.governing.ask_at()
    }

    /// Whether it is time to ask about what is held; then the next questions are answered anew.
    pub fn asks_again(&mut self) -> bool {
        let due = self.governing.ask_at.is_some_and(|at| at <= Instant::now());
        if due {
            self.governing.ask_at = None;
            self.judges.dismiss();
        }
        due
    }

    /// These events are not sent: what is new of that is recorded, with one ticket. Those that are given up are settled.
    pub async fn blocked(&mut self, blocked: Vec<Blocked>) -> Ended {
        if blocked.is_empty() {
            self.wait_to_ask();
            return Ok(());
        }
        let (mut entries, mut given_up) = (Vec::new(), Vec::new());
        let mut last = None;
        for Blocked { event, no, attempt, may_have_arrived } in blocked {
            let words = words(&event, &no.denial);
            let new = no.gives_up || self.governing.hold(event.offset, &no.denial, words.clone());
            if new {
                entries.push(record((&event).into(), attempt, &no.denial, None));
            }
            if no.gives_up {
                given_up.push((event.offset, event.published));
                let reason = format!("blocked: {}", no.denial.words);
                let cause = Some(Cause::Policy);
                entries.push(Entry::DeadLettered { event: event.into(), attempt, reason, may_have_arrived, cause });
            }
            last = Some(words);
        }
        let news = entries.iter().filter(|entry| matches!(entry, Entry::Blocked { .. })).count() as u64;
        let why = self.governing.words().or(last).unwrap_or_default();
        if news > 0 || self.tickets.iter().any(|ticket| ticket.cause == Cause::Policy) {
            entries.push(self.ticket(Cause::Policy, why.clone(), 0, &why));
        }
        if !entries.is_empty() {
            self.commit(entries).await?;
        }
        if news > 0 {
            tracing::warn!(delivery = %self.key, events = news, "not sent: {why}");
            self.env.witness.blocked(&self.key, news);
        }
        self.recipe.runs.borrow_mut().failed(given_up.iter().map(|(offset, _)| *offset));
        self.status.borrow_mut().failed_attempts += given_up.len() as u64;
        self.settle(given_up, false);
        self.wait_to_ask();
        Ok(())
    }

    /// What is held is asked about again after a back-off.
    fn wait_to_ask(&mut self) {
        if let Some(why) = self.governing.words() {
            self.ask_later(why);
        }
    }

    /// Something is held up for what `why` says, and asked about again after a back-off.
    pub fn ask_later(&mut self, why: String) {
        if self.governing.ask_at.is_none() {
            let wait = self.governing.backoff.failed(None, &mut rand::rng());
            self.governing.ask_at = Some(Instant::now() + wait);
        }
        self.complain_of(Failure::blocked(why));
    }

    /// A dead letter that policies still say no to.
    pub async fn blocked_letter(&mut self, event: &Event, attempt: u32, no: &No, letter: u64) -> Ended {
        self.env.witness.blocked(&self.key, 1);
        self.commit(vec![record(event.into(), attempt, &no.denial, Some(letter))]).await
    }

    /// Closes the ticket when nothing is held any more. Where it waits for dead letters the ledger keeps it open.
    pub async fn close_policy_ticket(&mut self) -> Ended {
        if !self.governing.may_close || !self.governing.is_empty() {
            return Ok(());
        }
        self.governing.may_close = false;
        let Some(ticket) = self.tickets.iter().find(|ticket| ticket.cause == Cause::Policy) else { return Ok(()) };
        let note = Some("policies hold nothing of it any more".to_owned());
        self.commit(vec![Entry::TicketResolved { ticket: ticket.number, action: "recovered", by: None, note }]).await
    }
}

fn words(event: &Event, denial: &Denial) -> String {
    format!("event `{}` (offset {}) is not sent: {}", event.id, event.offset, denial.words)
}

fn record(event: EventRef, attempt: u32, denial: &Denial, letter: Option<u64>) -> Entry {
    Entry::Blocked { event, attempt, policies: denial.policies.clone(), reason: denial.words.clone(), letter }
}
