//! Moving old audit records out: asks for what anchors have, and lets the store do it.

use std::time::Duration;

use hms_actors::failure::FailureKind;
use tokio::time::timeout;

use super::endpoint::{Endpoint, Result};
use super::shapes::failed;
use crate::admin::{AdminError, views};

/// How long an anchor may take to get the checkpoint that an export has just asked for.
const ANCHORED_WITHIN: Duration = Duration::from_secs(15);

impl Endpoint {
    pub(super) async fn prune(&self, before: u64, by: &str) -> Result<views::PrunedView> {
        let signed = self.world.notary.current().await.map_err(failed)?.checkpoint.size;
        if before > signed {
            return Err(AdminError::conflict(format!(
                "there are only {signed} records: before {before} is beyond them"
            )));
        }
        if self.world.settings().config.anchors.is_empty() {
            return Err(AdminError::conflict(
                "no anchor is configured: records are moved out only when a checkpoint that covers them is known outside of the node; \
                 name one under `anchors` in hms.yaml and restart",
            ));
        }
        let mut anchored = self.world.anchored.subscribe();
        let covers = |size: u64| size >= before;
        let wait = anchored.wait_for(|known| known.as_ref().is_some_and(|known| covers(known.checkpoint.size)));
        let found = timeout(ANCHORED_WITHIN, wait).await.ok().and_then(|known| known.ok()?.clone());
        let Some(found) = found else {
            let size = self.world.anchored.borrow().as_ref().map_or(0, |known| known.checkpoint.size);
            return Err(AdminError::conflict(format!(
                "anchors have a checkpoint of {size} records only, and none that covers all before {before}: see hms_audit_anchor_fail_total and \
                 the log, and try again when they have it"
            )));
        };
        let (world, by) = (self.world.clone(), by.to_owned());
        let pruned =
            tokio::task::spawn_blocking(move || world.store.prune(before, &found.checkpoint, &world.notary, &by));
        let pruned = pruned.await.map_err(|error| AdminError::internal(error.to_string()))?;
        let pruned = pruned.map_err(|failure| match failure.kind {
            FailureKind::Refused => AdminError::conflict(failure.message),
            _ => failed(failure),
        })?;
        Ok(views::PrunedView { first: pruned.first, moved: pruned.moved })
    }
}

/// What is asked for is in an export only.
pub(super) fn moved_out(first: u64) -> AdminError {
    let why =
        format!("records below {first} were moved out of the node (hms audit export --prune-before): see the exports");
    AdminError::gone(why).with("first", first)
}
