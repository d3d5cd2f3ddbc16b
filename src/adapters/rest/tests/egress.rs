//! Where requests are not let to: judged on the address that is about to be connected to, whoever said it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hms_actors::failure::FailureKind;

use super::super::testing::*;
use super::super::*;
use crate::egress::Names;
use crate::recipe::model;

/// The world of a node that was started without `--insecure-loopback`.
fn strict(names: Option<Arc<dyn Names>>, own: OnceLock<SocketAddr>) -> Arc<RestContext> {
    let safe = Safe::default();
    safe.put("GIS_CLIENT_SECRET", "s3cret");
    let open = world(Arc::new(safe), &[], None);
    let rules = Egress::new(None, false, Arc::new(own));
    let egress = match names {
        Some(names) => rules.with_names(names),
        None => rules,
    };
    let RestContext { secrets, connect_to, tls, clock, .. } = &*open;
    let (secrets, connect_to, tls, clock) = (secrets.clone(), connect_to.clone(), tls.clone(), clock.clone());
    Arc::new(RestContext { secrets, connect_to, egress, tls, clock })
}

async fn refusal(target: &RestTarget, context: &Arc<RestContext>) -> String {
    let failure = partner(target, context).send(&request(vec![event("e-1", "{}")])).await.unwrap_err();
    assert_eq!((failure.kind, failure.definite), (FailureKind::Configuration, true), "{failure}");
    failure.message
}

#[tokio::test]
async fn an_address_in_a_url_is_judged_in_any_spelling() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    for host in ["127.0.0.1", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "localhost"] {
        let told = refusal(&target(&format!("http://{host}:{}/", server.port)), &strict(None, OnceLock::new())).await;
        assert!(told.contains("a loopback address") && told.contains("egress"), "{told}");
    }
    assert!(server.seen().is_empty());
}

/// A good address at the first look-up, this machine at all later ones.
struct Rebinding(AtomicUsize);

#[async_trait]
impl Names for Rebinding {
    async fn look_up(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        // Of a network for documentation, which leads nowhere.
        Ok(vec![SocketAddr::new(if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] }.into(), port)])
    }
}

#[tokio::test]
async fn a_name_that_changes_its_address_after_the_judgement_is_judged_again() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let names = Arc::new(Rebinding(AtomicUsize::new(0)));
    let context = strict(Some(names.clone()), OnceLock::new());
    let way = crate::egress::Way::new("gis.vdot.gov", server.port, &context.connect_to);
    let found = context.egress.look_up(&way).await.unwrap();
    assert!(context.egress.permit(&way, found).is_ok());
    let told = refusal(&target(&format!("http://gis.vdot.gov:{}/", server.port)), &context).await;
    assert!(told.contains("`gis.vdot.gov:"), "{told}");
    assert_eq!(names.0.load(Ordering::SeqCst), 2, "what is judged is what is connected to");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_way_to_a_token_is_judged_too_and_no_secret_leaves() {
    let server = Server::answering(vec![answer(200, "", r#"{"access_token":"t"}"#)]).await;
    let auth = model::Auth::OAuth2ClientCredentials {
        token_url: server.url("/token"),
        client_id: "hms".into(),
        scope: None,
        audience: None,
        secret: None,
    };
    let target = RestTarget { auth: Some(auth), ..target("http://192.0.2.1/") };
    let told = refusal(&target, &strict(None, OnceLock::new())).await;
    assert!(told.starts_with("token: ") && told.contains("a loopback address"), "{told}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_node_does_not_talk_to_its_own_endpoint_even_where_loopback_is_allowed() {
    let server = Server::answering(vec![answer(200, "", "")]).await;
    let own = OnceLock::from(SocketAddr::from(([127, 0, 0, 1], server.port)));
    let open = world(Arc::default(), &[("gis.vdot.gov", 80, server.port)], None);
    let RestContext { secrets, connect_to, tls, clock, .. } = &*open;
    let egress = Egress::new(None, true, Arc::new(own));
    let (secrets, connect_to, tls, clock) = (secrets.clone(), connect_to.clone(), tls.clone(), clock.clone());
    let context = Arc::new(RestContext { secrets, connect_to, egress, tls, clock });
    let told = refusal(&target("http://gis.vdot.gov/"), &context).await;
    assert!(told.contains("where this node itself listens"), "{told}");
    assert!(server.seen().is_empty());
}
