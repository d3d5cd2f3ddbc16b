//! What a target's values go through: its treatments, with the keys of its partner.

use std::sync::Arc;

use hms_actors::event::Event;
use hms_actors::failure::Failure;
use hms_actors::id::TargetKey;

use super::keys::{Key, Keys};
use super::treatment::{Treatments, Way};
use super::value::{Cover, cover};
use crate::recipe::model::{Adapter, Target};

/// Whose key protects a target's values: its host, or the target itself for local files.
pub fn partner(key: &TargetKey, target: &Target) -> String {
    match &target.adapter {
        Adapter::Rest(rest) => host(&rest.url).unwrap_or_else(|| key.to_string()),
        Adapter::Sftp(sftp) => sftp.host.to_ascii_lowercase(),
        Adapter::File(_) => key.to_string(),
    }
}

fn host(url: &str) -> Option<String> {
    // A field stands in path or query alone.
    let end = url.find('{').unwrap_or(url.len());
    Some(url::Url::parse(&url[..end]).ok()?.host_str()?.to_ascii_lowercase())
}

/// Guards one target.
#[derive(Debug, Clone)]
pub struct Guard {
    treatments: Arc<Treatments>,
    partner: String,
    keys: Arc<Keys>,
    protects: bool,
    needs_key: bool,
}

impl Guard {
    pub fn new(treatments: Treatments, partner: String, keys: Arc<Keys>) -> Self {
        let (protects, needs_key) = (treatments.protects(), treatments.needs_key());
        Self { treatments: Arc::new(treatments), partner, keys, protects, needs_key }
    }

    pub fn treatments(&self) -> &Treatments {
        &self.treatments
    }

    /// The version of the key that new work begins with; 0 where none is needed.
    pub fn seal(&self) -> Result<u32, Failure> {
        if self.needs_key { self.keys.current(&self.partner) } else { Ok(0) }
    }

    /// Takes the key out, once for many values. Seal 0 is today's: of work that began when no key was needed.
    pub fn open(&self, seal: u32) -> Result<Option<Opened<'_>>, Failure> {
        if !self.protects {
            return Ok(None);
        }
        let key = match (self.needs_key, seal) {
            (false, _) => None,
            (true, 0) => Some(self.keys.get(&self.partner, self.keys.current(&self.partner)?)?),
            (true, version) => Some(self.keys.get(&self.partner, version)?),
        };
        Ok(Some(Opened { treatments: &self.treatments, key }))
    }
}

/// A guard with its key.
#[derive(Debug)]
pub struct Opened<'a> {
    treatments: &'a Treatments,
    key: Option<Arc<Key>>,
}

impl Opened<'_> {
    /// What goes in the place of a value (`json`, as it was published); `None` if it goes as it is. A null is none.
    /// Refused: a value that can't be protected as it should be.
    pub fn cover(&self, event: &Event, field: &str, json: &str) -> Result<Option<Cover>, Failure> {
        match self.treatments.of(field).way {
            Way::Protected(how) if json != "null" => match cover(how, json, self.key.as_deref()) {
                Ok(cover) => Ok(Some(cover)),
                Err(why) => Err(Failure::refused(format!("event `{}`, field `{field}`: {why}", event.id))),
            },
            Way::Protected(_) | Way::Clear => Ok(None),
        }
    }
}
