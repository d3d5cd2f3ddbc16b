//! The node's metrics, in Prometheus' words. Handles are kept, because looking one up costs ten times what
//! counting does; what can be derived (backlog, tickets) is set when somebody looks.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hms_actors::failure::FailureKind;
use hms_actors::id::{RecipeId, TargetKey, TargetName};
use hms_actors::policy::circuit::CircuitState;
use hms_actors::settings::LATE;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::access::Refusal;

const SUCCESS: &str = "sync_success_total";
const FAIL: &str = "sync_fail_total";
const ATTEMPTS: &str = "sync_attempts_total";
const DELIVERY: &str = "sync_delivery_seconds";
const DELAYED: &str = "sync_late_total";
const BACKLOG: &str = "sync_backlog_events";
const CIRCUIT: &str = "sync_circuit_state";
const OPENED: &str = "sync_circuit_opened_total";
const RESTARTS: &str = "sync_actor_restarts_total";
const TICKETS: &str = "sync_tickets_open";
const DEAD_LETTERS: &str = "sync_dead_letters";
const PUBLISH: &str = "sync_publish_seconds";
const SIGNED: &str = "hms_audit_signed_records";
const ANCHORED: &str = "hms_audit_anchored_records";
const UNANCHORED: &str = "hms_audit_anchor_fail_total";
const REFUSED: &str = "hms_admin_refused_total";
const BUILD: &str = "hms_build_info";

static METADATA: Metadata<'static> = Metadata::new("hms_sync", Level::INFO, None);

/// Actors of a recipe that are no target's delivery, as supervisors name them.
const OF_THE_RECIPE: [&str; 2] = ["feed_reader", "recipe_supervisor"];

/// Up to the promised minute finely, beyond it coarsely.
const DELIVERY_BUCKETS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 300.0, 3600.0, 86400.0];
const PUBLISH_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    publish: Histogram,
    targets: Mutex<HashMap<TargetKey, Target>>,
}

