//! From a place in a plan to a live SFTP session: secrets, TCP, handshake, host key, login. Nothing but the
//! handshake goes to a host whose key has not been checked.

use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_ssh2_lite::{AsyncSession, SessionConfiguration};
use hms_actors::failure::Failure;
use hms_actors::receipt::Transport;
use hms_actors::work::Place;
use sha2::{Digest, Sha256};
use ssh2::MethodType;
use tokio::net::TcpStream;

use super::auth::Credential;
use super::classify::{During, failure, has_nothing_in_common};
use super::host::{SftpHost, within};
use super::known_hosts::{KnownHosts, Verdict, fingerprint, name_of};
use super::stream::{Line, Stream};
use super::{SftpContext, SftpPartner};
use crate::approved;
use crate::egress::Way;
use crate::secrets::Fingerprint;

/// A libssh2 call that blocks (closing a handle in a destructor) gives up after this. The line is ended before
/// any such call; this is for the day on which that is forgotten.
const BLOCKING_CALLS: u32 = 1_000;

/// Asked for before all others: where both sides have the instructions for AES it costs each of them the least, the
/// server above all, and the weakness of 2023 by which packets can be cut off (Terrapin) does not concern it.
const FIRST: [&str; 2] = ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com"];

/// With which an RSA key signs a login where only approved algorithms are used.
const SIGNATURES: &str = "rsa-sha2-512,rsa-sha2-256";

/// What libssh2 calls the MAC of a cipher that authenticates by itself.
const INTEGRATED: &str = "INTEGRATED-AES-GCM";

/// The most that is read of a known_hosts file.
const MAX_KNOWN_HOSTS: u64 = 16 * 1024 * 1024;

/// A connection that is being made.
struct Dial<'a> {
    place: &'a Place,
    /// For messages.
    host: String,
    timeout: Duration,
    context: &'a SftpContext,
}

/// What is read from this machine, afresh for each connection.
struct Local {
    known_hosts: KnownHosts,
    credential: Credential,
    made_with: MadeWith,
}

/// Tells whether what a session was made with has changed, without holding any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MadeWith {
    secret: Fingerprint,
    known_hosts: [u8; 32],
}

impl SftpPartner {
    /// A new session with `place`, and the line that ends it.
    pub(super) async fn dial(&self, place: &Place) -> Result<(SftpHost, Rc<Line>), Failure> {
        let host = format!("{}@{}:{}", place.user, place.host, place.port);
        let dial = Dial { place, host, timeout: self.target.timeout, context: &self.context };
        let local = self.read_local(place).await?;
        self.made_with.replace(Some(local.made_with.clone()));
        let (stream, line) = dial.tcp().await?;
        let line = Rc::new(line);
        let mut configuration = SessionConfiguration::new();
        configuration.set_timeout(BLOCKING_CALLS);
        let mut session = AsyncSession::new(stream, configuration).map_err(|e| dial.failed(During::Handshake, &e))?;
        // Made after the session and so dropped before it: a half-made session never holds the thread.
        let guard = line.guard();
        dial.shake_hands(&mut session, &local.known_hosts).await?;
        dial.log_in(&session, &local.credential).await?;
        let transport = agreed(&session);
        let sftp = dial.step(During::OpenSftp, session.sftp()).await?;
        guard.disarm();
        Ok((SftpHost::new(sftp, line.clone(), dial.host, dial.timeout, transport), line))
    }

    /// See [`hms_actors::ports::FilePartner::unchanged`].
    pub(super) async fn is_unchanged(&self, place: &Place) -> bool {
        let now = self.read_local(place).await.map(|local| local.made_with);
        now.is_ok_and(|now| self.made_with.borrow().as_ref() == Some(&now))
    }

