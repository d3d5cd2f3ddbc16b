//! What a recipe would send, offline: for `hms sync check`.

use std::sync::{Arc, OnceLock};

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{TargetKey, Timestamp};
use hms_actors::ports::Clock;

use super::notes;
use super::world::{SystemClock, path_of};
use crate::adapters::rest;
use crate::adapters::rows::RowFormat;
use crate::config::{self, NodeConfig, Overrides};
use crate::egress::{Egress, Rule};
use crate::feeds::cloudevents;
use crate::formats::Shape;
use crate::recipe::heart;
use crate::recipe::model::{Adapter, FileTarget, Recipe, Target};
use crate::secrets::Secrets;

/// What one target would be sent.
#[derive(Debug, serde::Serialize)]
pub struct TargetPreview {
    pub target: String,
    pub guarantee: &'static str,
    /// Request line, headers and body; or where the rows go, and the rows. `None` without an event.
    pub text: Option<String>,
    /// Names of secrets of which none is there.
    pub missing_secrets: Vec<String>,
    /// What this machine lacks for the target: where secrets were looked for, and where it would not connect to.
    pub notes: Vec<String>,
}

/// Target by target, exactly what would leave the node. `event` is a structured CloudEvent, or its data alone; without
/// one, only what can be said of the targets themselves.
pub fn preview(recipe: &Recipe, event: Option<&[u8]>) -> Result<Vec<TargetPreview>, String> {
    let config = config::load(None, Overrides::default()).map_err(|errors| errors.to_string())?;
    let secrets = Secrets::of_process(config.secrets_dir.clone(), config.secret_hosts.clone());
    let own = OnceLock::from(config.listen);
    let egress = Egress::new(config.egress.clone(), false, Arc::new(own));
    let event = event.map(|event| parse_event(recipe, event)).transpose()?;
    let preview = |target: &Target| {
        let wanted = notes::wanted(&secrets, target);
        let mut found: Vec<String> = wanted.iter().filter_map(|wanted| wanted.problem(&secrets)).collect();
        match notes::refused(&egress, &config.connect_to, target) {
            // Whether the node was started with `--insecure-loopback` can't be known here.
            Some(refused) if refused.rule == Rule::Loopback => found.push(refused.to_string()),
            Some(refused) => return Err(format!("target `{}`: {refused}", target.name)),
            None => {}
        }
        let text = event.as_ref().map(|event| text(recipe, target, &config, event)).transpose();
        Ok(TargetPreview {
            target: target.name.to_string(),
            guarantee: heart::guarantee(target),
            text: text.map_err(|failure| failure.message)?,
            missing_secrets: wanted.iter().flat_map(|wanted| wanted.missing(&secrets)).collect(),
            notes: found,
        })
    };
    recipe.targets.iter().map(preview).collect()
}

fn parse_event(recipe: &Recipe, json: &[u8]) -> Result<Event, String> {
    let structured =
        serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|value| value.get("specversion").is_some());
    let media = if structured { "application/cloudevents+json" } else { "application/json" };
    let headers = [("content-type".to_owned(), media.into())];
    let read = cloudevents::read(&recipe.source.feed, &headers, json);
    let mut events = read.map_err(|error| format!("the event: {error}"))?;
    let event = events.pop().ok_or("there is no event")?;
    Ok(Event {
        offset: 0,
        published: SystemClock.now(),
        id: event.id,
        source: event.source,
        kind: event.kind,
        subject: event.subject,
        time: event.time,
        extensions: event.extensions,
        data: event.data,
    })
}

fn text(recipe: &Recipe, target: &Target, config: &NodeConfig, event: &Event) -> Result<String, Failure> {
    let key = TargetKey { recipe: recipe.id.clone(), target: target.name.clone() };
    match &target.adapter {
        Adapter::Rest(spec) => {
            let request = rest::preview(key, &recipe.source, &target.map, spec, std::slice::from_ref(event))?;
            let mut text = format!("{} {}\n", request.method, request.url);
            for (name, value) in &request.headers {
                text.push_str(&format!("{name}: {value}\n"));
            }
            Ok(format!("{text}\n{}", String::from_utf8_lossy(&request.body)))
        }
        Adapter::Sftp(sftp) => {
            let address = format!("sftp://{}@{}:{}", sftp.user, sftp.host, sftp.port);
            Ok(format!("{address}{}", rows(recipe, target, &sftp.file, &key, config, event)?))
        }
        Adapter::File(file) => rows(recipe, target, file, &key, config, event),
    }
}

fn rows(
    recipe: &Recipe,
    target: &Target,
    file: &FileTarget,
    key: &TargetKey,
    config: &NodeConfig,
    event: &Event,
) -> Result<String, Failure> {
    let now: Timestamp = SystemClock.now();
    let path = path_of(file, key, config.timezone)?(now, (event.offset, event.offset));
    let rows = RowFormat::new(Shape::new(&recipe.source, &target.map), file).encode(std::slice::from_ref(event))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = if rows.header.is_empty() {
        String::new()
    } else {
        format!(" (a new file begins with {:?})", text(&rows.header))
    };
    Ok(format!("{path}{header}\n\n{}", text(&rows.bytes)))
}
