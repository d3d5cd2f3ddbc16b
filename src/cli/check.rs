//! `hms sync check`: a recipe without a node. Every finding with its place; with an event, exactly what each target would get.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Error, render};
use crate::app::{self, BlockedTarget, TargetPreview};
use crate::recipe::model::Recipe;
use crate::recipe::{self, Diagnostics};

/// A recipe has at most 1 MiB; one byte more is enough to know that a file is too long.
const RECIPE_BYTES: u64 = (1 << 20) + 1;

/// Check a recipe without a node, and show what an event would become
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The recipe
    file: PathBuf,
    /// An event, or only its data: print what each target would be sent
    #[arg(long, value_name = "JSON", conflicts_with = "event_file")]
    event: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "F")]
    event_file: Option<PathBuf>,
    /// The node's configuration, with its catalog; hms.yaml if it is in this folder
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
}

impl Check {
    pub fn run(self, json: bool) -> Result<(), Error> {
        let recipe = match parse(&self.file)? {
            Ok(recipe) => recipe,
            Err(findings) => {
                if json {
                    let findings = serde_json::to_vec(&findings).map_err(|error| Error::Failed(error.to_string()))?;
                    render::json(&findings)?;
                }
                return Err(invalid(&findings));
            }
        };
        let event = self.event()?;
        let config = self.config.as_deref();
        let blocked = app::blocked(&recipe, event.as_deref(), config).map_err(Error::Invalid)?;
        let previews = app::preview(&recipe, event.as_deref(), config).map_err(Error::Invalid)?;
        if json {
            render::line(&as_json(&recipe, &previews, &blocked))?;
            return refuse_if_all(&blocked);
        }
        if event.is_none() {
            render::line(&format!("✓ {}: {} is valid", self.file.display(), recipe.id))?;
        }
        let has_news = |preview: &&TargetPreview| !preview.fields.is_empty() || !preview.notes.is_empty();
        let mut shown = previews.iter().filter(|preview| event.is_some() || has_news(preview));
        shown.try_for_each(|preview| show(preview, &blocked))?;
        let mut some = blocked.iter().filter(|blocked| !blocked.every_event);
        some.try_for_each(|blocked| render::line(&format!("warning: {blocked}")))?;
        refuse_if_all(&blocked)
    }

    fn event(&self) -> Result<Option<Vec<u8>>, Error> {
        match (&self.event, &self.event_file) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(file)) => std::fs::read(file).map(Some).map_err(|error| unreadable(file, &error)),
            (None, None) => Ok(None),
        }
    }
}

/// The recipe in a file; its findings are an `Invalid`, ready to print.
pub(crate) fn read_recipe(file: &Path) -> Result<Recipe, Error> {
    parse(file)?.map_err(|findings| invalid(&findings))
}

fn parse(file: &Path) -> Result<Result<Recipe, Diagnostics>, Error> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|input| input.take(RECIPE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| unreadable(file, &error))?;
    Ok(recipe::parse_bytes(&file.display().to_string(), &bytes))
}

fn invalid(findings: &Diagnostics) -> Error {
    Error::Invalid(findings.to_string().trim_end().to_owned())
}

fn unreadable(file: &Path, error: &std::io::Error) -> Error {
    Error::Usage(format!("{} can't be read: {error}", file.display()))
}

/// A target to which policies let nothing go is no better than one that isn't there.
fn refuse_if_all(blocked: &[BlockedTarget]) -> Result<(), Error> {
    let all: Vec<String> = blocked.iter().filter(|one| one.every_event).map(ToString::to_string).collect();
    if all.is_empty() { Ok(()) } else { Err(Error::Failed(all.join("\n"))) }
}

fn show(preview: &TargetPreview, blocked: &[BlockedTarget]) -> Result<(), Error> {
    if preview.text.is_none() && preview.fields.is_empty() {
        return preview.notes.iter().try_for_each(|note| render::line(&format!("  {}: {note}", preview.target)));
    }
    render::line(&format!("── {}  ({})", preview.target, preview.guarantee))?;
    if let Some(blocked) = blocked.iter().find(|blocked| blocked.target == preview.target && blocked.every_event) {
        render::line(&format!("✗ not sent: {}", blocked.reason))?;
    }
    for field in &preview.fields {
        let labels = if field.labels.is_empty() { "no label".to_owned() } else { field.labels.join(", ") };
        render::line(&format!("   {}: {} ({labels})", field.field, field.goes))?;
    }
    if let Some(text) = &preview.text {
        render::line(text.trim_end_matches('\n'))?;
    }
    for note in preview.missing_key.iter().chain(&preview.notes) {
        render::line(&format!("({note})"))?;
    }
    render::line("")
}

fn as_json(recipe: &Recipe, previews: &[TargetPreview], blocked: &[BlockedTarget]) -> String {
    let targets: Vec<_> = previews
        .iter()
        .map(|preview| {
            json!({
                "target": preview.target,
                "guarantee": preview.guarantee,
                "fields": preview.fields,
                "sends": preview.text,
                "missing_key": preview.missing_key,
                "missing_secrets": preview.missing_secrets,
                "notes": preview.notes,
            })
        })
        .collect();
    json!({"id": recipe.id, "targets": targets, "blocked": blocked}).to_string()
}
