//! A small stage: one recipe with one file on this machine. For everything that needs no server.

use chaos_tests::judge::Acknowledged;
use chaos_tests::node::Node;
use chaos_tests::process::Output;
use chaos_tests::wait;

pub const RECIPE: &str = "drop.sync";
pub const FEED: &str = "grants";

pub struct DropBox {
    pub node: Node,
    pub promised: Vec<Acknowledged>,
}

/// An event's data: an id and an amount whose digits matter.
pub fn data(id: &str) -> String {
    format!(r#"{{"id":"{id}","amount":1250.10}}"#)
}

/// Its row.
pub fn row(id: &str) -> String {
    format!("{id},1250.10\n")
}

impl DropBox {
    pub fn new(node: Node) -> Self {
        let stage = Self { node, promised: Vec::new() };
        std::fs::create_dir(stage.node.path("spool")).expect("the home is writable");
        stage
    }

    /// With the node running the recipe.
    pub fn running() -> Self {
        let mut stage = Self::new(Node::new());
        stage.node.start();
        stage.node.apply(&stage.recipe(""));
        stage
    }

    /// The recipe, with more lines for its target.
    pub fn recipe(&self, more: &str) -> String {
        format!(
            "id: {RECIPE}\nsource:\n  feed: {FEED}\n  fields: [id, amount]\ntargets:\n  - name: spool\n    \
             adapter: file\n    path: {}\n    format: csv\n{more}schedule: every 1h\n",
            self.node.path("spool/grants.csv").display()
        )
    }

    pub fn publish(&mut self, id: &str) {
        let offset = self.node.publish(FEED, id, &data(id));
        self.promised.push(Acknowledged { id: id.to_owned(), offset, key: "one file".to_owned() });
    }

    pub fn run(&self) -> Output {
        self.node.cli(["sync", "run", RECIPE])
    }

    /// The file's text; empty if it is not there.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.node.path("spool/grants.csv")).unwrap_or_default()
    }

    /// Waits until the file reads so. A recovery may have its own pace, a wrong row never goes away.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let arrived = wait::within(wait::DEADLINE, || (self.text() == text).then_some(()));
        assert!(arrived.is_some(), "expected {text:?}, found {:?}", self.text());
    }
}
