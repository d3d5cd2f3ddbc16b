//! The door: who a request comes from, and whether they may. It is passed before anything of a body is read.
//!
//! With tokens, every route but the open ones needs `Authorization: Bearer`. Without (`--insecure-loopback`), whoever is on
//! the machine may do everything, but no web page that a browser on it shows (`browser.rs`).

mod browser;
mod throttle;

use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use self::throttle::Throttle;
use super::backend::Backend;
use super::problem::AdminError;
use super::tls::ClientSubject;
use crate::access::{Caller, Presented, Refusal, Role};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: probes have no token.
    Nothing,
    /// A token, whatever its role.
    Token,
    Role(Role),
}

impl Needs {
    /// Whether a token with this role will do.
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Token => true,
            Self::Role(needed) => role.includes(needed),
        }
    }
}

/// Whose word counts where no token is asked for, as the audit names it.
pub const INSECURE_LOOPBACK: &str = "insecure-loopback";

pub enum Door {
    Tokens(Throttle),
    /// For loopback only.
    Insecure,
}

impl Door {
    pub fn new(insecure_loopback: bool) -> Self {
        if insecure_loopback { Self::Insecure } else { Self::Tokens(Throttle::default()) }
    }

    /// The subject, if the request may pass: behind it stands that of the client's certificate, if there is one. Token
    /// names have no space, so that the two can be told apart.
    pub fn enter(&self, backend: &dyn Backend, request: &HttpRequest, needs: Needs) -> Result<String, AdminError> {
        if needs == Needs::Nothing {
            return Ok("nobody".to_owned());
        }
        let subject = self.subject(backend, request, needs).map_err(|(why, error)| {
            backend.refused(why);
            error
        })?;
        Ok(match request.conn_data::<ClientSubject>() {
            Some(ClientSubject(certificate)) => format!("{subject} ({certificate})"),
            None => subject,
        })
    }

    fn subject(&self, backend: &dyn Backend, request: &HttpRequest, needs: Needs) -> Result<String, Refused> {
        let Self::Tokens(throttle) = self else {
            browser::refuse_pages(request).map_err(|error| (Refusal::WebPage, error))?;
            return Ok(INSECURE_LOOPBACK.to_owned());
        };
        let caller = identify(backend, request, throttle)?;
        authorize(&caller, request, needs).map_err(|error| (Refusal::Forbidden, error))?;
        Ok(caller.subject)
    }
}

type Refused = (Refusal, AdminError);

/// A valid token is never throttled: whoever tries others from the same address harms only themselves.
fn identify(backend: &dyn Backend, request: &HttpRequest, throttle: &Throttle) -> Result<Caller, Refused> {
    let token = bearer(request).map_err(|error| (Refusal::NoToken, error))?;
    match backend.present(token) {
        Presented::Valid(caller) => Ok(caller),
        Presented::Expired(name) => {
            let detail = format!("the token `{name}` has expired: ask an admin for another one");
            Err((Refusal::ExpiredToken, AdminError::unauthorized(detail, true)))
        }
        Presented::Unknown => {
            let peer = request.peer_addr().map(|peer| peer.ip());
            throttle.failed(peer, Instant::now()).map_err(|wait| {
                let detail = "too many wrong tokens came from this address: wait, then send a valid one";
                (Refusal::Throttled, AdminError::too_many(detail, wait))
            })?;
            tracing::warn!(
                peer = peer.map(tracing::field::display),
                path = request.path(),
                "a token that is not known was refused"
            );
            let detail = "the token is not known here: it was revoked, or is another node's";
            Err((Refusal::UnknownToken, AdminError::unauthorized(detail, true)))
        }
    }
}

fn bearer(request: &HttpRequest) -> Result<&str, AdminError> {
    let mut given = request.headers().get_all(AUTHORIZATION);
    let (Some(value), None) = (given.next(), given.next()) else {
        let detail = "a token is needed: send it as `Authorization: Bearer TOKEN`, once";
        return Err(AdminError::unauthorized(detail, false));
    };
    let scheme = |text: &str| text.eq_ignore_ascii_case("bearer");
    let token = value.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(found, _)| scheme(found));
    let token = token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty());
    token.ok_or_else(|| AdminError::unauthorized("the header Authorization is not `Bearer TOKEN`", false))
}

fn authorize(caller: &Caller, request: &HttpRequest, needs: Needs) -> Result<(), AdminError> {
    let Caller { subject, role, feeds } = caller;
    if let Needs::Role(needed) = needs
        && !needs.allows(*role)
    {
        let detail = format!("this needs the role {needed}, the token `{subject}` has the role {role}");
        return Err(AdminError::forbidden(detail).with("needs", needed.as_str()).with("role", role.as_str()));
    }
    if needs == Needs::Role(Role::Publisher) && !feeds.is_empty() {
        let written = request.match_info().get("feed").unwrap_or_default();
        let wanted = percent_decode_str(written).decode_utf8_lossy();
        if !feeds.iter().any(|feed| feed.as_str() == wanted) {
            let own = feeds.iter().map(|feed| feed.as_str()).collect::<Vec<_>>().join(", ");
            let detail =
                format!("the token `{subject}` may publish to {own} only: this needs a publisher of this feed");
            return Err(AdminError::forbidden(detail).with("needs", Role::Publisher.as_str()));
        }
    }
    Ok(())
}
