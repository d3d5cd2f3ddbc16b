//! The tokens of the admin endpoint: making, ending and recognising them. Each change is an `operator` record of the audit,
//! on disk to stay before the token is valid, or is not any more; the record has the token's name, never the token.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, Timestamp, is_name};
use hms_actors::ports::Clock;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::endpoint::Result;
use super::operations::{Refused, to_the_end};
use super::world::World;
use crate::access::{Caller, Presented, Role, fingerprint, new_token};
use crate::admin::INSECURE_LOOPBACK;
use crate::admin::views::{MAX_EXPIRY, Moment, NewToken, TokenCreated, TokenView};
use crate::store::{Token, Tokens, replace};

/// The token that is made at the first start, and the file that it is told by.
const ADMIN: &str = "admin";
const ADMIN_FILE: &str = "admin.token";

/// Who makes it.
const NODE: &str = "hms.serve";

/// Each request looks at all of them.
const MOST: usize = 1_000;

pub(super) struct Keyring {
    data: PathBuf,
    tokens: Tokens,
    one_at_a_time: Mutex<()>,
}

impl Keyring {
    /// Blocks on the disk.
    pub fn open(data: &Path) -> std::result::Result<Self, Failure> {
        Ok(Self { data: data.to_owned(), tokens: Tokens::open(data)?, one_at_a_time: Mutex::default() })
    }

    pub fn present(&self, token: &str, now: Timestamp) -> Presented {
        match self.tokens.find(&fingerprint(token)) {
            None => Presented::Unknown,
            Some(token) if token.has_expired(now) => Presented::Expired(token.name),
            Some(Token { name, role, feeds, .. }) => Presented::Valid(Caller { subject: name, role, feeds }),
        }
    }