struct Target {
    success: Counter,
    late: Counter,
    delivery: Histogram,
    delivered: Counter,
    backlog: Gauge,
    circuit: Gauge,
    opened: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let buckets = |builder: PrometheusBuilder, name: &str, values: &[f64]| {
            let matcher = Matcher::Full(name.to_owned());
            builder.set_buckets_for_metric(matcher, values).expect("the list of buckets is not empty")
        };
        let builder = buckets(PrometheusBuilder::new(), DELIVERY, &DELIVERY_BUCKETS);
        let recorder = buckets(builder, PUBLISH, &PUBLISH_BUCKETS).build_recorder();
        describe(&recorder);
        let build = Key::from_parts(BUILD, vec![Label::new("version", env!("CARGO_PKG_VERSION"))]);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let publish = recorder.register_histogram(&Key::from_name(PUBLISH), &METADATA);
        let metrics = Self { handle: recorder.handle(), recorder, process, publish, targets: Mutex::default() };
        Refusal::ALL.into_iter().for_each(|why| metrics.refusals(why).increment(0));
        metrics
    }

    /// One publish request was accepted, after this long.
    pub fn published(&self, took: Duration) {
        self.publish.record(took.as_secs_f64());
    }

    pub fn attempted(&self, key: &TargetKey, failure: Option<FailureKind>, events: u64) {
        match failure {
            None => self.of(key, |target| target.delivered.increment(1)),
            Some(kind) => {
                self.counter(ATTEMPTS, labels(key, Some(("outcome", kind.as_str())))).increment(1);
                self.counter(FAIL, labels(key, Some(("kind", kind.as_str())))).increment(events);
            }
        }
    }

    /// Policies said no to so many events: no attempt was made.
    pub fn blocked(&self, key: &TargetKey, events: u64) {
        let kind = FailureKind::Blocked.as_str();
        self.counter(FAIL, labels(key, Some(("kind", kind)))).increment(events);
    }

    pub fn delivered(&self, key: &TargetKey, waited: Duration, events: u64) {
        self.of(key, |target| {
            target.success.increment(events);
            target.delivery.record_many(waited.as_secs_f64(), usize::try_from(events).unwrap_or(usize::MAX));
            if waited > LATE {
                target.late.increment(events);
            }
        });
    }

    pub fn restarted(&self, recipe: &RecipeId, actor: &str) {
        let labels = vec![Label::new("recipe", recipe.to_string()), Label::new("actor", actor.to_owned())];
        self.counter(RESTARTS, labels).increment(1);
    }

    /// There is such an actor: it is shown before it was ever started again.
    pub fn watched(&self, recipe: &RecipeId, actor: &str) {
        let labels = vec![Label::new("recipe", recipe.to_string()), Label::new("actor", actor.to_owned())];
        self.counter(RESTARTS, labels).increment(0);
    }

    /// What is derived when somebody looks.
    pub fn set_backlog(&self, key: &TargetKey, events: u64) {
        self.of(key, |target| target.backlog.set(events as f64));
    }

    /// `opened` is how often it went from closed to open, ever: what is stored of the circuit says it.
    pub fn set_circuit(&self, key: &TargetKey, state: CircuitState, opened: u64) {
        let number = match state {
            CircuitState::Closed => 0.0,
            CircuitState::HalfOpen => 1.0,
            CircuitState::Open | CircuitState::ForcedOpen => 2.0,
        };
        self.of(key, |target| {
            target.circuit.set(number);
            target.opened.absolute(opened);
        });
    }

    /// The targets that there are: series of others are no longer shown. One that comes back counts on.
    pub fn keep_only(&self, targets: &HashSet<TargetKey>) {
        self.lock().retain(|key, _| targets.contains(key));
    }

    pub fn set_open(&self, tickets: usize, dead_letters: usize) {
        self.gauge(TICKETS).set(tickets as f64);
        self.gauge(DEAD_LETTERS).set(dead_letters as f64);
    }

    /// The records that the last checkpoint of the audit covers.
    pub fn set_signed(&self, records: u64) {
        self.gauge(SIGNED).set(records as f64);
    }

    /// There is such an anchor, and since when it was told it has a checkpoint of so many records.
    pub fn anchored(&self, anchor: &str, records: Option<u64>) {
        let label = || vec![Label::new("anchor", anchor.to_owned())];
        self.counter(UNANCHORED, label()).increment(0);
        let gauge = self.recorder.register_gauge(&Key::from_parts(ANCHORED, label()), &METADATA);
        gauge.set(records.unwrap_or(0) as f64);
    }

    pub fn anchor_failed(&self, anchor: &str) {
        self.counter(UNANCHORED, vec![Label::new("anchor", anchor.to_owned())]).increment(1);
    }

    /// A request did not pass the door.
    pub fn refused(&self, why: Refusal) {
        self.refusals(why).increment(1);
    }

    /// Adds up what was measured since the last time: until then each value is kept.
    pub fn tidy(&self) {
        self.handle.run_upkeep();
    }

    /// The text for `/metrics`.
    pub fn render(&self) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        self.tidy();
        let text = self.handle.render();
        let targets = self.lock();
        let mut kept = String::with_capacity(text.len());
        kept.extend(text.split_inclusive('\n').filter(|line| is_of_those(line, &targets)));
        kept
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TargetKey, Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to a target's series.
    fn of(&self, key: &TargetKey, count: impl FnOnce(&Target)) {
        let mut targets = self.lock();
        match targets.get(key) {
            Some(target) => count(target),
            None => count(targets.entry(key.clone()).or_insert(self.series(key))),
        }
    }

    fn series(&self, key: &TargetKey) -> Target {
        let keyed = |name: &'static str| Key::from_parts(name, labels(key, None));
        Target {
            success: self.counter(SUCCESS, labels(key, None)),
            late: self.counter(DELAYED, labels(key, None)),
            delivery: self.recorder.register_histogram(&keyed(DELIVERY), &METADATA),
            delivered: self.counter(ATTEMPTS, labels(key, Some(("outcome", "success")))),
            backlog: self.recorder.register_gauge(&keyed(BACKLOG), &METADATA),
            circuit: self.recorder.register_gauge(&keyed(CIRCUIT), &METADATA),
            opened: self.counter(OPENED, labels(key, None)),
        }
    }

    fn refusals(&self, why: Refusal) -> Counter {
        self.counter(REFUSED, vec![Label::from_static_parts("reason", why.as_str())])
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.recorder.register_gauge(&Key::from_name(name), &METADATA)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a line speaks of one of these targets, or of none at all. The exporter can't forget a single series.
/// An actor is a target's delivery, or one that its recipe has whatever its targets are.
fn is_of_those(line: &str, targets: &HashMap<TargetKey, Target>) -> bool {
    // Names need no escaping, so a label's value ends at the next quote.
    let label = |name: &str| line.split_once(&format!("{name}=\""))?.1.split('"').next();
    let Some(recipe) = label("{recipe").filter(|_| !line.starts_with('#')) else { return true };
    let Some(name) = label(",target").or_else(|| label(",actor").filter(|actor| !OF_THE_RECIPE.contains(actor))) else {
        return targets.keys().any(|key| key.recipe.as_str() == recipe);
    };
    let key = RecipeId::parse(recipe).ok().zip(TargetName::parse(name).ok());
    key.is_some_and(|(recipe, target)| targets.contains_key(&TargetKey { recipe, target }))
}

fn labels(key: &TargetKey, more: Option<(&'static str, &'static str)>) -> Vec<Label> {
    let mut labels = vec![Label::new("recipe", key.recipe.to_string()), Label::new("target", key.target.to_string())];
    labels.extend(more.map(|(name, value)| Label::from_static_parts(name, value)));
    labels
}

fn describe(recorder: &PrometheusRecorder) {
    let name = KeyName::from_const_str;
    recorder.describe_counter(name(SUCCESS), None, "Events delivered".into());
    recorder.describe_counter(
        name(FAIL),
        None,
        "Events in failed attempts, by kind of failure; `blocked` are those that a policy said no to".into(),
    );
    recorder.describe_counter(name(ATTEMPTS), None, "Attempts at a delivery, by outcome".into());
    recorder.describe_histogram(name(DELIVERY), Some(Unit::Seconds), "From publication to delivery".into());
    recorder.describe_counter(name(DELAYED), None, "Events delivered more than 60 s after publication".into());
    recorder.describe_gauge(name(BACKLOG), None, "Events that wait".into());
    recorder.describe_gauge(name(CIRCUIT), None, "Circuit: 0 closed, 1 half-open, 2 open or forced open".into());
    recorder.describe_counter(name(OPENED), None, "How often a circuit went from closed to open".into());
    recorder.describe_counter(name(RESTARTS), None, "Actors that were started again".into());
    recorder.describe_gauge(name(TICKETS), None, "Human tickets that are open".into());
    recorder.describe_gauge(name(DEAD_LETTERS), None, "Dead letters that are kept".into());
    recorder.describe_histogram(name(PUBLISH), Some(Unit::Seconds), "Time to accept a publish request".into());
    recorder.describe_gauge(name(SIGNED), None, "Audit records that the last checkpoint covers".into());
    recorder.describe_gauge(name(ANCHORED), None, "Audit records that an anchor has a checkpoint of".into());
    recorder.describe_counter(name(UNANCHORED), None, "Attempts to tell an anchor that failed".into());
    recorder.describe_counter(name(REFUSED), None, "Requests that the admin endpoint did not let in, by reason".into());
    recorder.describe_gauge(name(BUILD), None, "The version that runs".into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(recipe: &str, name: &str) -> TargetKey {
        TargetKey { recipe: RecipeId::parse(recipe).unwrap(), target: TargetName::parse(name).unwrap() }
    }

    #[test]
    fn every_series_has_help_and_the_promised_name() {
        let metrics = Metrics::new();
        let key = target("a.sync", "gis");
        metrics.set_circuit(&key, CircuitState::ForcedOpen, 4);
        metrics.delivered(&key, Duration::from_secs(61), 1);
        metrics.attempted(&key, None, 1);
        metrics.attempted(&key, Some(FailureKind::Transient), 3);
        metrics.set_backlog(&key, 7);
        metrics.set_open(1, 2);
        metrics.published(Duration::from_millis(2));
        metrics.restarted(&key.recipe, "gis");
        metrics.refused(Refusal::UnknownToken);
        let text = metrics.render();
        for line in [
            r#"sync_success_total{recipe="a.sync",target="gis"} 1"#,
            r#"sync_late_total{recipe="a.sync",target="gis"} 1"#,
            r#"sync_fail_total{recipe="a.sync",target="gis",kind="transient"} 3"#,
            r#"sync_attempts_total{recipe="a.sync",target="gis",outcome="success"} 1"#,
            r#"sync_backlog_events{recipe="a.sync",target="gis"} 7"#,
            r#"sync_delivery_seconds_bucket{recipe="a.sync",target="gis",le="300"} 1"#,
            r#"sync_circuit_state{recipe="a.sync",target="gis"} 2"#,
            r#"sync_circuit_opened_total{recipe="a.sync",target="gis"} 4"#,
            "sync_tickets_open 1",
            "sync_dead_letters 2",
            r#"sync_actor_restarts_total{recipe="a.sync",actor="gis"} 1"#,
            r#"hms_admin_refused_total{reason="unknown_token"} 1"#,
            r#"hms_admin_refused_total{reason="throttled"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        for series in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let name = series.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }

    #[test]
    fn a_circuit_is_a_number_that_grows_worse_and_its_count_is_the_one_that_is_stored() {
        let metrics = Metrics::new();
        let key = target("a.sync", "gis");
        for (state, number) in [
            (CircuitState::Closed, 0),
            (CircuitState::HalfOpen, 1),
            (CircuitState::Open, 2),
            (CircuitState::ForcedOpen, 2),
        ] {
            metrics.set_circuit(&key, state, 7);
            let text = metrics.render();
            let line = format!("sync_circuit_state{{recipe=\"a.sync\",target=\"gis\"}} {number}\n");
            assert!(text.contains(&line), "{line} is missing in\n{text}");
            assert!(text.contains("sync_circuit_opened_total{recipe=\"a.sync\",target=\"gis\"} 7\n"), "{text}");
        }
    }

    #[test]
    fn series_of_removed_targets_go_away_and_those_of_others_stay() {
        let metrics = Metrics::new();
        let (stays, goes, other) = (target("a.sync", "gis"), target("a.sync", "gone"), target("b.sync", "gis"));
        for key in [&stays, &goes, &other] {
            metrics.set_circuit(key, CircuitState::Open, 1);
            metrics.delivered(key, Duration::from_secs(1), 1);
            metrics.attempted(key, Some(FailureKind::Transient), 1);
            metrics.restarted(&key.recipe, key.target.as_str());
            metrics.restarted(&key.recipe, "feed_reader");
        }
        metrics.set_open(1, 1);
        let all = metrics.render();
        metrics.keep_only(&HashSet::from([stays.clone()]));
        let left = metrics.render();
        assert!(!left.contains("\"gone\"") && !left.contains("\"b.sync\""), "{left}");
        let of_it = |text: &str| text.lines().filter(|line| line.contains("{recipe=\"a.sync\",target=\"gis\"")).count();
        assert_eq!(of_it(&left), of_it(&all));
        for line in [
            "{recipe=\"a.sync\",actor=\"gis\"} 1",
            "{recipe=\"a.sync\",actor=\"feed_reader\"} 2",
            "sync_tickets_open 1",
        ] {
            assert!(left.contains(line), "{line} is missing in\n{left}");
        }
        // What comes back counts on: a counter never goes down.
        metrics.delivered(&goes, Duration::from_secs(1), 1);
        assert!(metrics.render().contains("sync_success_total{recipe=\"a.sync\",target=\"gone\"} 2"));
    }
}