    /// Reads secrets and known_hosts away from the arbiter: they may lie on a slow disk.
    async fn read_local(&self, place: &Place) -> Result<Local, Failure> {
        let secrets = Arc::clone(&self.context.secrets);
        let (target, auth) = (self.key.target.clone(), self.target.auth.clone());
        let (known_hosts, host) = (self.context.known_hosts.clone(), place.host.clone());
        let approved_only = self.context.approved_only;
        let read = tokio::task::spawn_blocking(move || {
            let credential = Credential::find(&secrets, &target, &auth, &host)?;
            if approved_only {
                credential.check_approved()?;
            }
            let text = read_known_hosts(&known_hosts)?;
            let made_with = MadeWith { secret: credential.fingerprint(), known_hosts: Sha256::digest(&text).into() };
            Ok(Local { known_hosts: KnownHosts::parse(&text), credential, made_with })
        });
        let late = |_| Failure::node("secrets and known_hosts can't be read: the disk does not answer");
        match tokio::time::timeout(self.target.timeout, read).await.map_err(late)? {
            Ok(local) => local,
            Err(error) => Err(Failure::node(format!("reading secrets and known_hosts: {error}"))),
        }
    }
}

impl Dial<'_> {
    async fn tcp(&self) -> Result<(Stream, Line), Failure> {
        let way = Way::new(&self.place.host, self.place.port, &self.context.connect_to);
        let (host, port) = way.end();
        let found = self.step(During::Connect, self.context.egress.look_up(&way)).await;
        let found = found.map_err(|failure| self.name_detour(failure, host, port))?;
        let permitted = self.context.egress.permit(&way, found)?;
        let connected = self.step(During::Connect, TcpStream::connect(permitted.as_slice())).await;
        let stream = connected.map_err(|failure| self.name_detour(failure, host, port))?;
        Stream::new(stream).map_err(|error| self.failed(During::Connect, &error.into()))
    }

    /// Under `connect_to` it isn't the recipe's host that refused.
    fn name_detour(&self, mut failure: Failure, host: &str, port: u16) -> Failure {
        if (host, port) != (self.place.host.as_str(), self.place.port) {
            failure.message = format!("{} (connect_to leads to {host}:{port})", failure.message);
        }
        failure
    }

    async fn shake_hands(&self, session: &mut AsyncSession<Stream>, known: &KnownHosts) -> Result<(), Failure> {
        let name = name_of(&self.place.host, self.place.port);
        let supported = self.step(During::Handshake, session.supported_algs(MethodType::HostKey)).await?;
        let mut preference = preference(&known.key_types(&name), &supported);
        if self.context.approved_only {
            preference.retain(|method| approved::is_host_key(method));
            for (method, _, approved) in approved::ssh() {
                self.step(During::Handshake, session.method_pref(method, &approved.join(","))).await?;
            }
            self.step(During::Handshake, session.method_pref(MethodType::SignAlgo, SIGNATURES)).await?;
        } else {
            for method in [MethodType::CryptCs, MethodType::CryptSc] {
                let mut ciphers = self.step(During::Handshake, session.supported_algs(method)).await?;
                ciphers.sort_by_key(|cipher| !FIRST.contains(cipher));
                self.step(During::Handshake, session.method_pref(method, &ciphers.join(","))).await?;
            }
        }
        self.step(During::Handshake, session.method_pref(MethodType::HostKey, &preference.join(","))).await?;
        let mut nothing_in_common = false;
        let shaking = async {
            let shaken = session.handshake().await;
            shaken.inspect_err(|error| nothing_in_common = has_nothing_in_common(error))
        };
        let shaken = self.step(During::Handshake, shaking).await;
        if self.context.approved_only {
            self.check_approved(session, &shaken, nothing_in_common)?;
        }
        shaken?;
        let shown = session
            .host_key()
            .ok_or_else(|| Failure::configuration(format!("{}: the server has shown no host key", self.host)))?;
        self.check(&name, shown.0, known.check(&name, shown.0))
    }

    /// What was asked for is not trusted to be what was agreed on.
    fn check_approved(
        &self,
        session: &AsyncSession<Stream>,
        shaken: &Result<(), Failure>,
        nothing_in_common: bool,
    ) -> Result<(), Failure> {
        let host = &self.host;
        if nothing_in_common {
            let offers: Vec<String> =
                approved::ssh()[..3].iter().map(|(_, what, names)| format!("{what}: {}", names.join(" "))).collect();
            return Err(Failure::configuration(format!(
                "{host}: the server offers no approved algorithm (`fips: required` in hms.yaml), or broke off the \
                 exchange of keys. It has to offer one of each: {}. Nothing was sent",
                offers.join("; ")
            )));
        }
        if shaken.is_err() {
            return Ok(());
        }
        for (method, what, approved) in approved::ssh() {
            let agreed = session.methods(method).unwrap_or_default();
            if !approved.contains(&agreed) && agreed != INTEGRATED {
                return Err(Failure::configuration(format!(
                    "{host}: {what} `{agreed}` was agreed on, which is not approved (`fips: required`). Nothing was sent"
                )));
            }
        }
        Ok(())
    }

    /// Refuses every key but the one that the host is known by, in words that say what to do.
    fn check(&self, name: &str, key: &[u8], verdict: Verdict) -> Result<(), Failure> {
        let file = self.context.known_hosts.display();
        let (host, print) = (&self.host, fingerprint(key));
        let why = match verdict {
            Verdict::Known => return Ok(()),
            Verdict::Revoked { line } => {
                format!("its key {print} is marked @revoked in {file}, line {line}")
            }
            Verdict::Changed { line, known_type } => format!(
                "host key changed: {file}, line {line}, knows `{name}` by another key ({known_type}); the server has \
                 shown {print}. If the partner confirms the new key, replace that line"
            ),
            Verdict::AuthorityOnly { line } => format!(
                "only a @cert-authority speaks of `{name}` ({file}, line {line}), and host certificates are not \
                 supported: add the host's own key; the server has shown {print}"
            ),
            Verdict::Unknown => format!(
                "unknown host key: `{name}` is not in {file}. The server has shown {print}; if the partner confirms \
                 that, add it with `ssh-keyscan -p {} {} >> {file}`",
                self.place.port, self.place.host
            ),
        };
        Err(Failure::configuration(format!("{host}: {why}. Nothing was sent")))
    }

    async fn log_in(&self, session: &AsyncSession<Stream>, credential: &Credential) -> Result<(), Failure> {
        let during = During::Login { secret: credential.name() };
        self.step(during, credential.log_in(session, &self.place.user)).await?;
        if session.authenticated() {
            return Ok(());
        }
        Err(Failure::configuration(format!("{}: the server wants more than secret `{}`", self.host, credential.name())))
    }

    async fn step<T, E: Into<async_ssh2_lite::Error>>(
        &self,
        during: During<'_>,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        within(self.timeout, &self.host, during, operation).await
    }

    fn failed(&self, during: During<'_>, error: &async_ssh2_lite::Error) -> Failure {
        failure(&self.host, during, error)
    }
}

