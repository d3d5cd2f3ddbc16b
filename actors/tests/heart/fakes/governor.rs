//! Policies as a test sets them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Revision, TargetKey};
use hms_actors::ports::*;

/// Policies as a test sets them: who is asked, and what they say no to.
#[derive(Default)]
pub struct FakeGovernor {
    /// Offset → the policy that says no; without a name nobody can tell.
    pub denies: RefCell<BTreeMap<Offset, Option<&'static str>>>,
    /// Offsets in the order in which they were asked about, with the revision.
    pub asked: RefCell<Vec<(Revision, Offset)>>,
    /// No judge can be had.
    pub broken: Cell<bool>,
}

struct FakeJudge(Rc<FakeGovernor>, Revision, BTreeMap<Offset, Option<&'static str>>);

/// Shared by the world and its actors.
pub struct Governing(pub Rc<FakeGovernor>);

impl Governor for Governing {
    fn judge(&self, _: &TargetKey, revision: Revision) -> Result<Rc<dyn Judge>, Failure> {
        if self.0.broken.get() {
            return Err(Failure::node("the policies can't be read"));
        }
        // As in the real one, a judge does not change its mind.
        Ok(Rc::new(FakeJudge(self.0.clone(), revision, self.0.denies.borrow().clone())))
    }
}

impl Judge for FakeJudge {
    fn decide(&self, event: &Event) -> Verdict {
        self.0.asked.borrow_mut().push((self.1, event.offset));
        match self.2.get(&event.offset) {
            None => Verdict::Allow,
            Some(None) => Verdict::CannotTell { words: "the policy failed".into() },
            Some(Some(policy)) => {
                let words = format!("policy `{policy}` says no");
                Verdict::Deny(Denial { policies: vec![(*policy).to_owned()], words })
            }
        }
    }
}
