//! Tickets for an outside task system: what the configuration's `ticket_webhook` asks for is a recipe of the node's
//! own, and each ticket becomes two events of the feed that it reads. Delivering them is the business of the machinery
//! that delivers everything else.
//!
//! Each event says which record of the audit it tells of, so the feed's last event is the position: it goes to disk
//! in one piece with what was told, and no kill can come between them.

use std::sync::Arc;
use std::time::Duration;

use hms_actors::event::Event;
use hms_actors::id::{FeedName, Offset, RecipeId};
use hms_actors::ports::EventLog;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;

use super::operations::{How, Operations};
use super::shapes::ticket_view;
use super::world::World;
use crate::admin::views::{self, Moment};
use crate::fault;
use crate::feeds::{NewEvent, PublishError};
use crate::recipe::model::Recipe;
use crate::recipe::own::{TICKET_WEBHOOK, TICKETS, is_own};
use crate::store::{Ticket, TicketState};

/// Who changes the recipe.
const BY: &str = "hms.yaml";

/// Keeps the feed's last event from being removed, however old it is.
const POSITION: &str = "hms.ticket_webhook/position";

/// Events of one request, and some more if they tell of one record.
const AT_ONCE: usize = 200;

/// When what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Comes before all others, below the recipe's start: what is told begins here. It is never sent.
const BEGUN: &str = "hms.tickets.begun";

/// Holds the recipe to the configuration, and the feed to the tickets.
pub(super) struct Webhook {
    operations: Arc<Operations>,
    one_at_a_time: Mutex<()>,
    failed: Notify,
}

/// What has been told: every record up to `seq`. Of a feed that has just begun, the tickets are untold that were
/// open then.
#[derive(Debug, Clone, Copy)]
struct Position {
    seq: u64,
    begun: bool,
}

/// The data of an event: the ticket as the admin endpoint shows it, how it was resolved, and the record told of.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    ticket: views::TicketView,
    action: Option<String>,
    seq: u64,
}

impl Webhook {
    pub fn new(operations: Arc<Operations>) -> Arc<Self> {
        Arc::new(Self { operations, one_at_a_time: Mutex::new(()), failed: Notify::new() })
    }

    /// Does what there is to do. What fails is tried again by [`Self::follow`].
    pub async fn catch_up(&self) {
        let _guard = self.one_at_a_time.lock().await;
        if let Err(why) = self.try_to_catch_up().await {
            tracing::warn!("`ticket_webhook`: {why}; tried again in {RETRY:?}");
            self.failed.notify_one();
        }
    }

