//! SFTP under the contract, and what only a server or its keys can do wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use hms_actors::failure::{Failure, FailureKind};
use hms_actors::id::Timestamp;
use hms_actors::ports::{FileHost, FilePartner, Synced, WriteTo};
use hms_sync::adapters::sftp::{SftpContext, SftpPartner};
use hms_sync::config::ConnectTo;
use hms_sync::egress::Egress;
use hms_sync::recipe::model::{SftpAuth, SftpTarget};
use hms_sync::secrets::Secrets;

use crate::contract::{Site, check_contract, file_target, key, shape};
use crate::sshd::Sshd;

pub const HOST: &str = "finance.state.vt.gov";

/// What a test changes before it connects.
pub struct Setup {
    pub target: SftpTarget,
    pub known_hosts: String,
    pub secrets: Vec<(String, String)>,
    pub connect_to: ConnectTo,
    pub egress: Egress,
    pub approved_only: bool,
}

impl Setup {
    /// Everything right: the recipe's host, reached through `connect_to`, known by its own name.
    pub fn of(sshd: &Sshd) -> Self {
        let user = whoami();
        let timeout = Duration::from_secs(20);
        let auth = SftpAuth::Derived;
        Self {
            target: SftpTarget { host: HOST.into(), port: 22, user, timeout, auth, file: file_target() },
            known_hosts: sshd.known_as(HOST, "ed25519"),
            secrets: vec![("FINANCE_SSH_KEY".into(), sshd.read("client"))],
            connect_to: ConnectTo(BTreeMap::from([((HOST.into(), 22), ("127.0.0.1".into(), sshd.port))])),
            egress: Egress::new(None, true, Arc::default()),
            approved_only: false,
        }
    }

    pub fn partner(&self, sshd: &Sshd) -> SftpPartner {
        let known_hosts = sshd.path("known_hosts");
        std::fs::write(&known_hosts, &self.known_hosts).unwrap();
        let secrets = Arc::new(Secrets::new(self.secrets.clone(), None, BTreeMap::new()));
        let egress = self.egress.clone();
        let (connect_to, approved_only) = (self.connect_to.clone(), self.approved_only);
        let context = SftpContext { secrets, connect_to, egress, approved_only, known_hosts };
        let path = sshd.path("grants.csv").display().to_string();
        SftpPartner::new(key("cobol_finance"), &self.target, shape(), Box::new(move |_, _| path.clone()), context)
    }

    async fn fails(&self, sshd: &Sshd) -> Failure {
        connect(&self.partner(sshd)).await.err().expect("it has connected")
    }

    /// A configuration failure with these words in it.
    async fn is_refused(&self, sshd: &Sshd, words: &[&str]) {
        let failure = self.fails(sshd).await;
        assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true), "{failure}");
        for word in words {
            assert!(failure.message.contains(word), "`{word}` is missing: {failure}");
        }
    }
}