    pub fn list(&self, now: Timestamp) -> Vec<TokenView> {
        let mut all: Vec<TokenView> = self.tokens.all().iter().map(|token| view(token, now)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Where nobody could come in as an admin, makes the token that its owner finds in the data directory.
    pub async fn let_the_owner_in(&self, world: &World) -> std::result::Result<(), Failure> {
        if self.admins(world.clock.now()).next().is_some() {
            return Ok(());
        }
        let secret = self.make(world, ADMIN, Role::Admin, Vec::new(), None, NODE, |secret| {
            replace(&self.data, ADMIN_FILE, format!("{}\n", secret.expose_secret()).as_bytes())
        });
        secret.await?;
        tracing::info!("the admin token is in {}", self.data.join(ADMIN_FILE).display());
        Ok(())
    }

    pub async fn create(self: Arc<Self>, world: Arc<World>, wanted: NewToken, by: &str) -> Result<TokenCreated> {
        let by = by.to_owned();
        Ok(to_the_end(async move { self.carry_out_create(&world, wanted, &by).await }).await?)
    }

    async fn carry_out_create(
        &self,
        world: &World,
        wanted: NewToken,
        by: &str,
    ) -> std::result::Result<TokenCreated, Refused> {
        let NewToken { name, role, feeds, expires_in_seconds } = wanted;
        let feeds = checked(&name, role, &feeds, expires_in_seconds).map_err(Refused::BadRequest)?;
        let _guard = self.one_at_a_time.lock().await;
        let all = self.tokens.all();
        if all.iter().any(|token| token.name == name) {
            let why = format!("there is a token `{name}`: choose another name, or revoke that one first");
            return Err(Refused::Conflict { why, counts: BTreeMap::new() });
        }
        if all.len() >= MOST {
            let why = format!("there are {MOST} tokens: revoke those that nobody needs first");
            return Err(Refused::Conflict { why, counts: BTreeMap::new() });
        }
        let expires = expires_in_seconds.map(|seconds| world.clock.now().plus(Duration::from_secs(seconds)));
        let (token, secret) = self.make(world, &name, role, feeds, expires, by, |_| Ok(())).await?;
        let about = view(&token, world.clock.now());
        Ok(TokenCreated { token: secret.expose_secret().to_owned(), about })
    }

    #[allow(clippy::too_many_arguments, reason = "a token's parts, once")]
    async fn make(
        &self,
        world: &World,
        name: &str,
        role: Role,
        feeds: Vec<FeedName>,
        expires: Option<Timestamp>,
        by: &str,
        tell: impl FnOnce(&SecretString) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(Token, SecretString), Failure> {
        let secret = new_token().map_err(|error| Failure::node(format!("no random numbers for a token: {error}")))?;
        let (name, created) = (name.to_owned(), world.clock.now());
        let token = Token { name, role, feeds, created, expires, sha256: fingerprint(secret.expose_secret()) };
        world.store.operator("create_token", by, details(&token)).await?;
        tell(&secret)?;
        self.tokens.put(token.clone())?;
        Ok((token, secret))
    }

    pub async fn revoke(self: Arc<Self>, world: Arc<World>, name: &str, by: &str) -> Result<TokenView> {
        let (name, by) = (name.to_owned(), by.to_owned());
        Ok(to_the_end(async move { self.carry_out_revoke(&world, &name, &by).await }).await?)
    }

    async fn carry_out_revoke(&self, world: &World, name: &str, by: &str) -> std::result::Result<TokenView, Refused> {
        let _guard = self.one_at_a_time.lock().await;
        let all = self.tokens.all();
        let token = all.iter().find(|token| token.name == name);
        let token = token.ok_or_else(|| Refused::NotFound(format!("token `{name}`")))?;
        let now = world.clock.now();
        if by != INSECURE_LOOPBACK && self.admins(now).all(|admin| admin == name) && token.role == Role::Admin {
            let why =
                format!("`{name}` is the last admin: without it nobody could make tokens. Make another admin first");
            return Err(Refused::Conflict { why, counts: BTreeMap::new() });
        }
        world.store.operator("revoke_token", by, details(token)).await?;
        self.tokens.remove(name)?;
        if name == ADMIN {
            // Of no use any more, and in the way of those who look for a token.
            let _ = fs::remove_file(self.data.join(ADMIN_FILE));
        }
        Ok(view(token, now))
    }

    /// The admins who could come in now.
    fn admins(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let valid = |token: &&Token| token.role == Role::Admin && !token.has_expired(now);
        self.tokens.all().iter().filter(valid).map(|token| token.name.clone()).collect::<Vec<_>>().into_iter()
    }
}

/// The feeds, if all of it is as it has to be.
fn checked(
    name: &str,
    role: Role,
    feeds: &[String],
    expires_in_seconds: Option<u64>,
) -> std::result::Result<Vec<FeedName>, String> {
    if !is_name(name) {
        return Err("name: expected 1 to 128 of a-z 0-9 . _ - beginning with a letter or digit".to_owned());
    }
    if name == ADMIN || name == INSECURE_LOOPBACK || name.starts_with("hms.") {
        return Err(format!("name: `{name}` is the node's own: choose another"));
    }
    if !feeds.is_empty() && role != Role::Publisher {
        return Err(format!("feeds: only a publisher is bound to feeds, not the role {role}"));
    }
    if expires_in_seconds.is_some_and(|seconds| !(1..=MAX_EXPIRY).contains(&seconds)) {
        return Err(format!("expires_in_seconds: expected 1 to {MAX_EXPIRY}"));
    }
    let parse = |feed: &String| FeedName::parse(feed).map_err(|error| format!("feeds: {error}"));
    feeds.iter().map(parse).collect()
}

fn details(token: &Token) -> BTreeMap<String, String> {
    let mut details =
        BTreeMap::from([("name".to_owned(), token.name.clone()), ("role".to_owned(), token.role.to_string())]);
    if !token.feeds.is_empty() {
        details.insert("feeds".to_owned(), feed_names(token).join(" "));
    }
    if let Some(expires) = token.expires {
        details.insert("expires_at".to_owned(), Moment(expires).into());
    }
    details
}

fn view(token: &Token, now: Timestamp) -> TokenView {
    TokenView {
        name: token.name.clone(),
        role: token.role,
        feeds: feed_names(token),
        created_at: Moment(token.created),
        expires_at: token.expires.map(Moment),
        expired: token.has_expired(now),
    }
}

fn feed_names(token: &Token) -> Vec<String> {
    token.feeds.iter().map(ToString::to_string).collect()
}
