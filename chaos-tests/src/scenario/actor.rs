//! A target's partner in a scenario: what the recipe says of it, what can go wrong with it, what it has to show.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::schedule::{Fault, Hand};
use crate::judge::{Evidence, Expected, FileCopy, Guarantee, Request};
use crate::node::Node;
use crate::partners::https::{Answer, HttpPartner, Received};
use crate::partners::sshd::Sshd;
use crate::proxy::{self, Proxy};

/// Outages of seconds are long here.
/// Where a file server keeps our file.
const FOLDER: &str = "/inbox";

const CIRCUIT: &str = "    circuit: {failures: 3, open_for: 1s, max_open_for: 2s}\n";

/// A target as the scenario wants it.
#[derive(Clone)]
pub struct Role {
    pub name: String,
    pub kind: Kind,
    /// More lines for the target in the recipe.
    pub more: String,
    /// A file server's folder is a disk of so many bytes.
    pub disk: Option<u64>,
    /// A file a day.
    pub dated: bool,
    /// What the target was called before it was renamed.
    pub formerly: Option<String>,
    pub expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes requests and honours their keys.
    Honours,
    /// Takes requests and ignores their keys.
    Ignores,
    Sftp,
    /// A file on the node's machine.
    File,
}

impl Role {
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            more: String::new(),
            disk: None,
            dated: false,
            formerly: None,
            expected: Expected::default(),
        }
    }

    /// With a line more in the recipe.
    pub fn with(mut self, line: &str) -> Self {
        self.more += &format!("    {line}\n");
        self
    }

    pub fn expecting(mut self, change: impl FnOnce(&mut Expected)) -> Self {
        change(&mut self.expected);
        self
    }
}

/// The partner itself.
pub struct Actor {
    pub role: Role,
    /// What the recipe calls the partner's machine.
    host: String,
    partner: Partner,
    is_down: bool,
    /// What somebody took away, or read before he changed it; and where it lies now.
    taken: Vec<(FileCopy, Option<PathBuf>)>,
    /// So many bytes of the file were in a copy already.
    seen: usize,
    /// Rows of others in the file as it is.
    foreign: Vec<String>,
}

/// With the proxy on the way to it.
enum Partner {
    Http(HttpPartner, Proxy),
    Sshd(Sshd, Proxy),
    Disk(PathBuf),
}

impl Actor {
    pub fn new(role: Role, node: &Node) -> Self {
        let partner = match role.kind {
            Kind::Honours | Kind::Ignores => {
                let partner = HttpPartner::plain();
                partner.honours_keys(role.kind == Kind::Honours);
                let proxy = proxy_to(partner.port());
                Partner::Http(partner, proxy)
            }
            Kind::Sftp => {
                let mut sshd = Sshd::new();
                if let Some(bytes) = role.disk {
                    sshd.small_disk(FOLDER, bytes);
                }
                let proxy = proxy_to(sshd.port());
                Partner::Sshd(sshd, proxy)
            }
            Kind::File => Partner::Disk(node.file(&format!("spool/{}/.made", role.name), "")),
        };
        let host = format!("{}.example", role.name.replace('_', "-"));
        Self { role, host, partner, is_down: false, taken: Vec::new(), seen: 0, foreign: Vec::new() }
    }

    /// The target in the recipe.
    pub fn yaml(&self) -> String {
        let how = match &self.partner {
            Partner::Http(_, proxy) => {
                let idempotency = if self.role.kind == Kind::Honours { "honoured" } else { "ignored" };
                format!("rest\n    url: http://{}/events\n    idempotency: {idempotency}\n", proxy.addr())
            }
            Partner::Sshd(..) => {
                format!("sftp\n    host: {}\n    path: {}\n    format: csv\n", self.host, self.path())
            }
            Partner::Disk(_) => format!("file\n    path: {}\n    format: csv\n", self.path()),
        };
        format!("  - name: {}\n    adapter: {how}{CIRCUIT}{}", self.role.name, self.role.more)
    }

