//! What an HTTP partner does with a request, from a status to silence.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::rt::time::sleep;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use chrono::{DateTime, Utc};

/// What the partner does with a request. One that is answered with 2xx has its effect.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    Json(u16, String),
    WithHeader(u16, &'static str, String),
    /// Answers with the status, after the delay.
    After(Duration, u16),
    /// Answers with the status at once, and then with a body that never ends, one byte at a time.
    Tarpit(u16, Duration),
    /// Closes the connection without a word. The request has had its effect: only the reply is lost.
    Close,
    /// Resets the connection without a word, before or after the effect.
    Reset {
        effect: bool,
    },
    /// Never answers, before or after the effect.
    Hang {
        effect: bool,
    },
}

impl Answer {
    /// `Retry-After` in seconds.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::WithHeader(status, "retry-after", seconds.to_string())
    }

    /// `Retry-After` as a date.
    pub fn retry_at(status: u16, moment: SystemTime) -> Self {
        let date = DateTime::<Utc>::from(moment).format("%a, %d %b %Y %H:%M:%S GMT");
        Self::WithHeader(status, "retry-after", date.to_string())
    }

    /// The status that is sent, if one is.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status)
            | Self::Json(status, _)
            | Self::WithHeader(status, ..)
            | Self::After(_, status)
            | Self::Tarpit(status, _) => Some(*status),
            Self::Close | Self::Reset { .. } | Self::Hang { .. } => None,
        }
    }

    /// Whether the partner does what the request asks for.
    pub(super) fn has_effect(&self) -> bool {
        match self {
            Self::Close => true,
            Self::Reset { effect } | Self::Hang { effect } => *effect,
            _ => self.status().is_some_and(|status| (200..300).contains(&status)),
        }
    }

    pub(super) async fn give(self, socket: &TcpStream) -> HttpResponse {
        match self {
            Self::Status(code) => status(code).finish(),
            Self::Json(code, text) => status(code).content_type("application/json").body(text),
            Self::WithHeader(code, name, value) => status(code).insert_header((name, value)).finish(),
            Self::After(delay, code) => {
                sleep(delay).await;
                status(code).finish()
            }
            Self::Tarpit(code, every) => status(code).streaming(drops(every)),
            Self::Close => {
                // The client may have been faster.
                let _ = socket.shutdown(Shutdown::Both);
                HttpResponse::Ok().finish()
            }
            Self::Reset { .. } => {
                // Linux resets a connection that is dissolved. What the server writes then goes nowhere.
                let _ = rustix::net::connect_unspec(socket);
                HttpResponse::Ok().finish()
            }
            Self::Hang { .. } => std::future::pending().await,
        }
    }
}

fn status(code: u16) -> HttpResponseBuilder {
    HttpResponse::build(StatusCode::from_u16(code).expect("a status of HTTP"))
}

/// A body without end.
fn drops(every: Duration) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures_util::stream::unfold((), move |()| async move {
        sleep(every).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    })
}
