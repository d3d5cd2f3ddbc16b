//! The rate limit of a target, with what it needs of the world: a place is taken, and the moment at which the
//! bucket is full again is stored, before a request starts.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::Instant;

use super::status::RateStatus;
use super::{Ended, Start};
use crate::failure::Failure;
use crate::id::Epoch;
use crate::policy::rate::Rate;

pub(super) struct Pacer {
    pub rate: RefCell<Option<Box<Rate>>>,
    pub start: Rc<Start>,
    pub epoch: Epoch,
}

impl Pacer {
    /// Takes a place, or says when there is one.
    pub async fn try_place(&self) -> Result<Result<(), Instant>, Failure> {
        let Start { env, key, .. } = &*self.start;
        let store = match self.rate.borrow_mut().as_mut() {
            None => None,
            Some(rate) => match rate.take() {
                Err(at) => return Ok(Err(at)),
                Ok(()) => rate.to_store(env.clock.now()),
            },
        };
        if let Some(full_at) = store {
            env.ledger.pace(key, self.epoch, full_at).await?;
        }
        Ok(Ok(()))
    }

    /// Waits for a place. That takes as long as it takes: nothing hangs meanwhile.
    pub async fn place(&self) -> Ended {
        let control = &self.start.control;
        while let Err(at) = self.try_place().await? {
            let under_way = control.under_way_since(None);
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = control.stopped() => return Err(Failure::node("stopping")),
            }
            control.under_way_since(under_way.map(|_| Instant::now()));
        }
        Ok(())
    }

    pub fn status(&self) -> Option<RateStatus> {
        self.rate.borrow().as_ref().map(|rate| RateStatus {
            per_second: rate.settings().per_second(),
            burst: rate.settings().burst.get(),
            available: rate.available(),
        })
    }
}
