//! `hms sync`: recipes, from a file to a running sync. Checking a file without a node is `check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hms_actors::id::RecipeId;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::check::{Check, read_recipe};
use super::client::{Call, Client, Connection, parse};
use super::{Error, render};
use crate::recipe::model::Recipe;

/// A run answers when everything that waited has been tried, each try within the target's own timeout.
const RUN_DEADLINE: Duration = Duration::from_secs(15 * 60);

const EXAMPLES: &str = "\
Examples:
  hms sync check recipes/bridge_grant.yaml                 errors with line and column, no node needed
  hms sync apply --dry-run recipes/bridge_grant.yaml       what would change
  hms sync apply recipes/bridge_grant.yaml
  hms sync run vdot.bridge_grant.sync                      deliver now, not at the next tick
  hms sync show vdot.bridge_grant.sync";

/// Sync recipes: what goes where, and how often
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sync {
    #[command(subcommand)]
    command: SyncCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    Apply(Apply),
    /// All recipes and when they run next
    List,
    /// One recipe and how far each target is
    Show {
        #[arg(value_parser = RecipeId::parse)]
        id: RecipeId,
    },
    /// Send nothing any more; what is in flight ends, what waits goes on waiting
    Pause {
        #[arg(value_parser = RecipeId::parse)]
        id: RecipeId,
    },
    /// Go on where it was paused
    Resume {
        #[arg(value_parser = RecipeId::parse)]
        id: RecipeId,
    },
    /// Delete a recipe; refused while events wait for it
    Delete {
        #[arg(value_parser = RecipeId::parse)]
        id: RecipeId,
        /// Make dead letters of the events that wait
        #[arg(long)]
        abandon: bool,
    },
    /// Deliver now, without waiting for the schedule; exit 1 if a target failed
    Run {
        #[arg(value_parser = RecipeId::parse)]
        id: RecipeId,
        /// Only start it
        #[arg(long)]
        no_wait: bool,
    },
    Check(Check),
}

/// Check recipes, show what changes, and enable them
#[derive(Debug, Args)]
struct Apply {
    /// Recipes in YAML; none is sent before all are found good
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Make dead letters of the events that wait for a target which the recipe no longer has
    #[arg(long)]
    abandon: bool,
}

impl Sync {
    pub async fn run(self) -> Result<(), Error> {
        let json = self.connection.json;
        let client = || self.connection.client();
        match self.command {
            SyncCommand::Check(check) => check.run(json),
            SyncCommand::Apply(apply) => apply.run(&client()?, json).await,
            SyncCommand::List => list(&client()?, json).await,
            SyncCommand::Show { id } => show(&client()?, &id, json).await,
            SyncCommand::Pause { id } => switch(&client()?, &id, "pause", "paused", json).await,
            SyncCommand::Resume { id } => switch(&client()?, &id, "resume", "resumed", json).await,
            SyncCommand::Delete { id, abandon } => delete(&client()?, &id, abandon, json).await,
            SyncCommand::Run { id, no_wait } => run(&client()?, &id, no_wait, json).await,
        }
    }
}

/// What the node says to an apply.
#[derive(Deserialize)]
struct Applied {
    #[serde(default)]
    diff: String,
    next_run_in_seconds: Option<f64>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    blocked: Vec<Blocked>,
}

/// What policies would block of a target.
#[derive(Deserialize)]
struct Blocked {
    target: String,
    reason: String,
}

