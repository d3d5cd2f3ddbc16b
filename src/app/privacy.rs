//! Keys of partners and tokens of values, as operators ask for them. Who asked is in the audit; values are not.

use std::collections::BTreeMap;

use hms_actors::id::{RecipeId, TargetKey, TargetName};
use serde_json::value::RawValue;

use super::endpoint::{Endpoint, Result};
use super::shapes::failed;
use crate::admin::AdminError;
use crate::admin::views::{PrivacyKeyAction, PrivacyKeyOrder, PrivacyKeyView, PrivacyTokenQuery, PrivacyTokenView};
use crate::privacy::keys::{KeyInfo, NotMade};
use crate::privacy::{self, Cover, Way};
use crate::recipe::model::Protection;

impl Endpoint {
    pub(super) async fn keys_of_partners(&self) -> Result<Vec<PrivacyKeyView>> {
        let keys = self.world.keys.clone();
        let listed = tokio::task::spawn_blocking(move || keys.list()).await;
        let listed = listed.map_err(|error| AdminError::internal(error.to_string()))?.map_err(failed)?;
        Ok(listed.into_iter().map(view).collect())
    }

    pub(super) async fn make_key(&self, order: PrivacyKeyOrder, by: &str) -> Result<PrivacyKeyView> {
        let PrivacyKeyOrder { partner, action } = order;
        let keys = self.world.keys.clone();
        let make = move || match action {
            PrivacyKeyAction::Create => keys.create(&partner),
            PrivacyKeyAction::Rotate => keys.rotate(&partner),
        };
        let made = tokio::task::spawn_blocking(make).await;
        let made = made.map_err(|error| AdminError::internal(error.to_string()))?.map_err(|error| match error {
            NotMade::Name(why) => AdminError::invalid(why),
            NotMade::Exists(why) => AdminError::conflict(why),
            NotMade::Missing(why) => AdminError::not_found(why),
            NotMade::Failed(failure) => failed(failure),
        })?;
        let word = if action == PrivacyKeyAction::Create { "create_privacy_key" } else { "rotate_privacy_key" };
        let fingerprint = made.fingerprint.clone().unwrap_or_default();
        let details =
            [("partner", made.partner.clone()), ("version", made.version.to_string()), ("fingerprint", fingerprint)];
        self.note(word, by, details).await?;
        if action == PrivacyKeyAction::Create {
            // What was held for want of it goes at once.
            self.operations.start_all().await;
        }
        Ok(view(made))
    }

    pub(super) async fn token_of(&self, query: PrivacyTokenQuery, by: &str) -> Result<PrivacyTokenView> {
        let wrong = |_| AdminError::invalid("`recipe` and `target` are names");
        let key = TargetKey {
            recipe: RecipeId::parse(&query.recipe).map_err(wrong)?,
            target: TargetName::parse(&query.target).map_err(wrong)?,
        };
        let recipe = self.world.current(&self.stored(&key.recipe)?).map_err(failed)?;
        let target = recipe.targets.iter().find(|target| target.name == key.target);
        let target = target.ok_or_else(|| AdminError::not_found(format!("there is no target {key}")))?;
        let json: &RawValue = serde_json::from_str(&query.value)
            .map_err(|_| AdminError::invalid("`value` is no JSON: a text stands in quotes"))?;
        let (partner, way) =
            (privacy::partner(&key, target), self.world.treatments(&recipe, target).of(&query.field).way);
        let details =
            [("recipe", query.recipe.clone()), ("target", query.target.clone()), ("field", query.field.clone())];
        self.note("privacy_token", by, details).await?;
        let goes = way.word().to_owned();
        let Way::Protected(how) = way else {
            return Ok(PrivacyTokenView { partner, version: None, goes, becomes: None });
        };
        let opened = match how {
            Protection::Redact | Protection::Last4 => None,
            Protection::Token | Protection::Ff1 => {
                let version = query.version.map_or_else(|| self.world.keys.current(&partner), Ok).map_err(failed)?;
                Some(self.world.keys.get(&partner, version).map_err(failed)?)
            }
        };
        let version = opened.as_ref().map(|key| key.version());
        let becomes = match privacy::cover(how, json.get(), opened.as_deref()).map_err(AdminError::invalid)? {
            Cover::Text(text) => Some(text),
            Cover::Nothing => None,
        };
        Ok(PrivacyTokenView { partner, version, goes, becomes })
    }

    async fn note(&self, action: &str, by: &str, details: [(&str, String); 3]) -> Result<()> {
        let details: BTreeMap<String, String> = details.map(|(name, value)| (name.to_owned(), value)).into();
        self.world.store.operator(action, by, details).await.map_err(failed)
    }
}

fn view(key: KeyInfo) -> PrivacyKeyView {
    let KeyInfo { partner, version, current, fingerprint, wrong } = key;
    PrivacyKeyView { partner, version, current, fingerprint, wrong }
}
