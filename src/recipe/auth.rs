//! What `auth` means: which types an adapter has, and which keys each type takes. It holds names of secrets,
//! never their values.

use super::grammar::{AuthDoc, AuthTable};
use super::headers::is_reserved;
use super::model::{Auth, SftpAuth};
use super::values::{AuthKind, HeaderName};
use crate::yaml::diagnostics::{At, Collector, one_of};
use crate::yaml::grammar::{Field, Located};
use crate::yaml::values::{SecretName, Text};

struct Kind {
    kind: AuthKind,
    word: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const REST: &[Kind] = &[
    Kind { kind: AuthKind::ApiKey, word: "api_key", required: &[], optional: &["header", "secret"] },
    Kind { kind: AuthKind::Bearer, word: "bearer", required: &[], optional: &["secret"] },
    Kind { kind: AuthKind::Basic, word: "basic", required: &["username"], optional: &["secret"] },
    Kind {
        kind: AuthKind::OAuth2,
        word: "oauth2_client_credentials",
        required: &["token_url", "client_id"],
        optional: &["scope", "audience", "secret"],
    },
];

const SFTP: &[Kind] = &[
    Kind { kind: AuthKind::Key, word: "key", required: &["secret"], optional: &[] },
    Kind { kind: AuthKind::Password, word: "password", required: &[], optional: &["secret"] },
];

/// How a REST target logs in. `None` only if an error was reported.
pub fn rest(auth: &Located<AuthDoc>, errors: &mut Collector<'_>) -> Option<Auth> {
    let (kind, table) = checked(auth, REST, "rest", errors)?;
    let secret = table.and_then(|table| secret(&table.secret));
    match kind {
        AuthKind::Bearer => Some(Auth::Bearer { secret }),
        AuthKind::Basic => Some(Auth::Basic { username: text(&table?.username)?, secret }),
        AuthKind::OAuth2 => {
            let table = table?;
            Some(Auth::OAuth2ClientCredentials {
                token_url: token_url(table, errors)?,
                client_id: text(&table.client_id)?,
                scope: text(&table.scope),
                audience: text(&table.audience),
                secret,
            })
        }
        _ => Some(Auth::ApiKey { header: api_key_header(table, errors), secret }),
    }
}

/// How an SFTP target logs in.
pub fn sftp(auth: Option<&Located<AuthDoc>>, errors: &mut Collector<'_>) -> SftpAuth {
    let Some((kind, table)) = auth.and_then(|auth| checked(auth, SFTP, "sftp", errors)) else {
        return SftpAuth::Derived;
    };
    let secret = table.and_then(|table| secret(&table.secret));
    match (kind, secret) {
        (AuthKind::Key, Some(secret)) => SftpAuth::Key { secret },
        (AuthKind::Password, secret) => SftpAuth::Password { secret },
        _ => SftpAuth::Derived,
    }
}

/// The type and the table, if the adapter has that type; reports keys that are missing or of another type.
fn checked<'d>(
    auth: &'d Located<AuthDoc>,
    kinds: &[Kind],
    adapter: &str,
    errors: &mut Collector<'_>,
) -> Option<(AuthKind, Option<&'d AuthTable>)> {
    let (kind, at, table) = match &auth.value {
        AuthDoc::Short(kind) => (*kind, auth.at, None),
        AuthDoc::Table(table) => (table.r#type?.value, table.r#type?.at, Some(&**table)),
    };
    let Some(kind) = kinds.iter().find(|known| known.kind == kind) else {
        let known = one_of(kinds.iter().map(|known| known.word));
        errors.error(at, format!("a `{adapter}` target can't log in this way")).help(format!("expected {known}"));
        return None;
    };
    keys(kind, auth.at, table, errors);
    Some((kind.kind, table))
}

fn keys(kind: &Kind, at: At, table: Option<&AuthTable>, errors: &mut Collector<'_>) {
    for key in kind.required {
        if !table.is_some_and(|table| table.keys.has(key)) {
            let error = errors.error(at, format!("missing key `{key}` of `auth` type `{}`", kind.word));
            error.help(format!("write it as a mapping: {{type: {}, {key}: …}}", kind.word));
        }
    }
    for key in table.map_or(&[][..], |table| &table.keys.written) {
        let name = key.name.as_str();
        if name != "type" && !kind.required.contains(&name) && !kind.optional.contains(&name) {
            errors.error(key.at, format!("`{name}` is not a key of `auth` type `{}`", kind.word));
        }
    }
}

fn token_url(table: &AuthTable, errors: &mut Collector<'_>) -> Option<String> {
    let url = table.token_url.as_ref()?;
    if !url.value.fields.is_empty() {
        errors.error(url.at, "a token is for all events: `{field}` can't be in `token_url`");
    }
    Some(url.value.text.clone())
}

fn api_key_header(table: Option<&AuthTable>, errors: &mut Collector<'_>) -> String {
    let Some(Located { value: HeaderName(name), at }) = table.and_then(|table| table.header.as_ref()) else {
        return "X-API-Key".to_owned();
    };
    if is_reserved(&name.to_ascii_lowercase()) {
        errors.error(*at, format!("`{name}` is set by the node")).help("the default is X-API-Key");
    }
    name.clone()
}

fn text(field: &Field<Text>) -> Option<String> {
    field.as_ref().map(|text| text.value.0.clone())
}

fn secret(field: &Field<SecretName>) -> Option<String> {
    field.as_ref().map(|secret| secret.value.0.clone())
}
