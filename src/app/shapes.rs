//! From what the parts of a node say of themselves to the JSON that is promised.

use std::collections::BTreeMap;

use hms_actors::delivery::{Mailbox, Panic, Phase};
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::receipt::Cause;
use hms_actors::supervisor::{ActorSnapshot, Kind, State};
use serde_json::value::{RawValue, to_raw_value};

use super::governing::BlockedTarget;
use super::operations::Refused;
use crate::admin::AdminError;
use crate::admin::views::{self, Activity, ActorKind, ActorState, ActorView, Guarantee, Moment};
use crate::feeds::FeedInfo;
use crate::recipe::{self, heart, model};
use crate::store::{DeadLetter, Ticket, TicketState};

pub(super) fn guarantee(target: &model::Target) -> Guarantee {
    match heart::guarantee(target) {
        "exactly_once" => Guarantee::ExactlyOnce,
        "effectively_once" => Guarantee::EffectivelyOnce,
        "at_least_once_on_doubt" => Guarantee::AtLeastOnceOnDoubt,
        _ => Guarantee::AtLeastOnce,
    }
}

pub(super) fn activity(phase: Phase) -> Activity {
    match phase {
        Phase::Idle => Activity::Idle,
        Phase::Delivering => Activity::Delivering,
        Phase::BackingOff => Activity::BackingOff,
        Phase::CircuitOpen => Activity::CircuitOpen,
        Phase::Held => Activity::Held,
        Phase::Paused => Activity::Paused,
        Phase::Starting | Phase::Down => Activity::Restarting,
        Phase::Quarantined => Activity::Quarantined,
    }
}

pub(super) fn feed_view(feed: FeedInfo) -> views::FeedView {
    let reader = |reader: crate::feeds::ReaderInfo| {
        let (recipe, target) = reader.name.split_once('/').unwrap_or((&reader.name, ""));
        let (recipe, target) = (recipe.to_owned(), target.to_owned());
        views::ReaderView { recipe, target, checkpoint: reader.position, lag: reader.lag }
    };
    views::FeedView {
        name: feed.name.to_string(),
        head: feed.head,
        oldest: feed.oldest,
        bytes: feed.bytes,
        readers: feed.readers.into_iter().map(reader).collect(),
    }
}

/// The tree of actors.
pub(super) fn actor_view(actor: ActorSnapshot) -> ActorView {
    let kind = match actor.kind {
        Kind::Node => ActorKind::Node,
        Kind::RecipeSupervisor => ActorKind::RecipeSupervisor,
        Kind::FeedReader => ActorKind::FeedReader,
        Kind::Delivery => ActorKind::Delivery,
    };
    let state = match actor.state {
        State::Running => ActorState::Running,
        State::Restarting => ActorState::Restarting,
        State::Quarantined => ActorState::Quarantined,
        State::Stopping => ActorState::Stopping,
        State::Down | State::NotAnswering => ActorState::Down,
    };
    let panic = |panic: Panic| views::PanicView { at: Moment(panic.at), message: panic.what };
    let view = ActorView {
        state,
        restarts: actor.restarts,
        epoch: actor.epoch,
        last_panic: actor.last_panic.map(panic),
        mailbox: actor.mailbox.map(mailbox_view),
        revived_at: actor.revived_at.map(Moment),
        ..ActorView::new(kind, actor.name)
    };
    view.watching(actor.children.into_iter().map(actor_view))
}

pub(super) fn mailbox_view(mailbox: Mailbox) -> views::MailboxView {
    views::MailboxView { depth: mailbox.depth as u64, capacity: mailbox.capacity as u64 }
}

/// An event in the JSON format of CloudEvents; its data digit for digit.
pub(super) fn cloud_event(event: &Event) -> serde_json::Result<Box<RawValue>> {
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        specversion: &'static str,
        id: &'a str,
        source: &'a str,
        r#type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        time: Option<&'a str>,
        #[serde(flatten)]
        extensions: BTreeMap<&'a str, &'a str>,
        datacontenttype: &'static str,
        data: &'a RawValue,
    }
    to_raw_value(&Envelope {
        specversion: "1.0",
        id: &event.id,
        source: &event.source,
        r#type: &event.kind,
        subject: event.subject.as_deref(),
        time: event.time.as_deref(),
        extensions: event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        datacontenttype: "application/json",
        data: serde_json::from_slice(&event.data)?,
    })
}