impl Apply {
    async fn run(self, client: &Client, json: bool) -> Result<(), Error> {
        for recipe in &read_all(&self.files)? {
            let path = format!("/v1/recipes/{}?dry_run={}&abandon={}", recipe.id, self.dry_run, self.abandon);
            let call = Call::new(Method::PUT, path).body("application/yaml", recipe.text.clone());
            let answer = client.call(call).await?;
            if matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
                return Err(Error::Invalid(answer.reason()));
            }
            let body = answer.accepted()?;
            if json {
                render::json(&body)?;
            } else {
                self.say(recipe, &parse(&body)?)?;
            }
        }
        Ok(())
    }

    fn say(&self, recipe: &Recipe, applied: &Applied) -> Result<(), Error> {
        let diff = applied.diff.trim_end();
        if !diff.is_empty() {
            render::line(diff)?;
        }
        applied.warnings.iter().try_for_each(|warning| render::line(&format!("warning: {warning}")))?;
        for Blocked { target, reason } in &applied.blocked {
            render::line(&format!("warning: target `{target}`: events with these fields would be blocked: {reason}"))?;
        }
        if self.dry_run {
            let what = if diff.is_empty() { "nothing would change" } else { "would change as shown" };
            return render::line(&format!("{}: {what} (dry run)", recipe.id));
        }
        render::line(&enabled(recipe.id.as_str(), applied))
    }
}

/// The line that users were promised.
fn enabled(id: &str, applied: &Applied) -> String {
    let when = match applied.next_run_in_seconds {
        _ if applied.paused => "paused".to_owned(),
        Some(seconds) => format!("next run in {}", render::clock(seconds)),
        None => "runs on change".to_owned(),
    };
    format!("✓ Sync recipe {id} enabled  ({when})")
}

/// All the files, or all that is wrong with them.
fn read_all(files: &[PathBuf]) -> Result<Vec<Recipe>, Error> {
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        match read_recipe(file) {
            Ok(recipe) => match recipes.iter().find(|other| other.id == recipe.id) {
                Some(_) => findings.push(format!("{}: recipe {} is given twice", file.display(), recipe.id)),
                None => recipes.push(recipe),
            },
            Err(Error::Invalid(text)) => findings.push(text),
            Err(other) => return Err(other),
        }
    }
    if findings.is_empty() { Ok(recipes) } else { Err(Error::Invalid(findings.join("\n"))) }
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::get("/v1/recipes")).await?;
    if json {
        return render::json(&body);
    }
    let rows: Vec<_> = render::rows(&body, "recipes")?
        .iter()
        .map(|recipe| {
            let [id, state, feed, schedule] =
                ["id", "state", "feed", "schedule"].map(|name| render::cell(recipe, name));
            [id, state, feed, schedule, next_run(recipe).unwrap_or_else(|| "-".to_owned())]
        })
        .collect();
    render::table(["RECIPE", "STATE", "FEED", "SCHEDULE", "NEXT RUN IN"], &rows)
}

fn next_run(recipe: &Value) -> Option<String> {
    recipe.get("next_run_in_seconds").and_then(Value::as_f64).map(render::clock)
}

async fn show(client: &Client, id: &RecipeId, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::get(format!("/v1/recipes/{id}"))).await?;
    if json {
        return render::json(&body);
    }
    let recipe: Value = parse(&body)?;
    let of = |name| render::field(&recipe, name);
    render::fields(&[
        ("recipe", of("id")),
        ("state", of("state")),
        ("feed", of("feed")),
        ("schedule", of("schedule")),
        ("revision", of("revision")),
        ("next run in", next_run(&recipe)),
    ])?;
    let targets = recipe.get("targets").and_then(Value::as_array).cloned().unwrap_or_default();
    let names = ["target", "guarantee", "activity", "checkpoint", "backlog", "in_flight"];
    let rows: Vec<_> = targets.iter().map(|target| names.map(|name| render::cell(target, name))).collect();
    render::line("")?;
    render::table(["TARGET", "GUARANTEE", "ACTIVITY", "CHECKPOINT", "BACKLOG", "IN FLIGHT"], &rows)?;
    for target in &targets {
        if let Some(error) = render::field(target, "last_error") {
            render::line(&format!("\n{}: {error}", render::cell(target, "target")))?;
        }
    }
    Ok(())
}

async fn switch(client: &Client, id: &RecipeId, action: &str, done: &str, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::post(format!("/v1/recipes/{id}/{action}"))).await?;
    if json { render::json(&body) } else { render::line(&format!("{id} {done}")) }
}

