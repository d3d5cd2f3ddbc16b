//! A partner that reads files: OpenSSH's own sshd on loopback, chrooted, with a host key, a port and a
//! folder of its own. It needs root, because a chroot does; nothing outside its folder is changed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::port::Port;
use crate::process::{self, Signal};
use crate::wait;

/// Debian has this system user on every machine; the seed's recipe logs in as it.
const USER: &str = "sync";
const USER_ID: u32 = 4;

/// What fills a disk.
const BALLAST: &str = ".ballast";

/// The partner. It is up from the start and goes down when dropped.
pub struct Sshd {
    port: Port,
    /// Keys and configuration, and `root/`, which the client sees as `/`.
    home: TempDir,
    listener: Option<Child>,
    /// Those that serve connections of a listener that was killed.
    orphans: Vec<u32>,
    /// Folders with a small disk of their own.
    disks: Vec<PathBuf>,
}

impl Default for Sshd {
    fn default() -> Self {
        Self::new()
    }
}

impl Sshd {
    pub fn new() -> Self {
        // sshd wants every folder above a chroot to be root's and writable by nobody else: not /tmp.
        let home = tempfile::Builder::new().prefix("hms-chaos-").tempdir_in("/srv");
        let home = home.expect("these tests run as root: sshd's chroot needs a folder of root's in /srv");
        allow(home.path(), 0o755);
        let mut sshd = Self { port: Port::reserve(), home, listener: None, orphans: Vec::new(), disks: Vec::new() };
        make_folder(&sshd.root(), 0);
        sshd.make_folder("/inbox");
        sshd.make_key("client_key");
        sshd.allow_client(true);
        sshd.change_host_key();
        sshd
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The process that listens, whose descendants serve the connections.
    pub fn process(&self) -> u32 {
        self.listener.as_ref().map(Child::id).expect("the server is up")
    }

    /// What the client sees as `/`.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// Where the client's `path` is on this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The text of the client's file, if it is there.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// The names in a folder of the client's, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).expect("the folder is there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("the folder can be read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Writes a file as the partner's own programs would.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::write(&path, text).expect("the folder is there");
        chown(&path, Some(USER_ID), None).expect("these tests run as root");
    }

    /// Makes a folder that the client may write to.
    pub fn make_folder(&self, path: &str) {
        make_folder(&self.path(path), USER_ID);
    }

    /// Whether the client may write to the folder.
    pub fn writable(&self, folder: &str, writable: bool) {
        let owner = if writable { USER_ID } else { 0 };
        chown(self.path(folder), Some(owner), None).expect("these tests run as root");
    }

    /// Somebody takes the file away.
    pub fn pick_up(&self, path: &str, to: &str) {
        fs::rename(self.path(path), self.path(to)).expect("the file is there");
    }