    /// What the node's configuration must know: `(connect_to, known_hosts, secret)`.
    pub fn introduction(&self) -> Option<(String, String, (String, String))> {
        let Partner::Sshd(sshd, proxy) = &self.partner else { return None };
        let connect = format!("  {}:22: {}\n", self.host, proxy.addr());
        let secret = format!("secrets/{}_SSH_KEY", self.role.name.to_uppercase());
        Some((connect, sshd.known_as(&self.host), (secret, sshd.client_key())))
    }

    /// Our file, as the recipe names it.
    pub fn path(&self) -> String {
        let name = if self.role.dated { "events_{YYYYMMDD}.csv" } else { "events.csv" };
        format!("{}/{name}", self.folder())
    }

    fn folder(&self) -> String {
        match &self.partner {
            Partner::Disk(made) => made.parent().expect("it is in a folder").display().to_string(),
            _ => FOLDER.to_owned(),
        }
    }

    pub fn fault(&mut self, fault: &Fault) {
        self.is_down = *fault == Fault::Down;
        match (&mut self.partner, fault) {
            (Partner::Http(_, proxy) | Partner::Sshd(_, proxy), Fault::Network(towards, fault)) => {
                proxy.set_towards(*towards, *fault);
            }
            (Partner::Http(partner, proxy), Fault::Down) => {
                proxy.set(proxy::Fault::Down);
                partner.down();
            }
            (Partner::Http(partner, _), fault) => misbehave(partner, fault.clone()),
            (Partner::Sshd(sshd, proxy), Fault::Down) => {
                proxy.set(proxy::Fault::Down);
                sshd.down();
            }
            (Partner::Sshd(sshd, _), Fault::Hang) => sshd.hang(),
            (Partner::Sshd(sshd, _), Fault::Full) => sshd.fill_disk(FOLDER),
            (_, fault) => panic!("{} can't do this: {fault}", self.role.name),
        }
    }

    pub fn heal(&mut self) {
        let was_down = std::mem::take(&mut self.is_down);
        match &mut self.partner {
            Partner::Http(partner, proxy) => {
                partner.answer(Answer::Status(200));
                if was_down {
                    partner.up();
                }
                proxy.heal();
            }
            Partner::Sshd(sshd, proxy) => {
                if was_down {
                    sshd.up();
                } else {
                    sshd.go_on();
                }
                if self.role.disk.is_some() {
                    sshd.free_disk(FOLDER);
                }
                proxy.heal();
            }
            Partner::Disk(_) => {}
        }
    }

    /// What the file holds now; `None` if it is not there.
    fn bytes(&self) -> Option<Vec<u8>> {
        fs::read(self.place()).ok()
    }

    fn place(&self) -> PathBuf {
        match &self.partner {
            Partner::Sshd(sshd, _) => sshd.path(&self.path()),
            _ => PathBuf::from(self.path()),
        }
    }

