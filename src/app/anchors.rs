//! Anchors: checkpoints of the audit, told to places outside of the node, so that nobody who holds the node can put an older audit
//! in its place unnoticed. One task an anchor; a failing one is tried again for ever, and nothing waits for it.
//!
//! A file gets each checkpoint appended and synced, an empty line between them. A url gets the signed note as text/plain;
//! the publish route of another node (`…/v1/feeds/FEED/events`) gets an event.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use url::{Host, Url};

use super::world::World;
use crate::config::Anchor;
use crate::egress::{Egress, Way};
use crate::proof::checkpoint::notes;
use crate::proof::{Signed, base64};
use crate::secrets::ANCHOR_TOKEN;

/// Between two checkpoints that one anchor is told.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest wait after failures.
const LONGEST: Duration = Duration::from_secs(300);

/// How long a witness may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a task for each anchor of the configuration.
pub(super) fn start(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let anchors = world.settings().config.anchors.clone();
    anchors.into_iter().map(|anchor| actix_rt::spawn(follow(world.clone(), anchor))).collect()
}

/// Never returns.
async fn follow(world: Arc<World>, anchor: Anchor) {
    let mut signed = world.notary.follow();
    let name = anchor.to_string();
    world.metrics.anchored(&name, None);
    let (mut failures, mut told) = (0u32, String::new());
    loop {
        let latest = signed.borrow_and_update().clone();
        match tell(&world, &anchor, &latest).await {
            Ok(()) => {
                world.metrics.anchored(&name, Some(latest.checkpoint.size));
                world.anchored.send_if_modified(|known| {
                    let longer = known.as_ref().is_none_or(|known| known.checkpoint.size < latest.checkpoint.size);
                    if longer {
                        *known = Some(latest.clone());
                    }
                    longer
                });
                if failures > 0 {
                    tracing::info!(
                        "the anchor {name} has the audit's checkpoint of {} records",
                        latest.checkpoint.size
                    );
                }
                (failures, told) = (0, String::new());
                sleep(PAUSE).await;
                if signed.changed().await.is_err() {
                    return;
                }
            }
            Err(why) => {
                world.metrics.anchor_failed(&name);
                if why != told {
                    tracing::warn!(
                        "the anchor {name} has no checkpoint of {} records: {why}; tried again",
                        latest.checkpoint.size
                    );
                    told = why;
                }
                sleep((PAUSE * 2u32.saturating_pow(failures)).min(LONGEST)).await;
                failures = (failures + 1).min(16);
            }
        }
    }
}

async fn tell(world: &World, anchor: &Anchor, signed: &Arc<Signed>) -> Result<(), String> {
    match anchor {
        Anchor::File(path) => {
            let (path, note) = (path.clone(), signed.clone());
            let append = tokio::task::spawn_blocking(move || append(&path, &note.note));
            append.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        }
        Anchor::Http(url) => post(world, url, signed).await,
    }
}

fn append(path: &Path, note: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let end = file.seek(SeekFrom::End(0))?;
    let text = if end == 0 { note.to_owned() } else { format!("\n{note}") };
    let appended = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if appended.is_err() {
        // Half a checkpoint would be taken for a wrong one.
        let _ = file.set_len(end);
    }
    appended
}

