//! What the demo plays on: a temporary folder with keys, secrets and the node's configuration, and the two partners.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Trouble;
use super::http_partner::HttpPartner;
use super::ssh_partner::{SshPartner, key_file, new_key};

pub(crate) const GIS: &str = "gis.vdot.gov";
pub(crate) const COBOL: &str = "finance.state.vt.gov";
/// The recipe of the walk-through, as it stands in the repository.
const RECIPE: &str = include_str!("../../recipes/vdot.bridge_grant.sync.yaml");
/// Its file in the demo's folder.
pub(crate) const RECIPE_FILE: &str = "vdot.bridge_grant.sync.yaml";

pub(crate) struct Stage {
    folder: TempDir,
    pub gis: HttpPartner,
    pub cobol: SshPartner,
}

impl Stage {
    pub fn set() -> Result<Self, Trouble> {
        let folder = tempfile::Builder::new().prefix("hms-demo-").tempdir()?;
        let path = folder.path();
        for name in ["secrets", "cobol", "cobol/inbox"] {
            fs::create_dir(path.join(name))?;
        }
        let api_key = uuid::Uuid::new_v4().to_string();
        let ssh_key = new_key();
        let gis = HttpPartner::start(GIS, &api_key)?;
        let cobol = SshPartner::start(&path.join("cobol"), "sync", ssh_key.public_key())?;
        write_private(&path.join("secrets/VDOT_GIS_KEY"), &api_key)?;
        write_private(&path.join("secrets/COBOL_FINANCE_SSH_KEY"), &key_file(&ssh_key)?)?;
        fs::write(path.join("ca.pem"), gis.authority())?;
        fs::write(path.join("known_hosts"), cobol.known_hosts(COBOL))?;
        fs::write(path.join(RECIPE_FILE), RECIPE)?;
        fs::write(path.join("hms.yaml"), settings(&gis, &cobol))?;
        Ok(Self { folder, gis, cobol })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The rows that the finance department has, in the order of the file.
    pub fn rows(&self) -> Result<Vec<String>, Trouble> {
        let mut rows = Vec::new();
        for file in self.files()? {
            rows.extend(fs::read_to_string(file)?.lines().map(str::to_owned));
        }
        Ok(rows)
    }

    /// Its files, oldest first: there are two if midnight passes meanwhile.
    pub fn files(&self) -> Result<Vec<PathBuf>, Trouble> {
        let entries = fs::read_dir(self.folder().join("cobol/inbox"))?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
        files.sort();
        Ok(files)
    }
}

/// `connect_to` leads the recipe's real names to this machine; certificates and host keys are checked for those names.
fn settings(gis: &HttpPartner, cobol: &SshPartner) -> String {
    format!(
        "data_dir: ./data\n\
         connect_to:\n  {GIS}:443: {}\n  {COBOL}:22: {}\n\
         tls_ca_file: ./ca.pem\n\
         known_hosts: ./known_hosts\n\
         secrets_dir: ./secrets\n",
        gis.address(),
        cobol.address()
    )
}

/// Writes a file that only this user may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
