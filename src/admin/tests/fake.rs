//! A backend in memory: one recipe, one ticket, the dead letters that a test puts there, and feeds that remember
//! their events.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hms_actors::id::{FeedName, RecipeId, TargetKey, Timestamp};
use hms_actors::receipt::Cause;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::access::{Caller, Presented, Refusal, Role};
use crate::admin::backend::{Backend, LettersWanted, PublishRequest};
use crate::admin::problem::AdminError;
use crate::admin::views::*;
use crate::app::publish;
use crate::feeds::{Accepted, NewEvent, PublishError};

pub const RECIPE: &str = "grants.sync";
pub const EVENT: &str = r#"{"specversion":"1.0","id":"e-7","source":"/s","type":"t","data":{"usd":1250.10}}"#;
pub const AUDIT: &[u8] = b"{\"b\":1.50,\"a\":2}\n{ \"seq\": 1 }\n";

#[derive(Default)]
pub struct Fake {
    pub feeds: Mutex<BTreeMap<String, Vec<NewEvent>>>,
    /// What the next publish fails with.
    pub fails: Mutex<Option<PublishError>>,
    pub unready: Mutex<Vec<String>>,
    /// Whether publishing waits.
    pub hangs: watch::Sender<bool>,
    /// How many publishes are under way.
    inside: watch::Sender<usize>,
    pub paused: AtomicBool,
    pub resolved: AtomicBool,
    /// By number. What a replay does is in the name of the event: `refused`, `slow`, or anything else.
    pub letters: Mutex<Vec<DeadLetterView>>,
    /// Why requests were refused at the door.
    pub refused: Mutex<Vec<Refusal>>,
    /// The orders that circuits were given.
    pub orders: Mutex<Vec<CircuitOrder>>,
}

/// A publish that is under way.
struct Inside<'a>(&'a watch::Sender<usize>);