async fn delete(client: &Client, id: &RecipeId, abandon: bool, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::new(Method::DELETE, format!("/v1/recipes/{id}?abandon={abandon}"))).await?;
    if json { render::json(&body) } else { render::line(&format!("{id} deleted")) }
}

/// How a run ended for one target.
#[derive(Deserialize)]
struct TargetRun {
    target: String,
    #[serde(default)]
    delivered: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    backlog: u64,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct RunAnswer {
    targets: Vec<TargetRun>,
}

async fn run(client: &Client, id: &RecipeId, no_wait: bool, json: bool) -> Result<(), Error> {
    let call = Call::post(format!("/v1/recipes/{id}/run?wait={}", !no_wait)).within(RUN_DEADLINE);
    let body = client.accepted(call).await?;
    if no_wait {
        return if json { render::json(&body) } else { render::line(&format!("{id} runs")) };
    }
    let answer: RunAnswer = parse(&body)?;
    if json {
        render::json(&body)?;
    } else {
        let width = answer.targets.iter().map(|run| run.target.len()).max().unwrap_or(0);
        answer.targets.iter().try_for_each(|run| render::line(&outcome(run, width)))?;
    }
    match answer.targets.iter().filter(|run| run.has_failed()).count() {
        0 => Ok(()),
        failed => Err(Error::Failed(format!("{failed} of {} targets failed", answer.targets.len()))),
    }
}

impl TargetRun {
    /// Also without an attempt: a target that is held or paused says why.
    fn has_failed(&self) -> bool {
        self.failed > 0 || self.backlog > 0 || self.last_error.is_some()
    }
}

fn outcome(run: &TargetRun, width: usize) -> String {
    let TargetRun { target, delivered, backlog, last_error, .. } = run;
    if !run.has_failed() {
        return format!("✓ {target:width$}  {delivered} delivered, {backlog} waiting");
    }
    let error = last_error.as_deref().unwrap_or("not delivered");
    format!("✗ {target:width$}  {delivered} delivered, {backlog} waiting: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scripted;

    fn applied(next_run_in_seconds: Option<f64>) -> Applied {
        Applied { diff: String::new(), next_run_in_seconds, paused: false, warnings: Vec::new(), blocked: Vec::new() }
    }

    #[test]
    fn apply_says_what_users_were_promised() {
        let line = enabled("vdot.bridge_grant.sync", &applied(Some(59.99)));
        assert_eq!(line, "✓ Sync recipe vdot.bridge_grant.sync enabled  (next run in 00:01:00)");
        assert_eq!(enabled("a", &applied(None)), "✓ Sync recipe a enabled  (runs on change)");
    }

    #[test]
    fn a_failed_target_says_why() {
        let run = TargetRun {
            target: "cobol".to_owned(),
            delivered: 0,
            failed: 1,
            backlog: 3,
            last_error: Some("connection refused".to_owned()),
        };
        assert_eq!(outcome(&run, 8), "✗ cobol     0 delivered, 3 waiting: connection refused");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_all(&[PathBuf::from("/no/such/recipe.yaml")]).expect_err("is not there");
        assert!(error.to_string().contains("/no/such/recipe.yaml"), "{error}");
    }

    #[tokio::test]
    async fn a_run_in_which_a_target_failed_is_a_failure() {
        let good = r#"{"targets":[{"target":"a","delivered":2,"failed":0,"backlog":0,"last_error":null}]}"#;
        let bad = r#"{"targets":[{"target":"a","delivered":0,"failed":1,"backlog":2,"last_error":"refused"}]}"#;
        let (client, requests) = scripted::node(vec![Some((200, good)), Some((200, bad))]);
        let id = RecipeId::parse("a.sync").expect("is a name");
        run(&client, &id, false, false).await.expect("all is delivered");
        let error = run(&client, &id, false, false).await.expect_err("one target failed");
        assert!(matches!(error, Error::Failed(_)), "{error:?}");
        assert_eq!(requests.recv().expect("a request"), "POST /v1/recipes/a.sync/run?wait=true HTTP/1.1\n");
    }
}