/// Key exchange, host key, cipher and MAC of a session, the last two as they are towards the server. A cipher that
/// authenticates by itself has no MAC.
fn agreed(session: &AsyncSession<Stream>) -> Transport {
    let methods = [MethodType::Kex, MethodType::HostKey, MethodType::CryptCs, MethodType::MacCs];
    let names: Vec<&str> =
        methods.into_iter().filter_map(|method| session.methods(method)).filter(|name| *name != INTEGRATED).collect();
    Transport { protocol: "ssh", algorithms: names.join(" ").into() }
}

/// A file that isn't there knows nobody.
fn read_known_hosts(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_KNOWN_HOSTS).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::configuration(format!("known_hosts `{}` can't be read: {error}", path.display())))
        }
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The order in which host keys are asked for: the known types first. SHA-1 signatures and certificates, which
/// we could not check, are left out.
fn preference<'a>(known_types: &[String], supported: &[&'a str]) -> Vec<&'a str> {
    let family = |method: &'a str| if method.starts_with("rsa-sha2-") { "ssh-rsa" } else { method };
    let usable = |method: &&&str| !matches!(**method, "ssh-rsa" | "ssh-dss") && !method.contains("-cert-");
    let mut methods: Vec<&str> = supported.iter().filter(usable).copied().collect();
    methods.sort_by_key(|method| !known_types.iter().any(|known| known == family(method)));
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_of_host_keys_are_asked_for_first() {
        let supported =
            ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "ssh-rsa", "ssh-ed25519-cert-v01@openssh.com"];
        let order = |known: &[&str]| {
            let known: Vec<String> = known.iter().map(|known| (*known).to_owned()).collect();
            preference(&known, &supported).join(",")
        };
        assert_eq!(order(&["ssh-rsa"]), "rsa-sha2-512,ssh-ed25519,ecdsa-sha2-nistp256");
        assert_eq!(order(&["ecdsa-sha2-nistp256"]), "ecdsa-sha2-nistp256,ssh-ed25519,rsa-sha2-512");
        assert_eq!(order(&[]), "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512");
    }
}