    /// The files of all days, in their order.
    fn days(&self) -> Vec<FileCopy> {
        let folder = match &self.partner {
            Partner::Sshd(sshd, _) => sshd.path(FOLDER),
            _ => PathBuf::from(self.folder()),
        };
        let entries = fs::read_dir(folder).expect("the partner's folder is there").map_while(Result::ok);
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "csv"));
        files.sort();
        let copy = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap_or_default();
            FileCopy { path: format!("{}/{name}", self.folder()), bytes, ..FileCopy::default() }
        };
        files.into_iter().map(copy).collect()
    }

    fn put(&self, text: &str) {
        match &self.partner {
            Partner::Sshd(sshd, _) => sshd.put(&self.path(), text),
            _ => fs::write(self.place(), text).expect("the spool is writable"),
        }
    }

    /// Somebody at the partner does something to our file.
    pub fn hand(&mut self, hand: &Hand) {
        match hand {
            Hand::PickUp => self.take_away(),
            Hand::Empty => {
                self.take_away();
                self.put("");
            }
            Hand::BeginAnew(row) => {
                self.take_away();
                self.put(&format!("{row}\n"));
                self.foreign.push(row.clone());
            }
            Hand::Append(row) => {
                let file = fs::OpenOptions::new().append(true).open(self.place());
                let written = file.and_then(|mut file| file.write_all(format!("{row}\n").as_bytes()));
                written.unwrap_or_else(|error| panic!("{} has no file to append to: {error}", self.role.name));
                self.foreign.push(row.clone());
            }
            Hand::CutAfter(rows) => {
                let copy = self.copy();
                let text = String::from_utf8_lossy(&copy.bytes).into_owned();
                let kept: String = text.split_inclusive('\n').take(*rows).collect();
                self.taken.push((copy, None));
                self.put(&kept);
                self.foreign.retain(|row| kept.lines().any(|line| line == row));
                self.seen = kept.len();
            }
        }
    }

    /// As a rename would: what a writer still writes goes into what was taken away.
    fn take_away(&mut self) {
        let away = self.place().with_file_name(format!(".taken-{}", self.taken.len()));
        if fs::rename(self.place(), &away).is_ok() {
            self.taken.push((self.copy(), Some(away)));
        }
        self.seen = 0;
        self.foreign.clear();
    }

    fn copy(&self) -> FileCopy {
        let bytes = self.bytes().unwrap_or_default();
        FileCopy { path: self.path(), bytes, seen: self.seen, foreign: self.foreign.clone() }
    }

    /// All that the partner has to show.
    pub fn evidence(&self) -> Evidence {
        match &self.partner {
            Partner::Http(partner, _) => Evidence::Requests(partner.received().iter().map(Request::from).collect()),
            _ => {
                let taken = self.taken.iter().map(|(copy, away)| match away {
                    Some(away) => FileCopy { bytes: fs::read(away).unwrap_or_default(), ..copy.clone() },
                    None => copy.clone(),
                });
                let now =
                    if self.role.dated { self.days() } else { self.bytes().map(|_| self.copy()).into_iter().collect() };
                Evidence::Files(taken.chain(now).collect())
            }
        }
    }

    pub fn guarantee(&self) -> Guarantee {
        match self.role.kind {
            Kind::Honours => Guarantee::EffectivelyOnce,
            Kind::Ignores => Guarantee::AtLeastOnce,
            Kind::Sftp | Kind::File => Guarantee::ExactlyOnce,
        }
    }
}

/// What the partner said yes to, or did without a word. Whether a repetition has an effect is for the judge to say.
impl From<&Received> for Request {
    fn from(received: &Received) -> Self {
        let text = |name| received.header(name).map(str::to_owned);
        let effect = received.effect || received.answered.is_some_and(|status| (200..300).contains(&status));
        Self { key: text("idempotency-key"), event: text("ce-id"), body: received.body.clone(), effect }
    }
}

fn proxy_to(port: u16) -> Proxy {
    Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn misbehave(partner: &HttpPartner, fault: Fault) {
    let mut count = 0;
    partner.rule(move |request| {
        count += 1;
        match &fault {
            Fault::Answer(status) => Answer::Status(*status),
            Fault::LoseReplies(every) if count % every == 0 => Answer::Close,
            Fault::Flap(every) if count % every == 0 => Answer::Status(503),
            Fault::Slow(milliseconds) => Answer::After(Duration::from_millis(*milliseconds), 200),
            Fault::Hang => Answer::Hang { effect: count % 2 == 0 },
            Fault::Tarpit => Answer::Tarpit(503, Duration::from_millis(200)),
            Fault::Refuse(text) if request.text().contains(text.as_str()) => Answer::Status(422),
            _ => Answer::Status(200),
        }
    });
}
