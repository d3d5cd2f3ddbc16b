//! What the actors of one recipe have in common. They are on one thread.

use std::cell::{Cell, OnceCell, RefCell};

use actix::{Message, WeakRecipient};

use crate::id::{FeedName, Offset, Timestamp};
use crate::policy::runs::Runs;

/// The account of runs may be closed: nothing is in flight in a target.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Quiet;

pub(crate) struct Common {
    pub feed: FeedName,
    /// Everything below it is released.
    pub frontier: Cell<Offset>,
    pub last_run: Cell<Timestamp>,
    pub runs: RefCell<Runs>,
    supervisor: OnceCell<WeakRecipient<Quiet>>,
    /// The supervisor was told, and has not heard of it yet.
    told: Cell<bool>,
}

impl Common {
    pub fn new(feed: FeedName, frontier: Offset, now: Timestamp) -> Self {
        Self {
            feed,
            frontier: Cell::new(frontier),
            last_run: Cell::new(now),
            runs: RefCell::default(),
            supervisor: OnceCell::new(),
            told: Cell::new(false),
        }
    }

    pub fn supervised_by(&self, supervisor: WeakRecipient<Quiet>) {
        self.supervisor.set(supervisor).unwrap_or_default();
    }

    /// Tells the supervisor; once, however often it is said before that is heard.
    pub fn quiet(&self) {
        if self.told.replace(true) {
            return;
        }
        if let Some(supervisor) = self.supervisor.get().and_then(WeakRecipient::upgrade) {
            supervisor.do_send(Quiet);
        }
    }

    /// The supervisor has heard of it.
    pub fn heard(&self) {
        self.told.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use actix::{Actor, AsyncContext, Context, Handler};

    use super::*;

    struct Hears(Rc<Common>, Rc<Cell<u32>>);

    impl Actor for Hears {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            self.0.supervised_by(ctx.address().downgrade().recipient());
        }
    }

    impl Handler<Quiet> for Hears {
        type Result = ();
        fn handle(&mut self, _: Quiet, _: &mut Self::Context) {
            self.0.heard();
            self.1.set(self.1.get() + 1);
        }
    }

    #[test]
    fn a_supervisor_that_has_not_heard_yet_is_told_once_and_told_again_after_it_has() {
        actix::System::new().block_on(async {
            let feed = FeedName::parse("grants").unwrap();
            let (common, heard) = (Rc::new(Common::new(feed, 0, Timestamp::default())), Rc::default());
            let supervisor = Hears(common.clone(), Rc::clone(&heard)).start();
            for times in 1..=3 {
                tokio::task::yield_now().await;
                (0..1_000).for_each(|_| common.quiet());
                tokio::task::yield_now().await;
                assert_eq!(heard.get(), times);
            }
            drop(supervisor);
        });
    }
}
