//! Where actors run, and the world that they are given there.

use std::rc::Rc;
use std::sync::Arc;

use crate::ports::{Clock, EventLog, Governor, Ledger, Partners, Witness};

/// The world, as one arbiter sees it. Everything in it belongs to that arbiter's thread.
#[derive(Clone)]
pub struct Env {
    pub clock: Rc<dyn Clock>,
    pub log: Rc<dyn EventLog>,
    pub ledger: Rc<dyn Ledger>,
    pub partners: Rc<dyn Partners>,
    pub governor: Rc<dyn Governor>,
    pub witness: Rc<dyn Witness>,
    /// Called between the steps of protocols, with their names; test builds end the process there.
    pub step: fn(&'static str),
}

/// Makes the world on an arbiter's own thread.
pub type MakeEnv = Arc<dyn Fn() -> Rc<Env> + Send + Sync>;