    /// Never returns: catches up whenever a ticket is opened or resolved.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.world().store.ticket_changes();
        loop {
            tokio::select! {
                _ = changes.changed() => {}
                () = async { self.failed.notified().await; sleep(RETRY).await } => {}
            }
            self.catch_up().await;
        }
    }

    async fn try_to_catch_up(&self) -> Result<(), String> {
        let (id, wanted) = (recipe_id(), self.world().settings().config.ticket_webhook.clone());
        let stored = self.world().store.recipe(&id);
        let Some(recipe) = wanted else {
            if stored.is_some() {
                self.delete(&id).await?;
                self.world().feeds.remove_reader(&feed(), POSITION);
            }
            return Ok(());
        };
        let position = match self.last_event().await? {
            Some(last) => position_of(&last)?,
            None => {
                // One that is there has lost its events, and would send the new beginning.
                if let Some(stored) = &stored {
                    self.operations.settle_lost(stored).await.map_err(|refused| refused.to_string())?;
                    self.delete(&id).await?;
                }
                self.begin().await?
            }
        };
        if self.world().store.recipe(&id).is_none_or(|stored| stored.text() != recipe.text) {
            self.apply(&id, &recipe).await?;
        }
        self.tell(position).await
    }

    async fn apply(&self, id: &RecipeId, recipe: &Recipe) -> Result<(), String> {
        let applied = self.operations.apply(id, &recipe.text, How::default(), BY).await;
        applied.map(|_| ()).map_err(|refused| refused.to_string())
    }

    async fn delete(&self, id: &RecipeId) -> Result<(), String> {
        self.operations.delete(id, true, BY).await.map(drop).map_err(|refused| refused.to_string())
    }

    /// A feed without events begins now, before there is a recipe that could send its beginning.
    async fn begin(&self) -> Result<Position, String> {
        let seq = self.world().store.audit_size().saturating_sub(1);
        self.publish(vec![beginning(seq)]).await?;
        Ok(Position { seq, begun: true })
    }

    async fn last_event(&self) -> Result<Option<Event>, String> {
        let (feed, head) = (feed(), self.head());
        let Some(last) = head.checked_sub(1).filter(|&last| last >= self.world().feeds.oldest(&feed)) else {
            return Ok(None);
        };
        self.world().feeds.register_reader(&feed, POSITION, last);
        let read = self.world().feeds.read(&feed, last, head, 1, usize::MAX).await;
        Ok(read.map_err(|failure| failure.message)?.pop())
    }

    async fn tell(&self, position: Position) -> Result<(), String> {
        let untold = untold(self.world().store.tickets_open_after(position.seq), position);
        let mut rest = untold.as_slice();
        while let Some((last, _)) = rest.get(AT_ONCE.min(rest.len()).saturating_sub(1)) {
            // What tells of one record goes together: the position can't stand within it.
            let (now, later) = rest.split_at(rest.partition_point(|(seq, _)| seq <= last));
            self.publish(now.iter().map(|(_, event)| event.clone()).collect()).await?;
            rest = later;
        }
        Ok(())
    }

    async fn publish(&self, mut events: Vec<NewEvent>) -> Result<(), String> {
        while !events.is_empty() {
            fault::point("webhook.before_publish");
            let published = self.world().feeds.publish(&feed(), events.clone()).await;
            fault::point("webhook.published");
            match published {
                Ok(_) => break,
                // Told before the webhook was taken out of the configuration and put back.
                Err(PublishError::Conflict { id, .. }) => events.retain(|event| event.id != id),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.world().feeds.register_reader(&feed(), POSITION, self.head().saturating_sub(1));
        Ok(())
    }

    fn head(&self) -> Offset {
        self.operations.head(&feed())
    }

    fn world(&self) -> &World {
        &self.operations.world
    }
}

/// The events that are not in the feed yet, each with its record, in the order of the records.
fn untold(tickets: Vec<Ticket>, from: Position) -> Vec<(u64, NewEvent)> {
    let mut events = Vec::new();
    // A webhook that is told of its own outage would never come to an end.
    for ticket in tickets.into_iter().filter(|ticket| !is_own(ticket.key.recipe.as_str())) {
        if from.begun || ticket.opened_seq > from.seq {
            events.push(opened(&ticket, ticket.opened_seq.max(from.seq)));
        }
        if ticket.state == TicketState::Resolved {
            events.push(event(&ticket, "resolved", ticket.resolved_seq));
        }
    }
    events.sort_by_key(|(seq, _)| *seq);
    events
}

/// A ticket as it was when it was opened, also if it is resolved by now.
fn opened(ticket: &Ticket, seq: u64) -> (u64, NewEvent) {
    let then = Ticket { state: TicketState::Open, resolved_at: None, note: None, action: None, ..ticket.clone() };
    event(&then, "opened", seq)
}

fn event(ticket: &Ticket, what: &str, seq: u64) -> (u64, NewEvent) {
    let at = ticket.resolved_at.unwrap_or(ticket.opened_at);
    let (subject, action) = (format!("ticket-{}", ticket.number), ticket.action.clone());
    let told = Told { ticket: ticket_view(ticket.clone()), action, seq };
    let event = NewEvent {
        id: format!("{subject}-{what}"),
        source: TICKETS.to_owned(),
        kind: format!("hms.ticket.{what}"),
        subject: Some(subject),
        time: Some(Moment(at).into()),
        extensions: Vec::new(),
        data: serde_json::to_vec(&told).expect("numbers, words and texts are JSON").into(),
    };
    (seq, event)
}

fn beginning(seq: u64) -> NewEvent {
    NewEvent {
        id: format!("begun-{seq}"),
        source: TICKETS.to_owned(),
        kind: BEGUN.to_owned(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: format!("{{\"seq\":{seq}}}").into(),
    }
}

fn position_of(event: &Event) -> Result<Position, String> {
    #[derive(Deserialize)]
    struct Seq {
        seq: u64,
    }
    let Seq { seq } = serde_json::from_slice(&event.data)
        .map_err(|error| format!("event `{}` of feed `{TICKETS}` does not say how far it tells: {error}", event.id))?;
    Ok(Position { seq, begun: *event.kind == *BEGUN })
}

fn feed() -> FeedName {
    FeedName::parse(TICKETS).expect("it is a name")
}

pub(super) fn recipe_id() -> RecipeId {
    RecipeId::parse(TICKET_WEBHOOK).expect("it is a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hms_actors::id::{TargetKey, TargetName, Timestamp};
    use hms_actors::receipt::Cause;

    fn ticket(number: u64, recipe: &str, opened_seq: u64, resolved_seq: Option<u64>) -> Ticket {
        let key = TargetKey { recipe: RecipeId::parse(recipe).unwrap(), target: TargetName::parse("gis").unwrap() };
        Ticket {
            number,
            state: if resolved_seq.is_some() { TicketState::Resolved } else { TicketState::Open },
            key,
            cause: Cause::Outage,
            reason: "connection refused".to_owned(),
            opened_at: Timestamp(1_000),
            resolved_at: resolved_seq.map(|_| Timestamp(2_000)),
            attempts: 3,
            backlog: 1,
            last_error: "connection refused".to_owned(),
            note: resolved_seq.map(|_| "it is back".to_owned()),
            action: resolved_seq.map(|_| "recovered".to_owned()),
            opened_seq,
            resolved_seq: resolved_seq.unwrap_or(0),
        }
    }

    fn told(tickets: &[Ticket], seq: u64, begun: bool) -> Vec<(u64, String)> {
        let events = untold(tickets.to_vec(), Position { seq, begun });
        events.into_iter().map(|(seq, event)| (seq, event.id)).collect()
    }

    #[test]
    fn what_is_told_goes_on_after_the_last_record_in_the_order_of_the_audit() {
        let tickets = [ticket(1, "a", 3, Some(9)), ticket(2, "a", 5, Some(7)), ticket(3, "a", 8, None)];
        let expected = [(7, "ticket-2-resolved"), (8, "ticket-3-opened"), (9, "ticket-1-resolved")];
        assert_eq!(told(&tickets, 5, false), expected.map(|(seq, id)| (seq, id.to_owned())));
    }

    #[test]
    fn what_has_just_begun_tells_of_the_tickets_that_are_open_as_one_record() {
        let tickets = [ticket(1, "a", 3, None), ticket(2, "a", 4, Some(12)), ticket(3, "a", 11, None)];
        let expected =
            [(10, "ticket-1-opened"), (10, "ticket-2-opened"), (11, "ticket-3-opened"), (12, "ticket-2-resolved")];
        assert_eq!(told(&tickets, 10, true), expected.map(|(seq, id)| (seq, id.to_owned())));
    }

    #[test]
    fn the_webhooks_own_tickets_are_not_told() {
        assert_eq!(told(&[ticket(1, TICKET_WEBHOOK, 3, Some(5))], 0, false), []);
    }

    #[test]
    fn a_ticket_is_told_as_it_was_when_it_was_opened_and_how_it_was_resolved() {
        let events = untold(vec![ticket(4, "a", 3, Some(9))], Position { seq: 0, begun: false });
        let data = |n: usize| serde_json::from_slice::<serde_json::Value>(&events[n].1.data).unwrap();
        let (opened, resolved) = (data(0), data(1));
        assert_eq!(
            (&opened["state"], &opened["resolved_at"], &opened["action"]),
            (&"open".into(), &().into(), &().into())
        );
        assert_eq!(opened["opened_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(
            (&resolved["state"], &resolved["action"], &resolved["seq"]),
            (&"resolved".into(), &"recovered".into(), &9.into())
        );
        assert_eq!(resolved["note"], "it is back");
        assert!(events.iter().all(|(_, event)| event.subject.as_deref() == Some("ticket-4")));
        assert_eq!(events[1].1.time.as_deref(), Some("1970-01-01T00:00:02.000Z"));
    }
}