async fn post(world: &World, url: &Url, signed: &Signed) -> Result<(), String> {
    let settings = world.settings();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let way = Way::new(host, url.port_or_known_default().unwrap_or_default(), &settings.config.connect_to);
    let (client, to) = client(url, &way, &settings.egress, &settings.rest.tls.plain()).await?;
    let mut request = client.post(to);
    // Sent as a bearer token, if there is one.
    let names = [ANCHOR_TOKEN.to_owned()];
    if settings.secrets.present(&names) {
        let token = settings.secrets.find(&names, host).map_err(|failure| failure.message)?;
        request = request.bearer_auth(token.value.expose_secret());
    }
    let request = match is_publishing(url) {
        false => request.header(CONTENT_TYPE, "text/plain; charset=utf-8").body(signed.note.clone()),
        true => {
            let checkpoint = &signed.checkpoint;
            let event = serde_json::json!({
                "origin": checkpoint.origin, "size": checkpoint.size, "root": base64(&checkpoint.root), "checkpoint": signed.note,
            });
            // The same note is the same event, however often it is told.
            let id = hex::encode(Sha256::digest(&signed.note));
            request.header(CONTENT_TYPE, "application/json").header("ce-id", id).body(event.to_string())
        }
    };
    let answer = request.send().await.map_err(|error| words(&error.without_url()))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

/// Whether it is the publish route of a node.
fn is_publishing(url: &Url) -> bool {
    let parts: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    matches!(parts[..], [.., "v1", "feeds", _, "events"])
}

/// A checkpoint every second at most: a connection is not worth keeping.
async fn client(url: &Url, way: &Way, egress: &Egress, tls: &rustls::ClientConfig) -> Result<(Client, Url), String> {
    let found = timeout(TIMEOUT, egress.look_up(way)).await.map_err(|_| "its name is not looked up in time")?;
    let found = found.map_err(|error| format!("its name can't be looked up: {error}"))?;
    let permitted = egress.permit(way, found).map_err(|refused| refused.to_string())?;
    let address = permitted.first().ok_or("its name has no address")?;
    let mut to = url.clone();
    to.set_port(Some(address.port())).map_err(|()| "it has no host".to_owned())?;
    if let Some(own) = literal(url).filter(|own| *own != address.ip()) {
        if url.scheme() == "https" {
            return Err(format!("`{own}` is an address, and over https only a host with a name can be somewhere else"));
        }
        // Addresses are not looked up: what was permitted must be what stands there.
        to.set_ip_host(address.ip()).map_err(|()| "it has no host".to_owned())?;
    }
    let client = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .resolve_to_addrs(url.host_str().unwrap_or_default(), &permitted);
    Ok((client.build().map_err(|error| words(&error))?, to))
}

/// The address that a url holds in place of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// The words of the first cause.
fn words(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The last checkpoint that each file has of each log: what the audit has to continue. Half a checkpoint, which a power cut
/// left at the end, is cut off; a file that can't be read tells nothing, and nothing waits for it.
pub(super) fn known(anchors: &[Anchor]) -> Vec<(String, String)> {
    let mut known = Vec::new();
    for anchor in anchors {
        let Anchor::File(path) = anchor else { continue };
        match last_of_each(path) {
            Ok(last) => known.extend(last.into_iter().map(|note| (path.display().to_string(), note))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(
                    "the anchor {}: {error}: an audit that is older than it would not be noticed",
                    path.display()
                );
            }
        }
    }
    known
}

fn last_of_each(path: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    let mut last: Vec<(String, String)> = Vec::new();
    let all = notes(&text);
    let count = all.len();
    for (number, note) in (1..).zip(all) {
        match Signed::unchecked(&note) {
            Ok(checkpoint) => {
                last.retain(|(origin, _)| *origin != checkpoint.origin);
                last.push((checkpoint.origin, note));
            }
            _ if number == count => {
                tracing::warn!("{}: half a checkpoint at its end is cut off", path.display());
                OpenOptions::new().write(true).open(path)?.set_len((text.len() - note.len()) as u64)?;
            }
            _ => tracing::warn!("{}: its part {number} is no checkpoint", path.display()),
        }
    }
    Ok(last.into_iter().map(|(_, note)| note).collect())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::adapters::rest::Tls;
    use crate::config::ConnectTo;
    use crate::proof::{Checkpoint, SigningKey};

    #[test]
    fn a_file_keeps_all_checkpoints_and_tells_the_last_also_after_a_torn_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let (key, _) = SigningKey::generate(|_| "log".to_owned()).unwrap();
        let note = |size| Signed::sign(Checkpoint { origin: "log".to_owned(), size, root: [1; 32] }, &key).note;
        let anchors = [Anchor::File(path.clone())];
        assert_eq!(known(&anchors), []);
        (1..4).for_each(|size| append(&path, &note(size)).unwrap());
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(notes(&whole), [note(1), note(2), note(3)]);
        let name = path.display().to_string();
        assert_eq!(known(&anchors), [(name.clone(), note(3))]);
        let torn = format!("{whole}\n{}", note(4));
        for length in whole.len()..torn.len() {
            if torn.is_char_boundary(length) {
                std::fs::write(&path, &torn[..length]).unwrap();
                assert_eq!(known(&anchors), [(name.clone(), note(3))], "{length}");
                append(&path, &note(5)).unwrap();
                assert_eq!(known(&anchors), [(name.clone(), note(5))], "{length}");
            }
        }
    }

    #[tokio::test]
    async fn an_anchor_whose_url_holds_an_address_is_connected_to_the_one_that_was_permitted() {
        let here = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = here.local_addr().unwrap().port();
        let connect_to = |host: &str| ConnectTo([((host.to_owned(), 8700), ("127.0.0.1".to_owned(), port))].into());
        let egress = Egress::new(None, false, Arc::default());
        let tls = Tls::new(None, false).unwrap().plain();
        for (host, written) in
            [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "[2001:db8::7]"), ("127.0.0.2", "127.0.0.2")]
        {
            let way = Way::new(host, 8700, &connect_to(host));
            let url = |scheme: &str| Url::parse(&format!("{scheme}://{written}:8700/add")).unwrap();
            let (led, to) = client(&url("http"), &way, &egress, &tls).await.unwrap();
            tokio::select! {
                accepted = here.accept() => drop(accepted.unwrap()),
                gone = led.get(to).send() => panic!("{written}: it went elsewhere: {gone:?}"),
            }
            let refused = client(&url("https"), &way, &egress, &tls).await.unwrap_err();
            assert!(refused.contains("only a host with a name can be somewhere else"), "{refused}");
        }
    }

    #[test]
    fn the_publish_route_of_a_node_is_told_from_a_witness() {
        for (url, publishing) in [
            ("https://other:8700/v1/feeds/anchors.vt/events", true),
            ("https://other/behind/v1/feeds/a/events", true),
            ("https://witness/add", false),
            ("https://witness", false),
        ] {
            assert_eq!(is_publishing(&Url::parse(url).unwrap()), publishing, "{url}");
        }
    }
}
