//! The rate limit of a target, with what it needs of the world: a place is taken, and the moment at which the
//! bucket is full again is stored, before a request starts.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::Instant;

use super::Ended;
use super::control::Control;
use super::status::RateStatus;
use crate::failure::Failure;
use crate::id::{Epoch, TargetKey};
use crate::policy::rate::Rate;
use crate::runtime::Env;

pub(super) struct Pacer {
    pub rate: RefCell<Option<Box<Rate>>>,
    pub env: Rc<Env>,
    pub key: TargetKey,
    pub epoch: Epoch,
    pub control: Rc<Control>,
}

impl Pacer {
    /// Takes a place, or says when there is one.
    pub async fn try_place(&self) -> Result<Result<(), Instant>, Failure> {
        let store = match self.rate.borrow_mut().as_mut() {
            None => None,
            Some(rate) => match rate.take() {
                Err(at) => return Ok(Err(at)),
                Ok(()) => rate.to_store(self.env.clock.now()),
            },
        };
        if let Some(full_at) = store {
            self.env.ledger.pace(&self.key, self.epoch, full_at).await?;
        }
        Ok(Ok(()))
    }

    /// Waits for a place. That takes as long as it takes: nothing hangs meanwhile.
    pub async fn place(&self) -> Ended {
        while let Err(at) = self.try_place().await? {
            let under_way = self.control.under_way_since(None);
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.control.stopped() => return Err(Failure::node("stopping")),
            }
            self.control.under_way_since(under_way.map(|_| Instant::now()));
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
