//! What a recipe would send, offline: for `hms sync check`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::{TargetKey, Timestamp};
use hms_actors::ports::Clock;

use super::governing::Rules;
use super::notes;
use super::world::{SystemClock, path_of};
use crate::adapters::rest;
use crate::adapters::rows::RowFormat;
use crate::config::{self, NodeConfig, Overrides};
use crate::egress::{Egress, Rule};
use crate::feeds::cloudevents;
use crate::formats::Shape;
use crate::privacy::{self, Guard, Keys, Treatment, Treatments, Way};
use crate::recipe::heart;
use crate::recipe::model::{Adapter, FileTarget, Recipe, Target};
use crate::secrets::Secrets;

/// What one target would be sent.
#[derive(Debug, serde::Serialize)]
pub struct TargetPreview {
    pub target: String,
    pub guarantee: &'static str,
    /// Its labelled or protected fields.
    pub fields: Vec<FieldPreview>,
    /// Request line, headers and body; or where the rows go, and the rows. Absent without an event, and if it can't be
    /// told without the partner's key.
    pub text: Option<String>,
    /// Why there is no text: values are not shown in the clear in its stead.
    pub missing_key: Option<String>,
    /// Names of secrets of which none is there.
    pub missing_secrets: Vec<String>,
    /// What this machine lacks for the target: where secrets were looked for, and where it would not connect to.
    pub notes: Vec<String>,
}

/// One field that goes to a target.
#[derive(Debug, serde::Serialize)]
pub struct FieldPreview {
    /// `*` is every field that is named nowhere.
    pub field: String,
    pub labels: Vec<String>,
    /// `clear`, or how it is protected.
    pub goes: &'static str,
}

/// Target by target, what goes out and how; with an event exactly what would leave the node. `event` is a structured
/// CloudEvent, or its data alone.
pub fn preview(recipe: &Recipe, event: Option<&[u8]>, file: Option<&Path>) -> Result<Vec<TargetPreview>, String> {
    let config = config::load(file, Overrides::default()).map_err(|errors| errors.to_string())?;
    let rules = Rules::load(&config).map_err(|failure| failure.message)?;
    let secrets = Secrets::of_process(config.secrets_dir.clone(), config.secret_hosts.clone());
    let own = OnceLock::from(config.listen);
    let egress = Egress::new(config.egress.clone(), false, Arc::new(own));
    let data_dir = std::env::var_os("HMS_DATA_DIR").map_or_else(|| config.data_dir.clone(), PathBuf::from);
    let keys = Arc::new(Keys::read_only(&data_dir));
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
        let key = TargetKey { recipe: recipe.id.clone(), target: target.name.clone() };
        let treatments = rules.treatments(recipe, target);
        let fields = fields(&treatments);
        let guard = Guard::new(treatments, privacy::partner(&key, target), keys.clone());
        let missing_key = guard.open(0).err().map(|failure| failure.message);
        let shape = Shape::new(&recipe.source, &target.map).guarded(guard);
        let event = event.as_ref().filter(|_| missing_key.is_none());
        let text = event.map(|event| text(&key, target, shape, &config, event)).transpose();
        Ok(TargetPreview {
            target: target.name.to_string(),
            guarantee: heart::guarantee(target),
            fields,
            text: text.map_err(|failure: Failure| failure.message)?,
            missing_key,
            missing_secrets: wanted.iter().flat_map(|wanted| wanted.missing(&secrets)).collect(),
            notes: found,
        })
    };
    recipe.targets.iter().map(preview).collect()
}

fn fields(treatments: &Treatments) -> Vec<FieldPreview> {
    let unnamed = treatments.unnamed().map(|treatment| ("*", treatment));
    let shown = |(field, treatment): (&str, &Treatment)| FieldPreview {
        field: field.to_owned(),
        labels: treatment.labels.iter().map(ToString::to_string).collect(),
        goes: treatment.way.word(),
    };
    let plain = |(_, treatment): &(&str, &Treatment)| treatment.labels.is_empty() && treatment.way == Way::Clear;
    treatments.sent().chain(unnamed).filter(|field| !plain(field)).map(shown).collect()
}

pub(super) fn parse_event(recipe: &Recipe, json: &[u8]) -> Result<Event, String> {
    let structured =
        serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|value| value.get("specversion").is_some());
    let media = if structured { "application/cloudevents+json" } else { "application/json" };
    let headers = [("content-type".to_owned(), media.into())];
    let read = cloudevents::read(&recipe.source.feed, &headers, json);
    let mut events = read.map_err(|error| format!("the event: {error}"))?.to_events();
    let event = events.pop().ok_or("there is no event")?;
    Ok(Event {
        offset: 0,
        published: SystemClock.now(),
        id: event.id,
        source: event.source.into(),
        kind: event.kind.into(),
        subject: event.subject,
        time: event.time,
        extensions: event.extensions,
        data: event.data,
    })
}

fn text(key: &TargetKey, target: &Target, shape: Shape, config: &NodeConfig, event: &Event) -> Result<String, Failure> {
    match &target.adapter {
        Adapter::Rest(spec) => {
            let request = rest::preview(key.clone(), shape, spec, std::slice::from_ref(event))?;
            let mut text = format!("{} {}\n", request.method, request.url);
            for (name, value) in &request.headers {
                text.push_str(&format!("{name}: {value}\n"));
            }
            Ok(format!("{text}\n{}", String::from_utf8_lossy(&request.body)))
        }
        Adapter::Sftp(sftp) => {
            let address = format!("sftp://{}@{}:{}", sftp.user, sftp.host, sftp.port);
            Ok(format!("{address}{}", rows(shape, &sftp.file, key, config, event)?))
        }
        Adapter::File(file) => rows(shape, file, key, config, event),
    }
}

fn rows(
    shape: Shape,
    file: &FileTarget,
    key: &TargetKey,
    config: &NodeConfig,
    event: &Event,
) -> Result<String, Failure> {
    let now: Timestamp = SystemClock.now();
    let path = path_of(file, key, config.timezone)?(now, (event.offset, event.offset));
    let rows = RowFormat::new(shape, file).encode(std::slice::from_ref(event))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = if rows.header.is_empty() {
        String::new()
    } else {
        format!(" (a new file begins with {:?})", text(&rows.header))
    };
    Ok(format!("{path}{header}\n\n{}", text(&rows.bytes)))
}
