//! The stage of the seed's walk-through: its recipe, its GIS over HTTPS and its mainframe's SFTP server.

use std::path::Path;

use chaos_tests::authority::Authority;
use chaos_tests::judge::{Acknowledged, Evidence, FileCopy, Guarantee, Request, Target, World, judge};
use chaos_tests::node::Node;
use chaos_tests::partners::https::HttpPartner;
use chaos_tests::partners::sshd::Sshd;

pub const RECIPE: &str = "vdot.bridge_grant.sync";
pub const FEED: &str = "grants.bridge_repair.updated";
pub const GIS_KEY: &str = "k-5f2c-of-the-map";

pub struct Bridge {
    pub node: Node,
    pub authority: Authority,
    pub gis: HttpPartner,
    pub finance: Sshd,
    pub promised: Vec<Acknowledged>,
}

/// The seed's recipe, byte for byte.
pub fn recipe() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/vdot.bridge_grant.sync.yaml");
    std::fs::read_to_string(path).expect("the seed's recipe is in recipes/")
}

/// The data of a grant whose id is the event's too.
pub fn grant(id: &str) -> String {
    format!(r#"{{"grant_id":"{id}","status":"Approved","amount_usd":125000,"lat":37.5,"lon":-78.4}}"#)
}

/// The row that COBOL gets of it.
pub fn row(id: &str) -> String {
    format!("{id},Approved,125000,37.5,-78.4\n")
}

impl Bridge {
    /// Partners that are up and a node that knows them, its secrets in place, not started yet.
    pub fn new(mut node: Node) -> Self {
        let authority = Authority::new();
        let gis = HttpPartner::tls(authority.server("gis.vdot.gov"));
        let finance = Sshd::new();
        node.settings(&format!(
            "connect_to:\n  gis.vdot.gov:443: 127.0.0.1:{}\n  finance.state.vt.gov:22: 127.0.0.1:{}\n\
             tls_ca_file: {}\nknown_hosts: {}\nsecrets_dir: {}\n",
            gis.port(),
            finance.port(),
            node.file("extra-roots.pem", &authority.pem()).display(),
            node.file("known_hosts", &finance.known_as("finance.state.vt.gov")).display(),
            node.path("secrets").display(),
        ));
        node.file("secrets/COBOL_FINANCE_SSH_KEY", &finance.client_key());
        node.env("GIS_KEY", GIS_KEY);
        Self { node, authority, gis, finance, promised: Vec::new() }
    }

    /// The same, with the node running the seed's recipe.
    pub fn running() -> Self {
        let mut bridge = Self::new(Node::new());
        bridge.node.start().apply(&recipe());
        bridge
    }

    pub fn publish(&mut self, id: &str) {
        let offset = self.node.publish(FEED, id, &grant(id));
        self.promised.push(Acknowledged { id: id.to_owned(), offset, key: id.to_owned() });
    }

    /// What COBOL has, over all days in order.
    pub fn csv(&self) -> String {
        let read = |name: String| self.finance.text(&format!("/inbox/{name}")).expect("it was listed");
        self.finance.names("/inbox").into_iter().map(read).collect()
    }

    /// Everything acknowledged is with both partners, once; the map may also have got a request twice.
    #[track_caller]
    pub fn judge(&self, gis: Guarantee) {
        let requests = self.gis.received().iter().map(Request::from).collect();
        let read = |name: String| {
            let path = format!("/inbox/{name}");
            let bytes = self.finance.text(&path).expect("it was listed").into_bytes();
            FileCopy { path, bytes, ..FileCopy::default() }
        };
        let files = self.finance.names("/inbox").into_iter().map(read).collect();
        let targets = vec![
            Target::new(RECIPE, "vdot_gis", gis, Evidence::Requests(requests)),
            Target::new(RECIPE, "cobol_finance", Guarantee::ExactlyOnce, Evidence::Files(files)),
        ];
        let world =
            World { acknowledged: self.promised.clone(), targets, audit: self.node.audit(), ..World::default() };
        assert_eq!(judge(&world), []);
    }
}