fn whoami() -> String {
    let told = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

pub async fn connect(partner: &SftpPartner) -> Result<Box<dyn FileHost>, Failure> {
    partner.connect(&partner.place(Timestamp(0), (0, 0)).unwrap()).await
}

fn site() -> Site {
    let sshd = Sshd::start();
    let partner = Box::new(Setup::of(&sshd).partner(&sshd));
    Site { partner, folder: sshd.folder.path().into(), _keep: Box::new(sshd) }
}

check_contract!(site());

/// Nobody tried to log in.
fn nothing_was_sent_to(sshd: &Sshd) {
    let log = sshd.log();
    assert!(log.contains("Connection from") && !log.contains("userauth-request"), "{log}");
}

#[tokio::test]
async fn an_unknown_host_is_refused_with_its_fingerprint_and_the_line_that_adds_it() {
    let sshd = Sshd::start();
    let setup = Setup { known_hosts: sshd.known_as("127.0.0.1", "ed25519"), ..Setup::of(&sshd) };
    let file = sshd.path("known_hosts").display().to_string();
    setup.is_refused(&sshd, &["SHA256:", &file, &format!("ssh-keyscan -p 22 {HOST} >> {file}")]).await;
    nothing_was_sent_to(&sshd);
}

#[tokio::test]
async fn a_changed_host_key_is_refused() {
    let sshd = Sshd::start();
    sshd.another_key("");
    let setup = Setup { known_hosts: format!("{HOST} {}", sshd.read("another.pub")), ..Setup::of(&sshd) };
    setup.is_refused(&sshd, &["host key changed", "line 1", "SHA256:"]).await;
    nothing_was_sent_to(&sshd);
}

#[tokio::test]
async fn a_revoked_host_key_is_refused_though_it_is_listed() {
    let sshd = Sshd::start();
    let both = sshd.known_as(HOST, "ed25519") + &sshd.known_as("@revoked *", "ed25519");
    Setup { known_hosts: both, ..Setup::of(&sshd) }.is_refused(&sshd, &["@revoked", "line 2"]).await;
    nothing_was_sent_to(&sshd);
}

#[tokio::test]
async fn a_certificate_authority_alone_is_refused_in_words() {
    let sshd = Sshd::start();
    let authority = sshd.known_as("@cert-authority *", "ed25519");
    Setup { known_hosts: authority, ..Setup::of(&sshd) }.is_refused(&sshd, &["@cert-authority", "not supported"]).await;
    nothing_was_sent_to(&sshd);
}

#[tokio::test]
async fn a_host_with_several_keys_is_asked_for_the_one_that_is_known() {
    let sshd = Sshd::start();
    let setup = Setup { known_hosts: sshd.known_as(HOST, "ecdsa"), ..Setup::of(&sshd) };
    assert!(connect(&setup.partner(&sshd)).await.is_ok());
}

#[tokio::test]
async fn a_port_other_than_22_is_part_of_the_name() {
    let sshd = Sshd::start();
    let mut setup = Setup::of(&sshd);
    setup.target.host = "127.0.0.1".into();
    setup.target.port = sshd.port;
    setup.known_hosts = sshd.known_as("127.0.0.1", "ed25519");
    setup.is_refused(&sshd, &[&format!("`[127.0.0.1]:{}` is not in", sshd.port)]).await;
    setup.known_hosts = sshd.known_as(&format!("[127.0.0.1]:{}", sshd.port), "ed25519");
    assert!(connect(&setup.partner(&sshd)).await.is_ok());
}

#[tokio::test]
async fn a_mended_known_hosts_file_helps_without_a_restart() {
    let sshd = Sshd::start();
    let partner = Setup { known_hosts: String::new(), ..Setup::of(&sshd) }.partner(&sshd);
    assert!(connect(&partner).await.is_err());
    std::fs::write(sshd.path("known_hosts"), sshd.known_as(HOST, "ed25519")).unwrap();
    assert!(connect(&partner).await.is_ok());
}

#[tokio::test]
async fn a_changed_known_hosts_file_or_key_means_another_connection() {
    let sshd = Sshd::start();
    let mut setup = Setup::of(&sshd);
    let secret = sshd.path("SSH_KEY");
    let (_, key) = setup.secrets.remove(0);
    std::fs::write(&secret, key).unwrap();
    setup.secrets = vec![("SSH_KEY_FILE".into(), secret.display().to_string())];
    let partner = setup.partner(&sshd);
    let place = partner.place(Timestamp(0), (0, 0)).unwrap();
    assert!(connect(&partner).await.is_ok());
    assert!(partner.unchanged(&place).await);
    std::fs::write(sshd.path("known_hosts"), format!("# new\n{}", sshd.known_as(HOST, "ed25519"))).unwrap();
    assert!(!partner.unchanged(&place).await);
    assert!(connect(&partner).await.is_ok());
    assert!(partner.unchanged(&place).await);
    std::fs::write(&secret, sshd.another_key("")).unwrap();
    assert!(!partner.unchanged(&place).await);
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_names_user_and_secret() {
    let sshd = Sshd::start();
    let mut setup = Setup::of(&sshd);
    setup.secrets = vec![("SSH_KEY".into(), sshd.another_key(""))];
    let user = format!("{}@{HOST}:22", setup.target.user);
    setup.is_refused(&sshd, &["secret `SSH_KEY`", &user]).await;
}

#[tokio::test]
async fn a_key_with_a_passphrase_or_no_key_at_all_is_refused_in_words() {
    let sshd = Sshd::start();
    let mut setup = Setup::of(&sshd);
    setup.secrets = vec![("SSH_KEY".into(), sshd.another_key("a passphrase"))];
    setup.is_refused(&sshd, &["`SSH_KEY`", "passphrase, which is not supported"]).await;
    setup.secrets = vec![("SSH_KEY".into(), "s3cret, but not a key".into())];
    setup.is_refused(&sshd, &["`SSH_KEY` is not a private key"]).await;
    assert!(!setup.fails(&sshd).await.message.contains("s3cret"));
}

#[tokio::test]
async fn a_missing_secret_is_named_and_no_connection_is_made() {
    let sshd = Sshd::start();
    let mut setup = Setup { secrets: Vec::new(), ..Setup::of(&sshd) };
    setup.is_refused(&sshd, &["COBOL_FINANCE_SSH_KEY", "SSH_KEY", "FINANCE_PASSWORD"]).await;
    setup.target.auth = SftpAuth::Password { secret: None };
    setup.is_refused(&sshd, &["COBOL_FINANCE_PASSWORD or FINANCE_PASSWORD"]).await;
    assert!(!sshd.path("sshd.log").exists());
}

#[tokio::test]
async fn a_wrong_password_names_the_secret_and_never_its_value() {
    let sshd = Sshd::start();
    let mut setup = Setup::of(&sshd);
    setup.secrets = vec![("FINANCE_PASSWORD".into(), "s3cret".into())];
    setup.is_refused(&sshd, &["secret `FINANCE_PASSWORD`"]).await;
    let shown = format!("{:?}{}", setup.fails(&sshd).await, sshd.log());
    assert!(shown.contains("userauth-request") && !shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn a_server_without_sftp_is_for_somebody_to_mend() {
    let sshd = Sshd::with("");
    Setup::of(&sshd).is_refused(&sshd, &["does not offer SFTP"]).await;
}

#[tokio::test]
async fn a_server_that_does_not_sync_is_written_to_all_the_same_and_it_says_so() {
    let sshd = Sshd::with("Subsystem sftp internal-sftp -P fsync");
    let mut host = connect(&Setup::of(&sshd).partner(&sshd)).await.unwrap();
    let path = sshd.path("x.csv").display().to_string();
    assert_eq!(host.write(&path, 0, b"a,1\n", WriteTo::Fresh).await, Ok(Synced(false)));
    assert_eq!(host.rename(&path, &sshd.path("y.csv").display().to_string()).await, Ok(()));
    assert_eq!(sshd.read("y.csv"), "a,1\n");
}

#[tokio::test]
async fn a_closed_port_is_an_outage_and_says_where_connect_to_led() {
    let sshd = Sshd::start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let connect_to = ConnectTo(BTreeMap::from([((HOST.into(), 22), ("127.0.0.1".into(), closed))]));
    let failure = Setup { connect_to, ..Setup::of(&sshd) }.fails(&sshd).await;
    assert_eq!((failure.kind, failure.definite), (FailureKind::Transient, true));
    assert!(failure.message.contains("refused") && failure.message.contains("connect_to"), "{failure}");
}

#[tokio::test]
async fn a_folder_without_permission_is_for_somebody_to_mend() {
    let sshd = Sshd::start();
    let folder = sshd.path("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut setup = Setup::of(&sshd);
    if setup.target.user == "root" {
        setup.target.user = "nobody".into();
    }
    let mut host = connect(&setup.partner(&sshd)).await.unwrap();
    let path = folder.join("x.csv").display().to_string();
    let failure = host.write(&path, 0, b"a", WriteTo::Fresh).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true));
    assert!(failure.message.contains("permission denied") && failure.message.contains(&path), "{failure}");
}

#[tokio::test]
async fn a_new_connection_ends_the_one_before_and_an_error_ends_its_own() {
    let sshd = Sshd::start();
    let partner = Setup::of(&sshd).partner(&sshd);
    let mut first = connect(&partner).await.unwrap();
    assert_eq!(first.length("/nonexistent").await, Ok(None));
    let mut second = connect(&partner).await.unwrap();
    assert!(first.length("/nonexistent").await.unwrap_err().message.contains("was closed"));
    assert!(second.read("/nonexistent", 0, 1).await.is_err());
    assert!(second.length("/nonexistent").await.unwrap_err().message.contains("was closed"));
}

#[tokio::test]
async fn this_machine_is_no_host_of_a_recipe_unless_the_operator_leads_there() {
    let sshd = Sshd::start();
    let strict = Egress::new(None, false, Arc::default());
    let mut setup = Setup { egress: strict.clone(), ..Setup::of(&sshd) };
    assert!(connect(&setup.partner(&sshd)).await.is_ok(), "`connect_to` leads to exactly this address and port");
    setup.connect_to = ConnectTo::default();
    setup.target.port = sshd.port;
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "::ffff:127.0.0.1"] {
        setup.target.host = host.into();
        setup.is_refused(&sshd, &[host, "a loopback address", "`egress:"]).await;
    }
    assert_eq!(sshd.log().matches("Connection from").count(), 1);
}

/// A setup with `fips: required`, keys that are approved, and a server with these settings.
fn approved_only(setting: &str) -> (Sshd, Setup) {
    let sshd = Sshd::with(&format!("Subsystem sftp internal-sftp\n{setting}"));
    let secrets = vec![("FINANCE_SSH_KEY".to_owned(), sshd.ecdsa_client())];
    let setup = Setup { approved_only: true, known_hosts: sshd.known_as(HOST, "ecdsa"), secrets, ..Setup::of(&sshd) };
    (sshd, setup)
}

#[tokio::test]
async fn approved_algorithms_alone_are_enough_for_an_ordinary_server() {
    for setting in ["", "Ciphers aes256-ctr\nMACs hmac-sha2-256", "KexAlgorithms ecdh-sha2-nistp384"] {
        let (sshd, setup) = approved_only(setting);
        let mut host = connect(&setup.partner(&sshd)).await.unwrap_or_else(|failure| panic!("{setting}: {failure}"));
        assert_eq!(host.length("/nonexistent").await, Ok(None), "{setting}");
        let agreed = host.transport().expect("a session is protected");
        assert!(agreed.protocol == "ssh" && agreed.algorithms.contains("ecdsa-sha2-nistp256"), "{agreed:?}");
        let wanted = setting.split_whitespace().nth(1).unwrap_or("ecdh-sha2-nistp256");
        assert!(agreed.algorithms.contains(wanted), "{agreed:?}");
    }
}

#[tokio::test]
async fn of_the_ciphers_that_a_server_offers_the_cheapest_is_taken() {
    for (setting, cipher) in [
        ("", "aes256-gcm@openssh.com"),
        ("\nCiphers chacha20-poly1305@openssh.com,aes128-gcm@openssh.com", "aes128-gcm@openssh.com"),
        ("\nCiphers chacha20-poly1305@openssh.com,aes256-ctr", "chacha20-poly1305@openssh.com"),
        ("\nCiphers aes256-ctr", "aes256-ctr"),
    ] {
        let sshd = Sshd::with(&format!("Subsystem sftp internal-sftp{setting}"));
        let host = connect(&Setup::of(&sshd).partner(&sshd)).await.unwrap();
        let agreed = host.transport().expect("a session is protected").algorithms;
        assert!(agreed.split(' ').any(|name| name == cipher), "{setting}: {agreed}");
    }
}

#[tokio::test]
async fn a_server_without_approved_algorithms_is_refused_in_words() {
    for setting in [
        "KexAlgorithms curve25519-sha256",
        "Ciphers chacha20-poly1305@openssh.com",
        "Ciphers aes256-ctr\nMACs hmac-sha1",
        "HostKeyAlgorithms ssh-ed25519",
    ] {
        let (sshd, setup) = approved_only(setting);
        setup.is_refused(&sshd, &["no approved algorithm", "`fips: required`", "ecdh-sha2-nistp256"]).await;
        nothing_was_sent_to(&sshd);
        let ordinary = Setup { approved_only: false, known_hosts: sshd.known_as(HOST, "ed25519"), ..setup };
        if setting.starts_with("Kex") || setting.starts_with("Host") || setting.contains("chacha") {
            assert!(connect(&ordinary.partner(&sshd)).await.is_ok(), "{setting} is enough without `fips: required`");
        }
    }
}

#[tokio::test]
async fn a_login_key_that_is_not_approved_is_refused_before_a_connection() {
    let (sshd, mut setup) = approved_only("");
    setup.secrets = vec![("FINANCE_SSH_KEY".into(), sshd.read("client"))];
    setup.is_refused(&sshd, &["`FINANCE_SSH_KEY` is an Ed25519 key", "ECDSA or RSA"]).await;
    assert!(!sshd.path("sshd.log").exists());
}

#[tokio::test]
async fn a_host_key_is_rotated_by_adding_the_new_one() {
    let sshd = Sshd::start();
    sshd.another_key("");
    let (old, new) = (sshd.known_as(HOST, "ed25519"), format!("{HOST} {}", sshd.read("another.pub")));
    for known_hosts in [format!("{old}{new}"), format!("{new}{old}")] {
        let setup = Setup { known_hosts, ..Setup::of(&sshd) };
        assert!(connect(&setup.partner(&sshd)).await.is_ok());
    }
    let replaced = Setup { known_hosts: new, ..Setup::of(&sshd) };
    replaced.is_refused(&sshd, &["host key changed"]).await;
}
