//! Governance as the node runs it: the policies and the catalog of its configuration, asked about each event by the
//! heart, and about a recipe as a whole by `hms sync check` and `hms sync apply`.

use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{Revision, TargetKey, Timestamp};
use hms_actors::ports::{Denial, Governor, Judge, Verdict};
use serde::Serialize;

use super::world::World;
use crate::catalog::Catalog;
use crate::config::{self, NodeConfig, Overrides};
use crate::governance::{Facts, Governance, LabelJudge, Node, Permitted};
use crate::privacy::{self, Treatments};
use crate::recipe::model::{Adapter, Recipe, Target};
use crate::yaml::diagnostics::Diagnostics;

/// Policies and catalog, as they were read together.
pub(crate) struct Rules {
    pub governance: Arc<Governance>,
    catalog: Catalog,
    node: Node,
}

/// What policies say to a target of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockedTarget {
    pub target: String,
    /// Their ids; none where no policy could be asked, or none permits it.
    pub policies: Vec<String>,
    pub reason: String,
    /// Every event of the recipe, or the one that was shown; otherwise those that have the fields which are the reason.
    pub every_event: bool,
}

impl Rules {
    pub fn load(config: &NodeConfig) -> Result<Self, Failure> {
        let invalid = |what: &str, errors: Diagnostics| Failure::configuration(format!("{what} not valid: {errors}"));
        let governance = Governance::load(config.policies_dir.as_deref());
        let catalog = Catalog::load(config.catalog.as_deref());
        Ok(Self {
            governance: Arc::new(governance.map_err(|errors| invalid("the policies are", errors))?),
            catalog: catalog.map_err(|errors| invalid("the catalog is", errors))?,
            node: Node { fips_required: config.fips },
        })
    }

    /// What is done with each field of a target, as catalog, recipe and policies are now.
    pub fn treatments(&self, recipe: &Recipe, target: &Target) -> Treatments {
        match self.governance.target(Facts::of(recipe, target, self.node)) {
            Ok(asked) => {
                let permitted = Permitted(&self.governance, &asked);
                Treatments::new(&recipe.source, target, &self.catalog, &permitted)
            }
            // Whom policies can't be told of nothing is disclosed to.
            Err(_) => Treatments::new(&recipe.source, target, &self.catalog, &privacy::Never),
        }
    }

    /// Who decides about events for this target. `facts` is the target as far as policies are told of it, `target` as
    /// it shapes what is sent.
    fn judge(&self, recipe: &Recipe, target: &Target, facts: &Target) -> Result<LabelJudge, Failure> {
        let asked = self.governance.target(Facts::of(recipe, facts, self.node)).map_err(Failure::configuration)?;
        let treatments = self.treatments(recipe, target);
        Ok(LabelJudge::new(self.governance.clone(), asked, Arc::new(treatments)))
    }

    /// What policies would block: of this event, or of what the recipe sends.
    pub fn blocked(&self, recipe: &Recipe, event: Option<&Event>) -> Result<Vec<BlockedTarget>, Failure> {
        let mut blocked = Vec::new();
        for target in &recipe.targets {
            let judge = self.judge(recipe, target, target)?;
            let name = target.name.as_str();
            let surely = judge.decide(event.unwrap_or(&every_event(recipe, target)));
            let possibly = || if event.is_none() { judge.possibly() } else { Verdict::Allow };
            match (no(surely), || no(possibly())) {
                (Some(denial), _) => blocked.push(BlockedTarget::new(name, denial, true)),
                (None, possibly) => blocked.extend(possibly().map(|denial| BlockedTarget::new(name, denial, false))),
            }
        }
        Ok(blocked)
    }
}

impl BlockedTarget {
    fn new(target: &str, denial: Denial, every_event: bool) -> Self {
        Self { target: target.to_owned(), policies: denial.policies, reason: denial.words, every_event }
    }
}

impl fmt::Display for BlockedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, reason, .. } = self;
        match self.every_event {
            true => write!(f, "target `{target}`: blocked: {reason}"),
            false => write!(f, "target `{target}`: events with these fields would be blocked: {reason}"),
        }
    }
}

/// For `hms sync check`, which has no node: with the configuration that is here.
pub fn blocked(recipe: &Recipe, event: Option<&[u8]>, config: Option<&Path>) -> Result<Vec<BlockedTarget>, String> {
    let config = config::load(config, Overrides::default()).map_err(|errors| errors.to_string())?;
    let rules = Rules::load(&config).map_err(|failure| failure.message)?;
    let event = event.map(|event| super::previews::parse_event(recipe, event)).transpose()?;
    rules.blocked(recipe, event.as_ref()).map_err(|failure| failure.message)
}

fn no(verdict: Verdict) -> Option<Denial> {
    match verdict {
        Verdict::Allow => None,
        Verdict::Deny(denial) => Some(denial),
        Verdict::CannotTell { words } => Some(Denial { policies: Vec::new(), words }),
    }
}

/// What every event of the recipe has: the fields that it copies; where it copies all there are, those without which an
/// event is refused.
fn every_event(recipe: &Recipe, target: &Target) -> Event {
    let copied = recipe.source.fields.as_ref().unwrap_or(&recipe.source.required);
    let in_url: Vec<String> = match &target.adapter {
        Adapter::Rest(rest) => rest.url_fields().map(str::to_owned).collect(),
        Adapter::Sftp(_) | Adapter::File(_) => Vec::new(),
    };
    let fields = copied.iter().chain(&in_url).map(|field| (field.clone(), serde_json::Value::Null));
    let data = serde_json::Value::Object(fields.collect()).to_string();
    Event {
        offset: 0,
        published: Timestamp(0),
        id: String::new(),
        source: "".into(),
        kind: "".into(),
        subject: None,
        time: None,
        extensions: Vec::new(),
        data: Bytes::from(data),
    }
}

/// Asks on behalf of the heart.
pub(super) struct Governed(pub Arc<World>);

impl Governor for Governed {
    fn judge(&self, target: &TargetKey, revision: Revision) -> Result<Rc<dyn Judge>, Failure> {
        let (recipe, shaped, _) = self.0.shaped(target, revision)?;
        // What the recipe says of a partner today holds for the same partner also where something older was begun.
        let stored = self.0.store.recipe(&target.recipe);
        let current = stored.and_then(|stored| self.0.current(&stored).ok());
        let today = current.as_ref().and_then(|recipe| recipe.targets.iter().find(|other| other.name == target.target));
        let mut facts = shaped.clone();
        if let Some(today) = today.filter(|today| address(today) == address(&shaped)) {
            facts.residency.clone_from(&today.residency);
        }
        Ok(Rc::new(self.0.settings().rules.judge(&recipe, &shaped, &facts)?))
    }
}

/// Where a target's data goes.
fn address(target: &Target) -> (&'static str, &str, u16) {
    match &target.adapter {
        Adapter::Rest(rest) => ("rest", &rest.url, 0),
        Adapter::Sftp(sftp) => ("sftp", &sftp.host, sftp.port),
        Adapter::File(file) => ("file", &file.path, 0),
    }
}
