//! The finance department's machine: a real SSH server on loopback that serves one folder over SFTP and lets one key in.
//! It can be taken down and brought up again at the same address, as machines are.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::sftp_fs;

/// A key of the demo's own, gone with the process.
pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()))
}

/// The key as OpenSSH writes it to a file.
pub(crate) fn key_file(key: &PrivateKey) -> io::Result<String> {
    Ok(key.to_openssh(LineEnding::LF).map_err(io::Error::other)?.to_string())
}

/// The server, up or down.
pub(crate) struct SshPartner {
    config: Arc<Config>,
    access: Access,
    address: SocketAddr,
    /// Its line for known_hosts, without the host's name.
    host_key: String,
    running: Option<Running>,
}

/// Who may come in, and what they see.
#[derive(Clone)]
struct Access {
    user: String,
    key: PublicKey,
    folder: PathBuf,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl SshPartner {
    /// Starts it on a free port of loopback.
    pub fn start(folder: &Path, user: &str, key: &PublicKey) -> io::Result<Self> {
        let host_key = new_key();
        let access = Access { user: user.to_owned(), key: key.clone(), folder: folder.to_owned() };
        let mut partner = Self {
            host_key: host_key.public_key().to_openssh().map_err(io::Error::other)?,
            config: Arc::new(config(host_key)),
            access,
            address: ([127, 0, 0, 1], 0).into(),
            running: None,
        };
        partner.up()?;
        Ok(partner)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client's known_hosts says about `host`.
    pub fn known_hosts(&self, host: &str) -> String {
        format!("{host} {}\n", self.host_key)
    }

    /// Listens again, at the address that it had.
    pub fn up(&mut self) -> io::Result<()> {
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (config, access) = (self.config.clone(), self.access.clone());
        let thread = std::thread::Builder::new().name("ssh-partner".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, config, access) => {}
                    _ = stopped => {}
                }
            });
            // The runtime goes, and every connection with it.
        })?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Nobody listens any more, and open connections are cut.
    pub fn down(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for SshPartner {
    fn drop(&mut self) {
        self.down();
    }
}

fn config(host_key: PrivateKey) -> Config {
    Config {
        keys: vec![host_key],
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(200),
        auth_rejection_time_initial: Some(Duration::ZERO),
        nodelay: true,
        ..Config::default()
    }
}

async fn serve(listener: std::net::TcpListener, config: Arc<Config>, access: Access) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let visitor = Visitor { access: access.clone(), channel: None };
        let session = run_stream(config.clone(), stream, visitor);
        // A client that breaks off is its own affair.
        tokio::spawn(async move {
            if let Ok(running) = session.await {
                let _ = running.await;
            }
        });
    }
}

/// One connection.
struct Visitor {
    access: Access,
    channel: Option<Channel<Msg>>,
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let known = user == self.access.user && key.public_key.key_data() == self.access.key.key_data();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), russh::Error> {
        match self.channel.take() {
            Some(channel) if name == "sftp" && channel.id() == id => {
                session.channel_success(id)?;
                russh_sftp::server::run(channel.into_stream(), sftp_fs::Session::new(self.access.folder.clone())).await;
            }
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut russh::server::Session) -> Result<(), russh::Error> {
        session.close(id)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::net::TcpStream;

    use ssh2::{OpenFlags, OpenType, RenameFlags, Session, Sftp};

    use super::*;

    /// With the library that the courier's own adapter stands on. Blocking is fine: the partner has its own thread.
    fn connect(partner: &SshPartner, key: &PrivateKey) -> Result<Sftp, Box<dyn std::error::Error>> {
        let mut session = Session::new()?;
        session.set_tcp_stream(TcpStream::connect(partner.address())?);
        session.set_timeout(10_000);
        session.handshake()?;
        session.userauth_pubkey_memory("sync", None, &key_file(key)?, None)?;
        Ok(session.sftp()?)
    }

    #[test]
    fn rows_are_written_where_the_client_says_and_stay_after_an_outage() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = new_key();
        let mut partner = SshPartner::start(folder.path(), "sync", key.public_key()).expect("starts");
        let flags = OpenFlags::WRITE | OpenFlags::READ;
        let path = Path::new("/rows.csv");

        let sftp = connect(&partner, &key).expect("lets the key in");
        let mut file = sftp.open_mode(path, flags | OpenFlags::CREATE, 0o600, OpenType::File).expect("opens");
        file.write_all(b"one\ntwo\n").expect("writes");
        file.fsync().expect("syncs");

        partner.down();
        assert!(file.stat().is_err(), "open connections are cut");
        assert!(connect(&partner, &key).is_err(), "nobody listens");
        partner.up().expect("the same port");

        let sftp = connect(&partner, &key).expect("lets the key in");
        assert_eq!(sftp.stat(path).expect("is there").size, Some(8));
        let mut file = sftp.open_mode(path, flags, 0, OpenType::File).expect("opens");
        file.seek(SeekFrom::Start(4)).expect("seeks");
        file.write_all(b"TWO\nthree\n").expect("writes");
        file.seek(SeekFrom::Start(0)).expect("seeks");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "one\nTWO\nthree\n");
        drop(file);

        fs::write(folder.path().join("taken.csv"), "").expect("writes");
        let never_over = Some(RenameFlags::empty());
        assert!(sftp.rename(path, Path::new("/taken.csv"), never_over).is_err(), "rename does not overwrite");
        sftp.rename(path, Path::new("/moved.csv"), never_over).expect("the name is free");
        assert!(sftp.stat(path).is_err());
    }

    #[test]
    fn another_key_is_not_let_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let partner = SshPartner::start(folder.path(), "sync", new_key().public_key()).expect("starts");
        assert!(connect(&partner, &new_key()).is_err());
    }
}
