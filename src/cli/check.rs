//! `hms sync check`: a recipe without a node. Every finding with its place; with an event, exactly what each target would get.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Error, render};
use crate::app::{self, TargetPreview};
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
        let previews = app::preview(&recipe, event.as_deref(), self.config.as_deref())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        if json {
            return render::line(&as_json(&recipe, &previews));
        }
        if event.is_none() {
            render::line(&format!("✓ {}: {} is valid", self.file.display(), recipe.id))?;
            return previews.iter().filter(|preview| !preview.fields.is_empty()).try_for_each(show);
        }
        previews.iter().try_for_each(show)
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

fn show(preview: &TargetPreview) -> Result<(), Error> {
    render::line(&format!("── {}  ({})", preview.target, preview.guarantee))?;
    for field in &preview.fields {
        let labels = if field.labels.is_empty() { "no label".to_owned() } else { field.labels.join(", ") };
        render::line(&format!("   {}: {} ({labels})", field.field, field.goes))?;
    }
    if let Some(text) = &preview.text {
        render::line(text.trim_end_matches('\n'))?;
    }
    if let Some(why) = &preview.missing_key {
        render::line(&format!("({why})"))?;
    }
    for secret in &preview.missing_secrets {
        render::line(&format!("(secret {secret} is not set here)"))?;
    }
    render::line("")
}

fn as_json(recipe: &Recipe, previews: &[TargetPreview]) -> String {
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
            })
        })
        .collect();
    json!({"id": recipe.id, "targets": targets}).to_string()
}
