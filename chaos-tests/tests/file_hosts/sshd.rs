//! A real OpenSSH server on loopback. Every connection gets an `sshd -i` of its own, started here: no port is
//! raced for, and the processes of a session are known and can be stopped.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

pub struct Sshd {
    pub port: u16,
    pub folder: tempfile::TempDir,
    sessions: Arc<Mutex<Vec<Child>>>,
}

impl Sshd {
    pub fn start() -> Self {
        Self::with("Subsystem sftp internal-sftp")
    }

    /// With another last line of its configuration.
    pub fn with(setting: &str) -> Self {
        let program = program();
        let folder = tempfile::tempdir().unwrap();
        // Users that are not us must be able to come in.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // Where sshd drops its privileges; it refuses to start without.
        let _ = std::fs::create_dir_all("/run/sshd");
        generate(folder.path(), "ed25519", "host_ed25519", "");
        generate(folder.path(), "ecdsa", "host_ecdsa", "");
        generate(folder.path(), "ed25519", "client", "");
        std::fs::copy(folder.path().join("client.pub"), folder.path().join("authorized_keys")).unwrap();
        configure(folder.path(), setting);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sessions = Arc::<Mutex<Vec<Child>>>::default();
        let (path, children) = (folder.path().to_owned(), Arc::downgrade(&sessions));
        std::thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                let Some(children) = children.upgrade() else { break };
                children.lock().unwrap().push(serve(&program, &path, connection));
            }
        });
        Self { port, folder, sessions }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// A line of known_hosts with the host's own key of a type.
    pub fn known_as(&self, name: &str, key_type: &str) -> String {
        format!("{name} {}", self.read(&format!("host_{key_type}.pub")))
    }

    /// A fresh key pair; the private half.
    pub fn another_key(&self, passphrase: &str) -> String {
        generate(self.folder.path(), "ed25519", "another", passphrase);
        self.read("another")
    }

    /// A key of another kind that the server knows as well; the private half.
    pub fn ecdsa_client(&self) -> String {
        generate(self.folder.path(), "ecdsa", "client_ecdsa", "");
        let both = self.read("client.pub") + &self.read("client_ecdsa.pub");
        std::fs::write(self.path("authorized_keys"), both).unwrap();
        self.read("client_ecdsa")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.read("sshd.log")
    }

    /// Sends a signal to the processes of all sessions.
    pub fn signal(&self, signal: &str) {
        for session in self.sessions.lock().unwrap().iter() {
            for process in family(session.id()) {
                // Fails for one that has ended meanwhile.
                let _ = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).output();
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.signal("KILL");
        for session in self.sessions.lock().unwrap().iter_mut() {
            let _ = session.wait();
        }
        // Wakes the thread that accepts; it finds nobody to serve for.
        self.sessions = Arc::default();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn program() -> PathBuf {
    let known = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from);
    known.into_iter().find(|path| path.exists()).expect("no sshd here: install OpenSSH's server (openssh-server)")
}

fn generate(folder: &Path, key_type: &str, name: &str, passphrase: &str) {
    let arguments = ["-q", "-t", key_type, "-N", passphrase, "-C", "", "-f", name];
    let made = Command::new("ssh-keygen").args(arguments).current_dir(folder).status().unwrap();
    assert!(made.success(), "ssh-keygen failed");
}

fn configure(folder: &Path, setting: &str) {
    let folder_name = folder.display();
    let text = format!(
        "HostKey {folder_name}/host_ed25519\nHostKey {folder_name}/host_ecdsa\n\
         AuthorizedKeysFile {folder_name}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
         PasswordAuthentication yes\nLogLevel DEBUG1\nPidFile none\n{setting}\n"
    );
    std::fs::write(folder.join("sshd_config"), text).unwrap();
}

fn serve(program: &Path, folder: &Path, connection: TcpStream) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("sshd.log")).unwrap();
    let input = OwnedFd::from(connection);
    let output = input.try_clone().unwrap();
    let config = folder.join("sshd_config");
    let mut command = Command::new(program);
    command.args(["-i", "-e", "-f"]).arg(config).stdin(input).stdout(output).stderr(log).spawn().unwrap()
}

/// A process and those it has started.
fn family(process: u32) -> Vec<u32> {
    let started = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children = started.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(process).chain(children.flat_map(family)).collect()
}