    /// Somebody cuts the file.
    pub fn cut(&self, path: &str, length: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.path(path));
        file.and_then(|file| file.set_len(length)).expect("the file is there");
    }

    /// Somebody puts another file in its place.
    pub fn begin_anew(&self, path: &str, text: &str) {
        let new = format!("{path}.new");
        self.put(&new, text);
        self.pick_up(&new, path);
    }

    /// Somebody writes rows of their own after what is there.
    pub fn append(&self, path: &str, rows: &str) {
        let file = fs::OpenOptions::new().append(true).open(self.path(path));
        file.and_then(|mut file| file.write_all(rows.as_bytes())).expect("the file is there");
    }

    /// Gives an empty folder a disk of its own, of so many bytes (rounded up to pages of 4 KiB).
    pub fn small_disk(&mut self, folder: &str, bytes: u64) {
        let path = self.path(folder);
        let options = format!("size={bytes},mode=755,uid={USER_ID}");
        let mut mount = Command::new("mount");
        process::run(mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path), b"").ok();
        self.disks.push(path);
    }

    /// Fills it with a file of the partner's. What has begun a page can still fill that.
    pub fn fill_disk(&self, folder: &str) {
        let mut ballast = fs::File::create(self.path(folder).join(BALLAST)).expect("the folder is there");
        let error = std::io::copy(&mut std::io::repeat(b'x'), &mut ballast).expect_err("the disk is small");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    /// Makes room again.
    pub fn free_disk(&self, folder: &str) {
        fs::remove_file(self.path(folder).join(BALLAST)).expect("it was filled");
    }

    /// The client's private key.
    pub fn client_key(&self) -> String {
        self.read("client_key")
    }

    /// Whether the client's key is good.
    pub fn allow_client(&self, allowed: bool) {
        let keys = if allowed { self.read("client_key.pub") } else { String::new() };
        self.write("authorized_keys", &keys);
    }

    /// The line of a known_hosts file that knows this server as `host` (at port 22).
    pub fn known_as(&self, host: &str) -> String {
        let key = self.read("host_key.pub");
        let mut words = key.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        format!("{host} {kind} {key}\n")
    }

    /// Comes up with another host key, as an impostor would.
    pub fn change_host_key(&mut self) {
        self.down();
        for name in ["host_key", "host_key.pub"] {
            let _ = fs::remove_file(self.home.path().join(name));
        }
        self.make_key("host_key");
        self.up();
    }

    /// Goes down as if its machine had lost power: the listener and all that serve connections.
    pub fn down(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            signal(&process::stop_tree(listener.id()), Signal::KILL);
            listener.wait().expect("the listener is our child");
        }
        signal(&self.sessions(), Signal::KILL);
        self.orphans.clear();
    }

    /// Comes up again, on the same port.
    pub fn up(&mut self) {
        self.down();
        // sshd's empty folder for privilege separation; the package makes it at boot only.
        fs::create_dir_all("/run/sshd").expect("these tests run as root");
        let config = self.write("sshd_config", &self.config());
        let log = fs::File::create(self.home.path().join("sshd.log")).expect("our folder is writable");
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-De").arg("-f").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.listener = Some(command.spawn().expect("sshd is installed (apt-get install openssh-server)"));
        let address = self.port.address();
        wait::until("sshd to listen", || std::net::TcpStream::connect(address).ok());
    }

    /// Stops answering without closing a connection: a hanging machine.
    pub fn hang(&self) {
        if let Some(listener) = &self.listener {
            process::stop_tree(listener.id());
        }
        self.signal_sessions(Signal::STOP);
    }

    /// Goes on after [`Sshd::hang`].
    pub fn go_on(&self) {
        if let Some(listener) = &self.listener {
            signal(&process::tree(listener.id()), Signal::CONT);
        }
        self.signal_sessions(Signal::CONT);
    }

    /// The processes that serve connections, their sftp-server included.
    pub fn sessions(&self) -> Vec<u32> {
        let children = self.listener.iter().flat_map(|listener| process::tree(listener.id()).split_off(1));
        // A number may have gone to somebody else meanwhile.
        let orphans = self.orphans.iter().copied().filter(|&id| process::name(id).starts_with("sshd"));
        children.chain(orphans).collect()
    }

    /// Stops, continues or kills what serves connections. New ones are taken.
    pub fn signal_sessions(&self, signal: Signal) {
        self::signal(&self.sessions(), signal);
    }

    /// Stops, continues or kills what takes connections. Those that exist go on.
    pub fn signal_listener(&mut self, signal: Signal) {
        if signal != Signal::KILL {
            self.listener.iter().for_each(|listener| process::signal(listener.id(), signal));
            return;
        }
        self.orphans = self.sessions();
        if let Some(mut listener) = self.listener.take() {
            listener.kill().expect("the listener is our child");
            listener.wait().expect("the listener is our child");
        }
    }

    /// What sshd said, for messages of tests that fail.
    pub fn log(&self) -> String {
        self.read("sshd.log")
    }

    fn config(&self) -> String {
        let home = self.home.path().display();
        format!(
            "ListenAddress {address}\nHostKey {home}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {home}/authorized_keys\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nAllowUsers {USER}\nMaxStartups 200\nLogLevel VERBOSE\n\
             Subsystem sftp internal-sftp\nChrootDirectory {home}/root\nForceCommand internal-sftp\n",
            address = self.port.address(),
        )
    }

    fn make_key(&self, name: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(self.home.path().join(name));
        process::run(&mut command, b"").ok();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).expect("a file of our own")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("our folder is writable");
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.down();
        for disk in &self.disks {
            // A disk that stays is in the way of removing the folder, and that says so.
            let _ = Command::new("umount").arg("-l").arg(disk).status();
        }
    }
}

fn make_folder(path: &Path, owner: u32) {
    fs::create_dir_all(path).expect("these tests run as root");
    allow(path, 0o755);
    chown(path, Some(owner), None).expect("these tests run as root");
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of our own");
}

fn signal(processes: &[u32], signal: Signal) {
    for &process in processes {
        process::signal(process, signal);
    }
}
