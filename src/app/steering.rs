//! What operators ask of one delivery: orders to its circuit, answers to its tickets. Only the delivery itself
//! knows what is in doubt and which attempt failed last, so it carries them out.

use std::collections::BTreeMap;
use std::time::Duration;

use hms_actors::delivery::{Answer, Ask, Order, TicketAction};
use hms_actors::id::TargetKey;
use hms_actors::policy::circuit::CircuitOrder;
use hms_actors::receipt::Cause;
use hms_actors::supervisor::AskTarget;
use tokio::sync::oneshot;

use super::endpoint::{Endpoint, Result};
use super::shapes::failed;
use crate::admin::AdminError;
use crate::admin::views::{self, CircuitAction, TargetView};
use crate::store::{Ticket, TicketState};

/// How long a delivery may take to carry out what it was asked; it may have an attempt in flight.
const PATIENCE: Duration = Duration::from_secs(60);

impl Endpoint {
    /// Hands something to a target's delivery. False if there is none that could take it just now.
    pub(super) async fn ask(&self, target: &TargetKey, ask: Ask) -> Result<bool> {
        let supervisor = self.operations.supervisor(&target.recipe).await?;
        Ok(supervisor.send(AskTarget(target.target.clone(), ask)).await.unwrap_or(false))
    }

    pub(super) async fn order(&self, target: &TargetKey, order: views::CircuitOrder, by: &str) -> Result<TargetView> {
        self.target_now(target).await?;
        if order.action == CircuitAction::Probe && self.stored(&target.recipe)?.paused {
            let why = format!("recipe `{0}` is paused, nothing is sent: `hms sync resume {0}` first", target.recipe);
            return Err(AdminError::conflict(why));
        }
        if order.action != CircuitAction::Open
            && let Some(ticket) = self.world.store.held_by(target)
        {
            let why = format!("ticket {ticket} holds {target}: only an answer ends that (`hms hitl show {ticket}`)");
            return Err(AdminError::conflict(why));
        }
        let (done, told) = oneshot::channel();
        let (by, note) = (by.to_owned(), order.note);
        let order = match order.action {
            CircuitAction::Open => CircuitOrder::Open,
            CircuitAction::Close => CircuitOrder::Close,
            CircuitAction::Probe => CircuitOrder::Probe,
        };
        if !self.ask(target, Ask::Circuit(Order { order, by, note, done })).await? {
            return Err(being_started(target));
        }
        self.carried_out(told).await?;
        self.target_now(target).await
    }

    pub(super) async fn answer(&self, number: u64, answer: views::TicketAnswer, by: &str) -> Result<()> {
        let ticket = self.open_ticket(number)?;
        let note = answer.note.filter(|note| !note.trim().is_empty());
        let action = match answer.action {
            views::TicketAction::Retry => TicketAction::Retry,
            views::TicketAction::Skip => TicketAction::Skip,
            views::TicketAction::Resolve => TicketAction::Resolve,
        };
        if ticket.cause == Cause::Doubt && action == TicketAction::Resolve && note.is_none() {
            let why = "`resolve` says that the rows arrived: a `note` with how that is known is required";
            return Err(AdminError::invalid(why));
        }
        let (done, told) = oneshot::channel();
        let answer =
            Answer { ticket: number, cause: ticket.cause, action, by: by.to_owned(), note: note.clone(), done };
        if self.ask(&ticket.key, Ask::Ticket(answer)).await? {
            self.carried_out(told).await?;
            // A doubt ticket's answer closes it, and stands in that record.
            if ticket.cause != Cause::Doubt {
                let mut details = BTreeMap::from([("ticket".to_owned(), number.to_string())]);
                details.extend(note.clone().map(|note| ("note".to_owned(), note)));
                self.world.store.operator(&format!("ticket_{}", action.as_str()), by, details).await.map_err(failed)?;
            }
            return Ok(());
        }
        if action == TicketAction::Resolve && ticket.cause != Cause::Doubt {
            // It closes the ticket and nothing else: for that nobody has to be there.
            return self.world.store.resolve_ticket(number, action.as_str(), by, note).await.map_err(failed);
        }
        Err(being_started(&ticket.key))
    }

    async fn carried_out(&self, told: oneshot::Receiver<std::result::Result<(), String>>) -> Result<()> {
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(result)) => result.map_err(AdminError::conflict),
            Ok(Err(_)) => Err(AdminError::unavailable("the delivery ended before it had carried that out: ask again")),
            Err(_) => {
                Err(AdminError::unavailable("an attempt is in flight, so that is not yet carried out: look again"))
            }
        }
    }

    fn open_ticket(&self, number: u64) -> Result<Ticket> {
        let ticket = self.world.store.ticket(number);
        let ticket = ticket.ok_or_else(|| AdminError::not_found(format!("there is no ticket {number}")))?;
        match ticket.state {
            TicketState::Open => Ok(ticket),
            TicketState::Resolved => Err(AdminError::conflict(format!("ticket {number} is resolved already"))),
        }
    }
}

pub(super) fn being_started(target: &TargetKey) -> AdminError {
    AdminError::unavailable(format!("the delivery {target} is being started again: ask again in a moment"))
}