pub(super) fn ticket_view(ticket: Ticket) -> views::TicketView {
    views::TicketView {
        number: ticket.number,
        state: match ticket.state {
            TicketState::Open => views::TicketState::Open,
            TicketState::Resolved => views::TicketState::Resolved,
        },
        recipe: ticket.key.recipe.to_string(),
        target: ticket.key.target.to_string(),
        cause: ticket.cause,
        reason: ticket.reason,
        opened_at: Moment(ticket.opened_at),
        resolved_at: ticket.resolved_at.map(Moment),
        attempts: ticket.attempts,
        backlog: ticket.backlog,
        last_error: Some(ticket.last_error),
        note: ticket.note,
    }
}

pub(super) fn letter_view(letter: DeadLetter, replaying: bool) -> views::DeadLetterView {
    views::DeadLetterView {
        number: letter.number,
        recipe: letter.key.recipe.to_string(),
        target: letter.key.target.to_string(),
        feed: letter.feed.to_string(),
        event_id: letter.event_id,
        offset: letter.offset,
        reason: letter.reason,
        attempts: letter.attempts,
        at: Moment(letter.at),
        cause: letter.cause.and_then(letter_cause),
        may_have_arrived: letter.may_have_arrived,
        replaying,
    }
}

fn letter_cause(cause: Cause) -> Option<views::LetterCause> {
    match cause {
        Cause::Refused => Some(views::LetterCause::Refused),
        Cause::Policy => Some(views::LetterCause::Policy),
        Cause::Doubt => Some(views::LetterCause::Doubt),
        Cause::Outage | Cause::Configuration | Cause::ForeignWriter | Cause::Quarantine => None,
    }
}

pub(super) fn finding(error: &recipe::Diagnostic) -> views::RecipeFinding {
    views::RecipeFinding {
        line: error.line,
        column: error.column,
        message: error.message.clone(),
        help: error.help.clone(),
    }
}

pub(super) fn blocked_view(blocked: BlockedTarget) -> views::BlockedTargetView {
    let BlockedTarget { target, policies, reason, every_event } = blocked;
    views::BlockedTargetView { target, policies, reason, every_event }
}

pub(super) fn failed(failure: Failure) -> AdminError {
    AdminError::unavailable(failure.message)
}

impl From<Refused> for AdminError {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::NotFound(_) => Self::not_found(detail),
            Refused::BadRequest(_) => Self::invalid(detail),
            Refused::Invalid(errors) => Self::recipe(&errors.iter().map(finding).collect::<Vec<_>>()),
            Refused::Conflict { counts, .. } if counts.is_empty() => Self::conflict(detail),
            Refused::Conflict { counts, .. } => Self::conflict(detail).with("backlog", serde_json::json!(counts)),
            Refused::Blocked { blocked, .. } => {
                let blocked: Vec<views::BlockedTargetView> = blocked.into_iter().map(blocked_view).collect();
                Self::conflict(detail).with("blocked", serde_json::json!(blocked))
            }
            Refused::Failed(failure) => failed(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_digit_for_digit_with_all_its_attributes() {
        let text = r#"{"specversion":"1.0","id":"e-1","source":"/s","type":"t","subject":"GR-42","traceparent":"00-1","datacontenttype":"application/json","data":{"usd":1250.10,"n":12345678901234567890}}"#;
        let event = Event {
            offset: 4,
            published: hms_actors::id::Timestamp(0),
            id: "e-1".to_owned(),
            source: "/s".into(),
            kind: "t".into(),
            subject: Some("GR-42".to_owned()),
            time: None,
            extensions: vec![("traceparent".to_owned(), "00-1".to_owned())],
            data: bytes::Bytes::from_static(br#"{"usd":1250.10,"n":12345678901234567890}"#),
        };
        assert_eq!(cloud_event(&event).unwrap().get(), text);
    }
}
