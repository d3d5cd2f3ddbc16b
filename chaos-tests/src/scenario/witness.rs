//! Gathers what the judge may see at the end of a run.

use serde_json::Value;

use super::stage::{RECIPE, Stage};
use crate::judge::World;

/// The node must be up.
pub fn testify(stage: &Stage) -> World {
    let backlogs = stage.backlogs();
    let target = |name: &str| {
        let backlog = backlogs.get(name).copied();
        crate::judge::Target { backlog, ..stage.target(name) }
    };
    World {
        acknowledged: stage.publisher.acknowledged(),
        targets: stage.actors.iter().map(|actor| target(&actor.role.name)).collect(),
        audit: stage.node.audit(),
        circuits: circuits(stage),
        unsettled: stage.unsettled.clone(),
    }
}

/// `None` if this node knows no circuits.
fn circuits(stage: &Stage) -> Option<Vec<Value>> {
    let answer = stage.node.http().get("/v1/circuits");
    let ours = |circuit: &Value| circuit["recipe"] == RECIPE;
    match answer.status {
        404 => None,
        _ => Some(
            answer.expect(200).json()["circuits"].as_array()?.iter().filter(|circuit| ours(circuit)).cloned().collect(),
        ),
    }
}
