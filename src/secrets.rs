//! Secrets: where a name is looked for, and which host may be given it. Values are `SecretString`s and
//! appear in no log, error, metric, ticket, audit record or stored byte.

use secrecy::SecretString;

use hms_actors::failure::Failure;
use hms_actors::id::TargetName;

/// The places that secrets come from.
#[derive(Debug, Clone)]
pub struct Secrets {}

/// A secret and the name under which it was found.
#[derive(Debug)]
pub struct Secret {
    pub name: String,
    pub value: SecretString,
}

impl Secrets {
    /// The names under which a target's secret is looked for, in order. `suffix` is `KEY`, `TOKEN`, `PASSWORD`,
    /// `CLIENT_SECRET` or `SSH_KEY`; leading words are dropped one by one while a word is left before the last
    /// word of the suffix: `cobol_finance`, `SSH_KEY` → `COBOL_FINANCE_SSH_KEY`, `FINANCE_SSH_KEY`, `SSH_KEY`;
    /// `vdot_gis`, `KEY` → `VDOT_GIS_KEY`, `GIS_KEY`.
    pub fn names(_target: &TargetName, _suffix: &str) -> Vec<String> {
        Vec::new()
    }

    /// The first of `names` that exists anywhere, if `host` may be given it.
    /// A configuration failure says which names were looked for, and where; never a value.
    pub fn find(&self, _names: &[String], _host: &str) -> Result<Secret, Failure> {
        Err(Failure::configuration("placeholder"))
    }
}
