//! `hms circuit`: how each target is, what to do about it, and an operator's orders. The words are in `list`, `show`
//! and `advice`; here is the grammar, and what is asked of the node.

mod advice;
mod list;
mod show;

use clap::{Args, Subcommand, ValueEnum};
use hms_actors::id::{RecipeId, TargetName};

use super::ages::now;
use super::client::{Call, Client, Connection, parse};
use super::{Error, render};
use crate::admin::views::{
    ActorView, CircuitAction, CircuitList, CircuitOrder, CircuitState, DeadLetterList, SupervisionView, TargetView,
    TicketList,
};

const EXAMPLES: &str = "\
Examples:
  hms circuit list                                               the worst first
  hms circuit show vdot.bridge_grant.sync cobol_finance          how it is, and what to do next
  hms circuit open vdot.bridge_grant.sync cobol_finance --note 'their maintenance until 6'
  hms circuit close vdot.bridge_grant.sync cobol_finance";

/// Circuits: whether traffic flows to each target
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Circuit {
    #[command(subcommand)]
    command: CircuitCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum CircuitCommand {
    /// All targets, the worst first
    List {
        /// Only this recipe's
        #[arg(long, value_parser = RecipeId::parse)]
        recipe: Option<RecipeId>,
        /// Only those in this state
        #[arg(long)]
        state: Option<State>,
    },
    /// One target in words, and what to do next
    Show(Target),
    /// Send nothing until it is closed again, whatever the partner does; what waits goes on waiting
    Open(Order),
    /// Let traffic flow
    Close(Order),
    /// Send one delivery now, to see whether the partner is back
    Probe(Order),
}

#[derive(Debug, Args)]
struct Target {
    #[arg(value_parser = RecipeId::parse)]
    recipe: RecipeId,
    #[arg(value_parser = TargetName::parse)]
    target: TargetName,
}

#[derive(Debug, Args)]
struct Order {
    #[command(flatten)]
    target: Target,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// As the endpoint names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum State {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
}

impl Circuit {
    pub async fn run(self) -> Result<(), Error> {
        let client = self.connection.client()?;
        let json = self.connection.json;
        match self.command {
            CircuitCommand::List { recipe, state } => list(&client, recipe, state, json).await,
            CircuitCommand::Show(target) => show(&client, &target, json).await,
            CircuitCommand::Open(order) => give(&client, CircuitAction::Open, order, json).await,
            CircuitCommand::Close(order) => give(&client, CircuitAction::Close, order, json).await,
            CircuitCommand::Probe(order) => give(&client, CircuitAction::Probe, order, json).await,
        }
    }
}

impl Target {
    fn path(&self) -> String {
        format!("/v1/recipes/{}/targets/{}", self.recipe, self.target)
    }
}

async fn list(client: &Client, recipe: Option<RecipeId>, state: Option<State>, json: bool) -> Result<(), Error> {
    let state = state.and_then(|state| Some(state.to_possible_value()?.get_name().to_owned()));
    let recipe = recipe.map(String::from);
    let path = render::path("/v1/circuits", &[("recipe", recipe), ("state", state)]);
    let body = client.accepted(Call::get(path)).await?;
    if json {
        return render::json(&body);
    }
    let CircuitList { circuits } = parse(&body)?;
    render::text(&list::text(circuits, now(), render::page()))
}

async fn show(client: &Client, target: &Target, json: bool) -> Result<(), Error> {
    let body = client.accepted(Call::get(target.path())).await?;
    if json {
        return render::json(&body);
    }
    let view: TargetView = parse(&body)?;
    let of = format!("recipe={}&target={}", target.recipe, target.target);
    let TicketList { tickets } = parse(&client.accepted(Call::get(format!("/v1/tickets?state=open&{of}"))).await?)?;
    let letters: DeadLetterList = parse(&client.accepted(Call::get(format!("/v1/dead-letters?{of}"))).await?)?;
    let SupervisionView { supervision } = parse(&client.accepted(Call::get("/v1/supervision")).await?)?;
    let around = advice::Around { tickets, letters, actor: actor(supervision, target) };
    render::text(&show::text(&view, &around, now(), render::page()))
}

/// The target's delivery in the tree.
fn actor(node: ActorView, target: &Target) -> Option<ActorView> {
    let mut supervisors = node.children.into_iter();
    let supervisor = supervisors.find(|supervisor| supervisor.name == target.recipe.as_str())?;
    let is_it = |child: &ActorView| {
        child.kind == crate::admin::views::ActorKind::Delivery && child.name == target.target.as_str()
    };
    supervisor.children.into_iter().find(is_it)
}

async fn give(client: &Client, action: CircuitAction, order: Order, json: bool) -> Result<(), Error> {
    let Order { target, note } = order;
    let body = serde_json::to_vec(&CircuitOrder { action, note }).map_err(|error| Error::Failed(error.to_string()))?;
    let call = Call::post(format!("{}/circuit", target.path())).body("application/json", body);
    let answer = client.accepted(call).await?;
    if json {
        return render::json(&answer);
    }
    render::line(&done(action, &target, &parse(&answer)?))
}

/// What an order has done.
fn done(action: CircuitAction, Target { recipe, target }: &Target, view: &TargetView) -> String {
    let name = format!("{recipe}/{target}");
    match (action, view.state) {
        (CircuitAction::Probe, CircuitState::Closed) => format!("{name} is closed: traffic flows"),
        (CircuitAction::Probe, _) => {
            format!("{name}: one delivery goes as the probe; `hms circuit show {recipe} {target}` says how it went")
        }
        (_, CircuitState::ForcedOpen) => {
            format!("{name} is forced open: nothing is sent until `hms circuit close {recipe} {target}`")
        }
        (_, CircuitState::Closed) => format!("{name} is closed: traffic flows"),
        (_, CircuitState::Open | CircuitState::HalfOpen) => format!("{name} is {}", list::word(view.state)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::views::{Activity, Guarantee, MailboxView, Moment};
    use crate::cli::scripted;
    use hms_actors::id::Timestamp;

    /// The moment at which the tests look.
    pub const NOW: Timestamp = Timestamp(1_763_950_000_000);

    pub fn ago(seconds: i64) -> Moment {
        Moment(Timestamp(NOW.0 - seconds * 1000))
    }

    /// A target to which traffic flows.
    pub fn target(recipe: &str, name: &str) -> TargetView {
        TargetView {
            recipe: recipe.to_owned(),
            target: name.to_owned(),
            adapter: "sftp".to_owned(),
            state: CircuitState::Closed,
            since: ago(90_000),
            consecutive_failures: 0,
            opened_total: 0,
            next_probe_at: None,
            last_error: None,
            checkpoint: 4_711,
            backlog: 0,
            oldest_waiting_at: None,
            in_flight: 0,
            mailbox: MailboxView { depth: 0, capacity: 16 },
            rate_limit: None,
            restarts: 0,
            guarantee: Guarantee::ExactlyOnce,
            activity: Activity::Idle,
            next_attempt_at: None,
            held_by_ticket: None,
        }
    }

    fn order(note: Option<&str>) -> Order {
        let target = Target { recipe: RecipeId::parse("a.sync").unwrap(), target: TargetName::parse("gis").unwrap() };
        Order { target, note: note.map(str::to_owned) }
    }

    #[tokio::test]
    async fn an_order_goes_to_the_target_with_its_note() {
        let body = serde_json::to_string(&TargetView { state: CircuitState::ForcedOpen, ..target("a.sync", "gis") });
        let (client, requests) = scripted::node(vec![Some((200, body.unwrap().leak()))]);
        give(&client, CircuitAction::Open, order(Some("upgrade")), false).await.expect("is taken");
        assert_eq!(
            requests.recv().expect("a request"),
            "POST /v1/recipes/a.sync/targets/gis/circuit HTTP/1.1\n{\"action\":\"open\",\"note\":\"upgrade\"}"
        );
    }

    #[tokio::test]
    async fn a_refused_order_is_told_in_the_words_of_the_node() {
        let (client, _) = scripted::node(vec![Some((409, r#"{"detail":"ticket 1 holds it"}"#))]);
        let error = give(&client, CircuitAction::Close, order(None), false).await.expect_err("is refused");
        assert!(matches!(&error, Error::Refused(why) if why == "ticket 1 holds it"), "{error:?}");
    }

    #[tokio::test]
    async fn the_list_asks_for_what_was_asked() {
        let (client, requests) = scripted::node(vec![Some((200, r#"{"circuits":[]}"#))]);
        let recipe = RecipeId::parse("a.sync").ok();
        list(&client, recipe, Some(State::HalfOpen), false).await.expect("is answered");
        let asked = requests.recv().expect("a request");
        assert_eq!(asked, "GET /v1/circuits?recipe=a.sync&state=half_open HTTP/1.1\n");
    }

    #[test]
    fn what_an_order_did_is_said_with_what_ends_it() {
        let said = |action, state| done(action, &order(None).target, &TargetView { state, ..target("a.sync", "gis") });
        assert_eq!(
            said(CircuitAction::Open, CircuitState::ForcedOpen),
            "a.sync/gis is forced open: nothing is sent until `hms circuit close a.sync gis`"
        );
        assert_eq!(said(CircuitAction::Close, CircuitState::Closed), "a.sync/gis is closed: traffic flows");
        assert!(said(CircuitAction::Probe, CircuitState::Open).contains("hms circuit show a.sync gis"));
    }
}
