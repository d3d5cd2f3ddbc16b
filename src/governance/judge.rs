//! Asks about events: their labels are found, and the same labels get the same answer without asking again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use hms_actors::event::Event;
use hms_actors::ports::{Judge, Verdict};

use super::engine::{Asked, Governance};
use crate::catalog::{Label, Labels};
use crate::privacy::{Disclosure, Exposure, Treatments};

/// So many answers are kept; a catalog has few sets of labels.
const KEPT: usize = 4_096;

/// One target, as one revision of its recipe has it.
pub struct LabelJudge {
    governance: Arc<Governance>,
    target: Asked,
    treatments: Arc<Treatments>,
    /// Of an event without labels.
    unlabelled: Verdict,
    known: RefCell<HashMap<(Labels, Labels), Verdict>>,
}

impl LabelJudge {
    pub fn new(governance: Arc<Governance>, target: Asked, treatments: Arc<Treatments>) -> Self {
        let unlabelled = decide(&governance, &target, &Exposure::default());
        Self { governance, target, treatments, unlabelled, known: RefCell::default() }
    }

    /// About an event that has every field which may be sent to the target.
    pub fn possibly(&self) -> Verdict {
        decide(&self.governance, &self.target, &self.treatments.possible())
    }
}

impl Judge for LabelJudge {
    fn decide(&self, event: &Event) -> Verdict {
        let exposure = self.treatments.exposure(event);
        if exposure.is_empty() {
            return self.unlabelled.clone();
        }
        let labels = (exposure.clear, exposure.protected);
        if let Some(verdict) = self.known.borrow().get(&labels) {
            return verdict.clone();
        }
        let exposure = Exposure { clear: labels.0.clone(), protected: labels.1.clone() };
        let verdict = decide(&self.governance, &self.target, &exposure);
        let mut known = self.known.borrow_mut();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(labels, verdict.clone());
        verdict
    }
}

/// What policies say to an exposure.
fn decide(governance: &Governance, target: &Asked, exposure: &Exposure) -> Verdict {
    governance.decide(target, exposure.clear.iter().map(Label::as_str), exposure.protected.iter().map(Label::as_str))
}

/// What policies permit to disclose to a target.
pub struct Permitted<'a>(pub &'a Governance, pub &'a Asked);

impl Disclosure for Permitted<'_> {
    fn may_disclose(&self, label: &Label) -> bool {
        self.0.may_disclose(self.1, label.as_str())
    }
}