impl<'a> Inside<'a> {
    fn new(inside: &'a watch::Sender<usize>) -> Self {
        inside.send_modify(|count| *count += 1);
        Self(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Fake {
    /// Returns when so many publishes are under way.
    pub async fn under_way(&self, count: usize) {
        self.inside.subscribe().wait_for(|inside| *inside == count).await.unwrap();
    }

    pub fn events(&self, feed: &str) -> Vec<NewEvent> {
        self.feeds.lock().unwrap().get(feed).cloned().unwrap_or_default()
    }

    fn append(&self, feed: &FeedName, events: Vec<NewEvent>) -> Result<Vec<Accepted>, PublishError> {
        let mut feeds = self.feeds.lock().unwrap();
        let log = feeds.entry(feed.to_string()).or_default();
        let before = log.len();
        let mut accepted = Vec::new();
        for event in events {
            let known = log.iter().position(|old| old.id == event.id);
            if let Some(at) = known
                && log[at] != event
            {
                log.truncate(before);
                return Err(PublishError::Conflict { id: event.id, offset: at as u64, differs: "data".to_owned() });
            }
            let offset = known.unwrap_or(log.len()) as u64;
            accepted.push(Accepted { id: event.id.clone(), offset, duplicate: known.is_some() });
            if known.is_none() {
                log.push(event);
            }
        }
        Ok(accepted)
    }

    fn letter(&self, number: u64) -> Result<DeadLetterView, AdminError> {
        let letters = self.letters.lock().unwrap();
        let found = letters.iter().find(|letter| letter.number == number).cloned();
        found.ok_or_else(|| AdminError::not_found(format!("there is no dead letter {number}")))
    }

    fn known(&self, id: &RecipeId) -> Result<RecipeView, AdminError> {
        if id.as_str() != RECIPE {
            return Err(AdminError::not_found(format!("there is no recipe `{id}`")));
        }
        let paused = self.paused.load(Ordering::SeqCst);
        let summary = RecipeSummary {
            id: id.to_string(),
            revision: 3,
            feed: "grants".to_owned(),
            next_run_in_seconds: None,
            state: if paused { RecipeState::Paused } else { RecipeState::Enabled },
            schedule: "every 60s".to_owned(),
            next_run_at: Some(Moment(Timestamp(1_000))),
        };
        let targets = vec![target(RECIPE, "vdot_gis")];
        Ok(RecipeView { summary, text: "id: grants.sync\n".to_owned(), targets })
    }
}

fn target(recipe: &str, name: &str) -> TargetView {
    TargetView {
        recipe: recipe.to_owned(),
        target: name.to_owned(),
        adapter: "rest".to_owned(),
        guarantee: Guarantee::AtLeastOnce,
        activity: Activity::Held,
        checkpoint: 4,
        backlog: 2,
        in_flight: 0,
        last_error: Some("503 Service Unavailable".to_owned()),
        next_attempt_at: None,
        restarts: 0,
        held_by_ticket: Some(1),
        state: CircuitState::Open,
        since: Moment(Timestamp(0)),
        consecutive_failures: 3,
        opened_total: 1,
        next_probe_at: Some(Moment(Timestamp(30_000))),
        oldest_waiting_at: Some(Moment(Timestamp(0))),
        mailbox: MailboxView { depth: 0, capacity: 16 },
        rate_limit: Some(RateLimitView { rate: 2.5, burst: 10, available: 9 }),
    }
}

fn token() -> TokenView {
    TokenView {
        name: "ann".to_owned(),
        role: Role::Viewer,
        feeds: Vec::new(),
        created_at: Moment(Timestamp(0)),
        expires_at: None,
        expired: false,
    }
}

fn ticket(resolved: bool) -> TicketView {
    TicketView {
        number: 1,
        state: if resolved { TicketState::Resolved } else { TicketState::Open },
        recipe: RECIPE.to_owned(),
        target: "vdot_gis".to_owned(),
        cause: Cause::Doubt,
        reason: "the file is gone".to_owned(),
        opened_at: Moment(Timestamp(0)),
        resolved_at: resolved.then_some(Moment(Timestamp(1))),
        attempts: 1,
        backlog: 2,
        last_error: None,
        note: None,
    }
}

pub fn dead_letter(number: u64, event_id: &str) -> DeadLetterView {
    DeadLetterView {
        number,
        recipe: RECIPE.to_owned(),
        target: "vdot_gis".to_owned(),
        feed: "grants".to_owned(),
        event_id: event_id.to_owned(),
        offset: 0,
        reason: "422 no such grant".to_owned(),
        cause: Some(LetterCause::Refused),
        attempts: 3,
        at: Moment(Timestamp(0)),
        may_have_arrived: false,
        replaying: false,
    }
}

#[async_trait(?Send)]
impl Backend for Fake {
    /// A token is the name of its role, `expired`, or `publisher-of-FEED`.
    fn present(&self, token: &str) -> Presented {
        if token == "expired" {
            return Presented::Expired("ann".to_owned());
        }
        let of_feed = token.strip_prefix("publisher-of-").map(|feed| (Role::Publisher, feed));
        let plain = Role::ALL.into_iter().find(|role| role.as_str() == token).map(|role| (role, ""));
        match plain.or(of_feed) {
            None => Presented::Unknown,
            Some((role, feed)) => {
                let feeds = FeedName::parse(feed).into_iter().collect();
                Presented::Valid(Caller { subject: format!("the-{role}"), role, feeds })
            }
        }
    }

    fn refused(&self, why: Refusal) {
        self.refused.lock().unwrap().push(why);
    }

    async fn tokens(&self) -> Result<Vec<TokenView>, AdminError> {
        Ok(vec![token()])
    }

    async fn create_token(&self, wanted: NewToken, _by: &str) -> Result<TokenCreated, AdminError> {
        let about = TokenView { name: wanted.name, role: wanted.role, ..token() };
        Ok(TokenCreated { token: "hms_new".to_owned(), about })
    }

    async fn revoke_token(&self, name: &str, _by: &str) -> Result<TokenView, AdminError> {
        let found = Some(token()).filter(|token| token.name == name);
        found.ok_or_else(|| AdminError::not_found(format!("there is no token `{name}`")))
    }

    async fn publish(&self, feed: &FeedName, request: PublishRequest) -> Result<Published, AdminError> {
        let _inside = Inside::new(&self.inside);
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
        if let Some(error) = self.fails.lock().unwrap().take() {
            return Err(error.into());
        }
        let taken = self.append(feed, publish::events(feed, &request)?.to_events())?;
        let duplicates = taken.iter().filter(|event| event.duplicate).count();
        Ok(publish::answer(duplicates, taken.iter().map(|event| (event.id.as_str(), event.offset))))
    }

    async fn feeds(&self) -> Result<Vec<FeedView>, AdminError> {
        let names: Vec<String> = self.feeds.lock().unwrap().keys().cloned().collect();
        let view = |name: String| {
            let head = self.events(&name).len() as u64;
            FeedView { name, head, oldest: 0, bytes: 0, readers: Vec::new() }
        };
        Ok(names.into_iter().map(view).collect())
    }

    async fn feed(&self, feed: &FeedName) -> Result<FeedView, AdminError> {
        let all = self.feeds().await?;
        let found = all.into_iter().find(|view| view.name == feed.as_str());
        found.ok_or_else(|| AdminError::not_found(format!("there is no feed `{feed}`")))
    }

    async fn apply(
        &self,
        id: &RecipeId,
        text: String,
        options: ApplyOptions,
        _by: &str,
    ) -> Result<Applied, AdminError> {
        if text.contains("oops") {
            let help = Some("did you mean `source`?".to_owned());
            let finding =
                |line| RecipeFinding { line, column: 3, message: "unknown key".to_owned(), help: help.clone() };
            return Err(AdminError::recipe(&[finding(1), finding(2)]));
        }
        Ok(Applied {
            paused: false,
            id: id.to_string(),
            revision: 1,
            changed: true,
            dry_run: options.dry_run,
            diff: format!("+{text}"),
            next_run_at: Some(Moment(Timestamp(60_000))),
            next_run_in_seconds: Some(60),
            warnings: Vec::new(),
            blocked: Vec::new(),
        })
    }

    async fn recipes(&self) -> Result<Vec<RecipeSummary>, AdminError> {
        Ok(vec![self.known(&RecipeId::parse(RECIPE).unwrap())?.summary])
    }

    async fn recipe(&self, id: &RecipeId) -> Result<RecipeView, AdminError> {
        self.known(id)
    }

    async fn circuits(&self) -> Result<Vec<TargetView>, AdminError> {
        let closed = TargetView { state: CircuitState::Closed, ..target("other.sync", "drop") };
        Ok(vec![target(RECIPE, "vdot_gis"), closed])
    }

    async fn order_circuit(&self, key: &TargetKey, order: CircuitOrder, _by: &str) -> Result<TargetView, AdminError> {
        let found = self.target(key).await?;
        let state = match order.action {
            CircuitAction::Open => CircuitState::ForcedOpen,
            CircuitAction::Close => return Err(AdminError::conflict("ticket 1 holds it: only an answer ends that")),
            CircuitAction::Probe => CircuitState::HalfOpen,
        };
        self.orders.lock().unwrap().push(order);
        Ok(TargetView { state, ..found })
    }

    async fn target(&self, key: &TargetKey) -> Result<TargetView, AdminError> {
        let recipe = self.known(&key.recipe)?;
        let found = recipe.targets.into_iter().find(|target| target.target == key.target.as_str());
        found.ok_or_else(|| AdminError::not_found(format!("there is no target `{key}`")))
    }

    async fn delete(&self, id: &RecipeId, abandon: bool, _by: &str) -> Result<Deleted, AdminError> {
        self.known(id)?;
        match abandon {
            true => Ok(Deleted { id: id.to_string(), abandoned: 2 }),
            false => Err(AdminError::conflict("2 events wait for vdot_gis").with("backlog", 2)),
        }
    }

    async fn pause(&self, id: &RecipeId, _by: &str) -> Result<RecipeView, AdminError> {
        self.paused.store(true, Ordering::SeqCst);
        self.known(id)
    }

    async fn resume(&self, id: &RecipeId, _by: &str) -> Result<RecipeView, AdminError> {
        self.paused.store(false, Ordering::SeqCst);
        self.known(id)
    }

    async fn run(&self, id: &RecipeId, wait: bool, _by: &str) -> Result<Vec<TargetRun>, AdminError> {
        self.known(id)?;
        let run = |target: &str| TargetRun {
            target: target.to_owned(),
            delivered: 1,
            failed: 1,
            backlog: 1,
            last_error: None,
        };
        Ok(if wait { vec![run("vdot_gis")] } else { Vec::new() })
    }

    async fn tickets(&self, state: Option<TicketState>) -> Result<Vec<TicketView>, AdminError> {
        let one = ticket(self.resolved.load(Ordering::SeqCst));
        Ok(if state.is_none_or(|state| state == one.state) { vec![one] } else { Vec::new() })
    }

    async fn ticket(&self, number: u64) -> Result<TicketView, AdminError> {
        match number {
            1 => Ok(ticket(self.resolved.load(Ordering::SeqCst))),
            _ => Err(AdminError::not_found(format!("there is no ticket {number}"))),
        }
    }

    async fn answer_ticket(&self, number: u64, answer: TicketAnswer, _by: &str) -> Result<TicketView, AdminError> {
        self.ticket(number).await?;
        if answer.action == TicketAction::Resolve && answer.note.is_none() {
            return Err(AdminError::invalid("a doubt ticket is resolved with a `note` that says how it is known"));
        }
        if self.resolved.swap(true, Ordering::SeqCst) {
            return Err(AdminError::conflict(format!("ticket {number} is resolved already")));
        }
        self.ticket(number).await
    }

    async fn dead_letters(&self, wanted: &LettersWanted) -> Result<DeadLetterList, AdminError> {
        let letters = self.letters.lock().unwrap();
        let fits = |letter: &&DeadLetterView| {
            letter.number >= wanted.from
                && wanted.recipe.as_ref().is_none_or(|recipe| letter.recipe == recipe.as_str())
                && wanted.target.as_ref().is_none_or(|target| letter.target == target.as_str())
        };
        let mut found = letters.iter().filter(fits).cloned();
        let dead_letters = found.by_ref().take(wanted.limit).collect();
        Ok(DeadLetterList { dead_letters, next: found.next().map(|letter| letter.number) })
    }

    async fn dead_letter(&self, number: u64) -> Result<DeadLetterDetail, AdminError> {
        let letter = self.letter(number)?;
        let attempt =
            AttemptView { at: Moment(Timestamp(0)), kind: "refused".to_owned(), error: "422 no such grant".to_owned() };
        let event = RawValue::from_string(EVENT.to_owned()).unwrap();
        Ok(DeadLetterDetail { letter, event, history: vec![attempt] })
    }

    async fn replay(&self, number: u64, options: ReplayOptions, _by: &str) -> Result<LetterOutcome, AdminError> {
        let letter = self.letter(number)?;
        if letter.replaying {
            return Err(AdminError::conflict("a replay of it is under way").with("replaying", true));
        }
        if letter.may_have_arrived && !options.force {
            return Err(AdminError::conflict("it may have arrived: a replay needs `force`"));
        }
        let outcome =
            |state| LetterOutcome { number, state, later: vec![LaterEvent { offset: 12, id: "e-12".to_owned() }] };
        match letter.event_id.as_str() {
            "refused" => Err(AdminError::partner("422 Unprocessable Entity: no such grant")),
            "slow" => Ok(outcome(LetterState::Replaying)),
            _ => {
                self.letters.lock().unwrap().retain(|letter| letter.number != number);
                Ok(outcome(LetterState::Delivered))
            }
        }
    }

    async fn drop_letter(&self, number: u64, _: String, _by: &str) -> Result<LetterOutcome, AdminError> {
        self.letter(number)?;
        self.letters.lock().unwrap().retain(|letter| letter.number != number);
        Ok(LetterOutcome { number, state: LetterState::Dropped, later: Vec::new() })
    }

    async fn supervision(&self) -> Result<ActorView, AdminError> {
        let dead = ActorView {
            state: ActorState::Quarantined,
            epoch: Some(9),
            last_panic: Some(PanicView { at: Moment(Timestamp(0)), message: "index out of bounds".to_owned() }),
            revived_at: Some(Moment(Timestamp(60_000))),
            ..ActorView::new(ActorKind::Delivery, "vdot_gis")
        };
        let supervisor = ActorView::new(ActorKind::RecipeSupervisor, RECIPE).watching([dead]);
        Ok(ActorView::new(ActorKind::Node, "node").watching([supervisor]))
    }

    async fn prune_audit(&self, order: PruneOrder, _by: &str) -> Result<PrunedView, AdminError> {
        Ok(PrunedView { first: order.before, moved: order.before })
    }

    async fn audit(&self, from: Option<u64>, limit: usize) -> Result<Bytes, AdminError> {
        let lines = AUDIT.split_inclusive(|&byte| byte == b'\n');
        let from = usize::try_from(from.unwrap_or_default()).unwrap_or(usize::MAX);
        Ok(lines.skip(from).take(limit).flatten().copied().collect::<Vec<u8>>().into())
    }

    async fn checkpoint(&self) -> Result<String, AdminError> {
        Ok("log\n0\nroot\n\n\u{2014} log signature\n".to_owned())
    }

    async fn inclusion(&self, leaf: u64, size: Option<u64>) -> Result<InclusionView, AdminError> {
        let size = size.unwrap_or(3);
        match leaf < size && size <= 3 {
            true => Ok(InclusionView { leaf, size, proof: vec!["aGFzaA==".to_owned()] }),
            false => Err(AdminError::not_found("the last checkpoint is of 3 records")),
        }
    }

    async fn consistency(&self, from: u64, to: Option<u64>) -> Result<ConsistencyView, AdminError> {
        Ok(ConsistencyView { from, to: to.unwrap_or(3), consistency: Vec::new() })
    }

    async fn audit_keys(&self) -> Result<String, AdminError> {
        Ok("log+00000000+key\n".to_owned())
    }

    async fn privacy_keys(&self) -> Result<Vec<PrivacyKeyView>, AdminError> {
        Ok(Vec::new())
    }

    async fn make_privacy_key(&self, order: PrivacyKeyOrder, _: &str) -> Result<PrivacyKeyView, AdminError> {
        Ok(PrivacyKeyView { partner: order.partner, version: 1, current: true, fingerprint: None, wrong: None })
    }

    async fn privacy_token(&self, query: PrivacyTokenQuery, _: &str) -> Result<PrivacyTokenView, AdminError> {
        Ok(PrivacyTokenView { partner: query.target, version: None, goes: "clear".to_owned(), becomes: None })
    }

    async fn metrics(&self) -> Result<String, AdminError> {
        Ok("# TYPE sync_tickets_open gauge\nsync_tickets_open 1\n".to_owned())
    }

    async fn unready(&self) -> Vec<String> {
        self.unready.lock().unwrap().clone()
    }
}
