//! What TLS agreed on with a partner: version, cipher suite, group of the key exchange, for the receipt.
//!
//! The HTTP client keeps the TLS session of a connection to itself. So the algorithms that it may choose from are
//! [watched](self::watched), and [`Connections`] notes under the two addresses of a connection what its handshake used. An
//! answer says over which connection it came. Not here: what is offered (tls.rs, [`crate::approved`]).

mod watched;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Extensions;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use tower_layer::Layer;
use tower_service::Service;

use self::watched::Chosen;
pub(super) use self::watched::watched;

/// Of so many connections of a client it is known. A target has at most 1,024 at once.
const KNOWN: usize = 2048;

type Addresses = (SocketAddr, SocketAddr);

/// The connections of one client, and what each agreed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// When it was last used, and what it agreed on: `None` where two connections with these addresses, one after the
    /// other, agreed on different things, so that an answer could be of either.
    agreed: HashMap<Addresses, (u64, Option<Arc<str>>)>,
    uses: u64,
}

impl Connections {
    /// What the connection agreed on over which an answer with these extensions came.
    pub fn agreed(&self, answer: &Extensions) -> Option<Arc<str>> {
        self.find(addresses(answer)?)
    }

    fn find(&self, addresses: Addresses) -> Option<Arc<str>> {
        self.known(|known| {
            let (used, agreed) = known.agreed.get_mut(&addresses)?;
            *used = known.uses;
            agreed.clone()
        })
    }

    fn note(&self, addresses: Addresses, agreed: Option<Arc<str>>) {
        self.known(|known| {
            let now = known.uses;
            let entry = known.agreed.entry(addresses).or_insert_with(|| (now, agreed.clone()));
            entry.0 = now;
            if entry.1 != agreed {
                entry.1 = None;
            }
            if known.agreed.len() > KNOWN {
                let oldest = known.agreed.iter().min_by_key(|(_, (used, _))| *used).map(|(addresses, _)| *addresses);
                oldest.and_then(|oldest| known.agreed.remove(&oldest));
            }
        });
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        with(&mut known)
    }
}

fn addresses(of: &Extensions) -> Option<Addresses> {
    of.get::<HttpInfo>().map(|info| (info.local_addr(), info.remote_addr()))
}

impl<S> Layer<S> for Connections {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector { inner, connections: self.clone() }
    }
}

/// Makes connections as `inner` does, and notes what each agreed on before it is used.
#[derive(Clone)]
pub(super) struct Connector<S> {
    inner: S,
    connections: Connections,
}

type Connecting<S, R> =
    Pin<Box<dyn Future<Output = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>> + Send>>;

impl<S: Service<R>, R> Service<R> for Connector<S>
where
    S::Future: Send + 'static,
    S::Response: Connection,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Connecting<S, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let (mut connecting, connections) = (Box::pin(self.inner.call(to)), self.connections.clone());
        Box::pin(async move {
            let mut chosen = Chosen::default();
            let connection = poll_fn(|context| chosen.during(|| connecting.as_mut().poll(context))).await?;
            let mut extensions = Extensions::new();
            connection.connected().get_extras(&mut extensions);
            if let Some(addresses) = addresses(&extensions) {
                connections.note(addresses, chosen.text());
            }
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Addresses {
        (SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap())), SocketAddr::from(([127, 0, 0, 1], 443)))
    }

    #[test]
    fn where_an_answer_could_be_of_either_connection_nothing_is_said() {
        let connections = Connections::default();
        for (port, agreed) in [(1, "one"), (1, "one"), (2, "one"), (2, "other"), (2, "other")] {
            connections.note(at(port), Some(agreed.into()));
        }
        assert_eq!((connections.find(at(1)).as_deref(), connections.find(at(2))), (Some("one"), None));
    }

    #[test]
    fn the_connection_that_was_not_used_for_longest_is_forgotten_first() {
        let connections = Connections::default();
        for port in 0..=KNOWN {
            connections.find(at(0));
            connections.note(at(port), Some("agreed".into()));
        }
        assert_eq!(connections.0.lock().unwrap().agreed.len(), KNOWN);
        assert!(connections.find(at(0)).is_some() && connections.find(at(1)).is_none());
    }
}
