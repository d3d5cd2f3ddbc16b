//! From the checked model to the heart's settings, and what each target is promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use hms_actors::id::{Revision, TargetName};
use hms_actors::settings::{FileSettings, Lane, OnDoubt, RecipeSettings, TargetSettings};

use super::model::{Adapter, FileTarget, Recipe, Target};
use super::schedule::to_heart;

/// The settings of a recipe in its `revision`. `changed` says in which revision a target was last changed;
/// a target that isn't in it was changed in this one.
pub fn settings(
    recipe: &Recipe,
    revision: Revision,
    changed: &BTreeMap<TargetName, Revision>,
    paused: bool,
    zone: Tz,
) -> RecipeSettings {
    let target = |target: &Target| {
        Arc::new(TargetSettings {
            name: target.name.clone(),
            revision: changed.get(&target.name).copied().unwrap_or(revision),
            retries: recipe.retries,
            circuit: target.circuit,
            rate: target.rate,
            patience: patience(&target.adapter),
            on_deny: target.on_deny,
            lane: lane(&target.adapter),
        })
    };
    RecipeSettings {
        id: recipe.id.clone(),
        revision,
        feed: recipe.source.feed.clone(),
        schedule: to_heart(&recipe.schedule, zone),
        targets: recipe.targets.iter().map(target).collect(),
        paused,
    }
}

/// What a target is promised, as the admin endpoint says it. For files it holds for one writer per file.
pub fn guarantee(target: &Target) -> &'static str {
    let file = match &target.adapter {
        Adapter::Rest(rest) if rest.idempotency_honoured => return "effectively_once",
        Adapter::Rest(_) => return "at_least_once",
        Adapter::Sftp(sftp) => &sftp.file,
        Adapter::File(file) => file,
    };
    match file.on_doubt {
        OnDoubt::Hold => "exactly_once",
        OnDoubt::Resend => "at_least_once_on_doubt",
    }
}

fn lane(adapter: &Adapter) -> Lane {
    match adapter {
        Adapter::Rest(rest) => Lane::Requests { concurrency: rest.concurrency, max_events: rest.batch.max_events },
        Adapter::Sftp(sftp) => Lane::Files(file_settings(&sftp.file)),
        Adapter::File(file) => Lane::Files(file_settings(file)),
    }
}

/// How long one attempt may take, with all the waits that an adapter has inside: beyond that it hangs.
fn patience(adapter: &Adapter) -> Duration {
    match adapter {
        // Connecting, a token, the request itself, and once more with a fresh token.
        Adapter::Rest(rest) => rest.timeout * 4 + Duration::from_secs(30),
        // Each step has the timeout; planning anew, with its looks at the file, is tried five times.
        Adapter::Sftp(sftp) => sftp.timeout * 60 + Duration::from_secs(60),
        Adapter::File(_) => Duration::from_secs(600),
    }
}

fn file_settings(file: &FileTarget) -> FileSettings {
    FileSettings { write: file.write, on_doubt: file.on_doubt, line_end: file.line_end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;
    use hms_actors::settings::{LineEnd, WriteMode};

    const RECIPE: &str = "id: a.sync
source: {feed: grants}
targets:
  - {name: gis, adapter: rest, url: 'https://gis.vdot.gov/', concurrency: 3}
  - {name: crews, adapter: rest, url: 'https://crews.example/', idempotency: honoured}
  - {name: drop, adapter: file, path: /drop/a, format: jsonl, line_end: crlf}
  - {name: resent, adapter: sftp, host: h, path: /b, format: jsonl, on_doubt: resend}
schedule: on_change
";

    #[test]
    fn each_target_is_told_what_it_is_promised() {
        let recipe = parse("a", RECIPE).unwrap();
        let promised: Vec<&str> = recipe.targets.iter().map(guarantee).collect();
        assert_eq!(promised, ["at_least_once", "effectively_once", "exactly_once", "at_least_once_on_doubt"]);
    }

    #[test]
    fn the_heart_gets_lanes_and_the_revision_of_each_target() {
        let recipe = parse("a", RECIPE).unwrap();
        let changed = BTreeMap::from([(recipe.targets[0].name.clone(), 2)]);
        let settings = settings(&recipe, 5, &changed, true, Tz::UTC);
        assert_eq!(settings.targets.iter().map(|target| target.revision).collect::<Vec<_>>(), [2, 5, 5, 5]);
        assert_eq!(settings.targets[0].lane, Lane::Requests { concurrency: 3, max_events: 1 });
        let file = FileSettings { write: WriteMode::Append, on_doubt: OnDoubt::Hold, line_end: LineEnd::CrLf };
        assert_eq!(settings.targets[2].lane, Lane::Files(file));
        assert!(settings.paused);
    }
}
