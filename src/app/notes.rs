//! What this machine's configuration and secrets mean for a target, before anything is connected: what can't be
//! found here, and where it will not be let to. Names and places, never values.

use hms_actors::failure::Failure;
use url::Url;

use crate::config::ConnectTo;
use crate::egress::{Egress, Refused, Way};
use crate::recipe::model::{Adapter, Auth, RestTarget, SftpAuth, Target};
use crate::secrets::Secrets;

/// A secret that a target needs: the names under which it is looked for, or why a name may not be used, and the
/// host that is to be given it.
pub(super) struct Wanted {
    pub names: Result<Vec<String>, Failure>,
    host: String,
}

impl Wanted {
    /// Why the target would not be given it here; `None` if it would.
    pub fn problem(&self, secrets: &Secrets) -> Option<String> {
        let found = match &self.names {
            Ok(names) => secrets.find(names, &self.host).map(|_| ()),
            Err(failure) => Err(failure.clone()),
        };
        found.err().map(|failure| failure.message)
    }

    /// The names, if there is nothing under any of them.
    pub fn missing(&self, secrets: &Secrets) -> Vec<String> {
        match &self.names {
            Ok(names) if !secrets.present(names) => names.clone(),
            _ => Vec::new(),
        }
    }
}

/// The secrets of a target.
pub(super) fn wanted(secrets: &Secrets, target: &Target) -> Vec<Wanted> {
    let names = |suffix: &str, explicit: &Option<String>| secrets.names_for(&target.name, suffix, explicit.as_deref());
    match &target.adapter {
        Adapter::Rest(rest) => {
            let of_url = |names| Wanted { names, host: host_of(&rest.url) };
            let auth = rest.auth.as_ref().map(|auth| match auth {
                Auth::ApiKey { secret, .. } => of_url(names("KEY", secret)),
                Auth::Bearer { secret } => of_url(names("TOKEN", secret)),
                Auth::Basic { secret, .. } => of_url(names("PASSWORD", secret)),
                Auth::OAuth2ClientCredentials { secret, token_url, .. } => {
                    Wanted { names: names("CLIENT_SECRET", secret), host: host_of(token_url) }
                }
            });
            let cert = rest.client_cert.is_some().then(|| of_url(names("CERT", &rest.client_cert)));
            auth.into_iter().chain(cert).collect()
        }
        Adapter::Sftp(sftp) => {
            let names = match &sftp.auth {
                SftpAuth::Key { secret } => names("SSH_KEY", &Some(secret.clone())),
                SftpAuth::Password { secret } => names("PASSWORD", secret),
                SftpAuth::Derived => {
                    Ok([Secrets::names(&target.name, "SSH_KEY"), Secrets::names(&target.name, "PASSWORD")].concat())
                }
            };
            vec![Wanted { names, host: sftp.host.clone() }]
        }
        Adapter::File(_) => Vec::new(),
    }
}

/// Why the target's hosts would not be connected to, as far as that can be seen without looking names up.
pub(super) fn refused(egress: &Egress, connect_to: &ConnectTo, target: &Target) -> Option<Refused> {
    let ways = match &target.adapter {
        Adapter::Rest(rest) => urls(rest).filter_map(|url| way_of(url, connect_to)).collect(),
        Adapter::Sftp(sftp) => vec![Way::new(&sftp.host, sftp.port, connect_to)],
        Adapter::File(_) => Vec::new(),
    };
    ways.iter().find_map(|way| egress.at_sight(way).err())
}

fn urls(rest: &RestTarget) -> impl Iterator<Item = &str> {
    let token_url = match &rest.auth {
        Some(Auth::OAuth2ClientCredentials { token_url, .. }) => Some(token_url.as_str()),
        _ => None,
    };
    std::iter::once(rest.url.as_str()).chain(token_url)
}

fn way_of(url: &str, connect_to: &ConnectTo) -> Option<Way> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some(Way::new(&host, url.port_or_known_default()?, connect_to))
}

fn host_of(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
