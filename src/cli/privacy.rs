//! `hms privacy`: the keys that partners' tokens are made with, and the token of a value.

use clap::{Args, Subcommand};
use hms_actors::id::{RecipeId, TargetName};

use super::client::{Call, Connection, parse};
use super::{Error, render};
use crate::admin::views::{
    PrivacyKeyAction, PrivacyKeyList, PrivacyKeyOrder, PrivacyKeyView, PrivacyTokenQuery, PrivacyTokenView,
};

const EXAMPLES: &str = "\
Examples:
  hms privacy key create gis.vdot.gov                          the partner is the host of its targets
  hms privacy key create local.drop.sync/local_drop            ... or recipe/target for local files
  hms privacy key rotate gis.vdot.gov                          what is begun from now on uses the next version
  hms privacy token vdot.bridge_grant.sync vdot_gis ssn 123-45-6789
  hms privacy token vdot.bridge_grant.sync vdot_gis amount_usd 1250.10 --as-json";

/// Keys of partners, and what values become there
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Privacy {
    #[command(subcommand)]
    command: PrivacyCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum PrivacyCommand {
    /// The keys that partners' tokens are made with
    #[command(subcommand)]
    Key(KeyCommand),
    /// What a value becomes at a target; the question is in the audit, the value is not
    Token(Token),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a partner's first key; targets that were held for want of it go on at once
    Create { partner: String },
    /// Make the next version: what was begun is finished with the old one
    Rotate { partner: String },
    /// All versions of all keys, never their bytes
    List,
}

#[derive(Debug, Args)]
struct Token {
    #[arg(value_parser = RecipeId::parse)]
    recipe: RecipeId,
    #[arg(value_parser = TargetName::parse)]
    target: TargetName,
    /// The field, as the feed names it
    field: String,
    /// The value: a text, unless --as-json is given
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The value is JSON, exactly as it was published: a number, a list, a text in quotes
    #[arg(long)]
    as_json: bool,
    /// With this version of the partner's key; the current one if none is given
    #[arg(long, value_name = "N")]
    key_version: Option<u32>,
}

impl Privacy {
    pub async fn run(self) -> Result<(), Error> {
        let connection = &self.connection;
        match self.command {
            PrivacyCommand::Key(KeyCommand::Create { partner }) => {
                make(connection, partner, PrivacyKeyAction::Create).await
            }
            PrivacyCommand::Key(KeyCommand::Rotate { partner }) => {
                make(connection, partner, PrivacyKeyAction::Rotate).await
            }
            PrivacyCommand::Key(KeyCommand::List) => list(connection).await,
            PrivacyCommand::Token(token) => token.find(connection).await,
        }
    }
}

async fn make(connection: &Connection, partner: String, action: PrivacyKeyAction) -> Result<(), Error> {
    let body = json(&PrivacyKeyOrder { partner, action })?;
    let call = Call::post("/v1/privacy/keys").body("application/json", body);
    let answer = connection.client()?.accepted(call).await?;
    if connection.json {
        return render::json(&answer);
    }
    let key: PrivacyKeyView = parse(&answer)?;
    let fingerprint = key.fingerprint.unwrap_or_default();
    render::line(&format!(
        "✓ Key of partner {} made  (version {}, fingerprint {fingerprint})",
        key.partner, key.version
    ))
}

async fn list(connection: &Connection) -> Result<(), Error> {
    let answer = connection.client()?.accepted(Call::get("/v1/privacy/keys")).await?;
    if connection.json {
        return render::json(&answer);
    }
    let keys: PrivacyKeyList = parse(&answer)?;
    let row = |key: &PrivacyKeyView| {
        let state = match (&key.wrong, key.current) {
            (Some(why), _) => why.clone(),
            (None, true) => "current".to_owned(),
            (None, false) => "finishes what was begun".to_owned(),
        };
        [key.partner.clone(), key.version.to_string(), key.fingerprint.clone().unwrap_or_default(), state]
    };
    render::table(["PARTNER", "VERSION", "FINGERPRINT", "STATE"], &keys.keys.iter().map(row).collect::<Vec<_>>())
}

impl Token {
    async fn find(self, connection: &Connection) -> Result<(), Error> {
        let value = if self.as_json { self.value } else { serde_json::Value::from(self.value).to_string() };
        let query = PrivacyTokenQuery {
            recipe: self.recipe.to_string(),
            target: self.target.to_string(),
            field: self.field,
            value,
            version: self.key_version,
        };
        let call = Call::post("/v1/privacy/tokens").body("application/json", json(&query)?);
        let answer = connection.client()?.accepted(call).await?;
        if connection.json {
            return render::json(&answer);
        }
        let found: PrivacyTokenView = parse(&answer)?;
        match (found.becomes, found.goes.as_str()) {
            (Some(text), _) => render::line(&text),
            (None, "clear") => render::line("(it goes as it is)"),
            (None, _) => render::line("(redacted: nothing is told of it)"),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Failed(error.to_string()))
}
