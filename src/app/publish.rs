//! Publishing between the admin endpoint and the feeds: the envelope's and the log's errors as problems.
//! Neither of the two knows the other.

use std::time::Duration;

use hms_actors::id::{FeedName, Offset};

use crate::admin::AdminError;
use crate::admin::backend::PublishRequest;
use crate::admin::views::{Published, PublishedEvent};
use crate::feeds::cloudevents::{self, EnvelopeError};
use crate::feeds::{Batch, PublishError};

/// The events of a request.
pub fn events(feed: &FeedName, request: &PublishRequest) -> Result<Batch, AdminError> {
    cloudevents::read(feed, &request.headers, &request.body).map_err(refused)
}

/// What a publisher is told of an accepted request: of each of its events the id and the offset.
pub fn answer<'a>(duplicates: usize, events: impl Iterator<Item = (&'a str, Offset)>) -> Published {
    let events: Vec<_> = events.map(|(id, offset)| PublishedEvent { id: id.to_owned(), offset }).collect();
    Published { accepted: events.len() - duplicates, duplicates, events }
}

fn refused(error: EnvelopeError) -> AdminError {
    let detail = error.to_string();
    match error {
        EnvelopeError::ContentType { .. } => AdminError::unsupported_type(detail),
        EnvelopeError::Invalid { place, .. } => {
            place.parts().fold(AdminError::invalid(detail), |problem, (name, part)| problem.with(name, part))
        }
    }
}

impl From<PublishError> for AdminError {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Conflict { id, offset, .. } => {
                AdminError::conflict(detail).with("id", id).with("offset", offset)
            }
            PublishError::FeedFull { .. } | PublishError::NodeFull { .. } | PublishError::DiskFull { .. } => {
                AdminError::full(detail)
            }
            PublishError::Unwritable { .. } | PublishError::Withheld { .. } => AdminError::unavailable(detail),
            PublishError::Overloaded => AdminError::overloaded(detail, Duration::from_secs(1)),
        }
    }
}
