//! The way to a delivery: its address, with the mailbox in sight.

use std::rc::Rc;

use actix::Addr;
use actix::dev::SendError;

use super::{Delivery, MAILBOX, Mailbox, Signal, Start};

pub(crate) struct Post {
    pub addr: Addr<Delivery>,
    pub start: Rc<Start>,
}

impl Post {
    /// What may be sent as often as others like: a full mailbox gives it back.
    pub fn tell(&self, signal: Signal) -> Result<(), SendError<Signal>> {
        self.addr.try_send(signal)?;
        self.count();
        Ok(())
    }

    /// What its supervisor orders, whatever waits there. Only where the number of orders is bounded: the end, once
    /// or twice a life, and pause, once for each change of the recipe.
    pub fn order(&self, signal: Signal) {
        self.addr.do_send(signal);
        self.count();
    }

    fn count(&self) {
        self.start.depth.set(self.start.depth.get() + 1);
    }

    pub fn mailbox(&self) -> Mailbox {
        Mailbox { depth: self.start.depth.get(), capacity: MAILBOX }
    }
}
