//! The circuit against a model that is written another way, and its promises one by one.

use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn circuit() -> Circuit {
    Circuit::restore(CircuitSettings::default(), CircuitMemory::default(), 0)
}

fn fail(circuit: &mut Circuit, now: Timestamp) -> Option<CircuitMemory> {
    let (permit, _) = circuit.begin(now);
    circuit.failed(permit, now, false, None)
}

fn succeed(circuit: &mut Circuit, now: Timestamp) -> Option<CircuitMemory> {
    let (permit, _) = circuit.begin(now);
    circuit.succeeded(permit, now)
}

fn opened(now: Timestamp) -> Circuit {
    let mut circuit = circuit();
    (0..3).for_each(|_| _ = fail(&mut circuit, now));
    assert_eq!(circuit.state(), CircuitState::Open);
    circuit
}

#[test]
fn it_opens_with_the_third_failure_in_a_row_and_a_success_between_starts_the_count_over() {
    let mut circuit = circuit();
    assert!(fail(&mut circuit, T0).is_none() && fail(&mut circuit, T0).is_none());
    assert!(succeed(&mut circuit, T0).is_none());
    assert!(fail(&mut circuit, T0).is_none() && fail(&mut circuit, T0).is_none());
    let memory = fail(&mut circuit, T0).unwrap();
    assert_eq!((memory.state, memory.probe_at, memory.opened_total), (CircuitState::Open, Some(at(30)), 1));
}

#[test]
fn it_opens_when_most_of_at_least_ten_attempts_of_a_minute_failed() {
    let settings = CircuitSettings { failures: 100, ..CircuitSettings::default() };
    let mut circuit = Circuit::restore(settings, CircuitMemory::default(), 0);
    (0..3).for_each(|_| _ = succeed(&mut circuit, at(30)));
    (0..6).for_each(|_| assert!(fail(&mut circuit, at(60)).is_none()));
    assert!(fail(&mut circuit, at(61)).is_some(), "7 of 10");

    let mut circuit = Circuit::restore(settings, CircuitMemory::default(), 0);
    (0..3).for_each(|_| _ = succeed(&mut circuit, at(30)));
    (0..6).for_each(|_| _ = fail(&mut circuit, at(60)));
    assert!(fail(&mut circuit, at(91)).is_none(), "the successes are more than a minute ago: 7 of 7 are too few");
}

#[test]
fn the_open_time_doubles_with_each_failed_probe_up_to_its_bound_and_starts_over_after_a_success() {
    let mut circuit = opened(T0);
    let mut now = T0;
    for expected in [30, 60, 120, 240, 480, 600, 600] {
        assert_eq!(circuit.room(now), Room::Nothing);
        assert_eq!(circuit.wait(now), Duration::from_secs(expected));
        now = now.plus(circuit.wait(now));
        assert_eq!(circuit.room(now), Room::Probe);
        assert!(fail(&mut circuit, now).is_some());
    }
    now = now.plus(circuit.wait(now));
    assert_eq!(succeed(&mut circuit, now).unwrap().state, CircuitState::Closed);
    (0..3).for_each(|_| _ = fail(&mut circuit, now));
    assert_eq!(circuit.wait(now), Duration::from_secs(30));
    assert_eq!(circuit.memory().opened_total, 2);
}

#[test]
fn one_probe_goes_at_a_time_and_what_began_before_the_circuit_opened_decides_nothing() {
    let mut circuit = circuit();
    let (old, _) = circuit.begin(T0);
    (0..3).for_each(|_| _ = fail(&mut circuit, T0));
    assert!(circuit.succeeded(old, T0).is_none(), "an old success does not close it");
    let (probe, change) = circuit.begin(at(30));
    assert_eq!(change.unwrap().state, CircuitState::HalfOpen);
    assert_eq!(circuit.room(at(31)), Room::Nothing);
    assert!(circuit.failed(old, at(31), false, None).is_none(), "an old failure does not open it");
    assert_eq!(circuit.succeeded(probe, at(32)).unwrap().state, CircuitState::Closed);
}

#[test]
fn a_refused_probe_says_nothing_and_another_may_go() {
    let mut circuit = opened(T0);
    let (probe, _) = circuit.begin(at(30));
    circuit.refused(probe);
    assert_eq!((circuit.state(), circuit.room(at(30))), (CircuitState::HalfOpen, Room::Probe));
}

#[test]
fn only_an_operator_ends_what_an_operator_forced() {
    let mut circuit = circuit();
    let (permit, _) = circuit.begin(T0);
    assert_eq!(circuit.order(CircuitOrder::Open, T0).unwrap().state, CircuitState::ForcedOpen);
    assert!(circuit.succeeded(permit, T0).is_none() && circuit.failed(permit, T0, true, None).is_none());
    assert_eq!(circuit.room(at(1_000_000)), Room::Nothing);
    assert!(circuit.order(CircuitOrder::Probe, T0).is_none());
    assert_eq!(circuit.order(CircuitOrder::Close, at(5)).unwrap().state, CircuitState::Closed);
    assert_eq!(circuit.room(at(5)), Room::Free);
}

#[test]
fn what_the_partner_asked_for_puts_the_probe_off_and_an_operator_may_have_it_now() {
    let mut circuit = circuit();
    let (permit, _) = circuit.begin(T0);
    circuit.failed(permit, T0, true, Some(Duration::from_secs(120)));
    assert_eq!(circuit.wait(T0), Duration::from_secs(120));
    circuit.order(CircuitOrder::Probe, T0).unwrap();
    assert_eq!(circuit.room(T0), Room::Probe);
}

#[test]
fn a_restart_keeps_state_and_times_and_asks_again_where_a_probe_was_under_way() {
    let circuit = opened(T0);
    let again = Circuit::restore(CircuitSettings::default(), circuit.memory().clone(), 3);
    assert_eq!((again.state(), again.wait(at(10))), (CircuitState::Open, Duration::from_secs(20)));
    let mut half = circuit;
    half.begin(at(30));
    let again = Circuit::restore(CircuitSettings::default(), half.memory().clone(), 3);
    assert_eq!(again.room(at(30)), Room::Probe);
}

#[test]
fn a_clock_that_is_set_back_puts_a_probe_off_by_no_more_than_the_open_time() {
    let mut circuit = opened(at(3600));
    circuit.look(T0);
    assert_eq!(circuit.wait(T0), Duration::from_secs(30));
    circuit.look(at(30));
    assert_eq!(circuit.room(at(30)), Room::Probe);
}

/// What may happen to a circuit.
#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Begin,
    End(bool),
    Order(CircuitOrder),
}

fn step() -> impl Strategy<Value = Step> {
    let order = prop_oneof![Just(CircuitOrder::Open), Just(CircuitOrder::Close), Just(CircuitOrder::Probe)];
    prop_oneof![
        3 => (0u64..50).prop_map(Step::Wait),
        6 => Just(Step::Begin),
        6 => proptest::bool::weighted(0.4).prop_map(Step::End),
        1 => order.prop_map(Step::Order),
    ]
}

/// The circuit told in another way: a list of what happened since the last change.
#[derive(Debug)]
struct Model {
    state: CircuitState,
    open_for: u64,
    probe_at: u64,
    row: u32,
    results: Vec<(u64, bool)>,
    changes: u64,
}

impl Model {
    fn go(&mut self, state: CircuitState) {
        self.state = state;
        self.changes += 1;
    }

    fn may_begin(&self, now: u64, probe_is_out: bool) -> bool {
        match self.state {
            CircuitState::Closed => true,
            CircuitState::Open => now >= self.probe_at,
            CircuitState::HalfOpen => !probe_is_out,
            CircuitState::ForcedOpen => false,
        }
    }

    fn ended(&mut self, good: bool, now: u64, current: bool) {
        self.row = if good { 0 } else { self.row + 1 };
        if self.state == CircuitState::Closed {
            self.results.push((now, good));
        }
        let slot = now / 5;
        let recent: Vec<bool> =
            self.results.iter().filter(|(then, _)| then / 5 + 12 > slot).map(|(_, good)| *good).collect();
        let bad = recent.iter().filter(|good| !**good).count();
        match (self.state, current) {
            (CircuitState::Closed, true)
                if !good && (self.row >= 3 || (recent.len() >= 10 && bad * 10 >= recent.len() * 7)) =>
            {
                (self.open_for, self.probe_at) = (30, now + 30);
                self.go(CircuitState::Open);
            }
            (CircuitState::HalfOpen, true) if good => {
                self.results.clear();
                self.go(CircuitState::Closed);
            }
            (CircuitState::HalfOpen, true) => {
                self.open_for = (self.open_for * 2).clamp(30, 600);
                self.probe_at = now + self.open_for;
                self.go(CircuitState::Open);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn agrees_with_its_model(steps in proptest::collection::vec(step(), 1..120)) {
        let start = T0.0.cast_unsigned() / 1000;
        let mut circuit = circuit();
        let mut model = Model {
            state: CircuitState::Closed, open_for: 0, probe_at: 0, row: 0, results: Vec::new(), changes: 0,
        };
        let mut now = start;
        let moment = |now: u64| Timestamp((now * 1000).cast_signed());
        let mut out: Vec<(Permit, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Begin => {
                    let probe_is_out = out.iter().any(|(_, changes)| *changes == model.changes);
                    let may = circuit.room(moment(now)) != Room::Nothing;
                    prop_assert_eq!(may, model.may_begin(now, probe_is_out));
                    if may {
                        if model.state == CircuitState::Open {
                            model.go(CircuitState::HalfOpen);
                        }
                        out.push((circuit.begin(moment(now)).0, model.changes));
                    }
                }
                Step::End(good) if !out.is_empty() => {
                    let (permit, changes) = out.remove(0);
                    let change = if good {
                        circuit.succeeded(permit, moment(now))
                    } else {
                        circuit.failed(permit, moment(now), false, None)
                    };
                    let before = model.changes;
                    let current = changes == model.changes;
                    model.ended(good, now, current);
                    prop_assert_eq!(change.is_some(), model.changes > before);
                }
                Step::End(_) => {}
                Step::Order(order) => {
                    circuit.order(order, moment(now));
                    match (order, model.state) {
                        (CircuitOrder::Open, CircuitState::ForcedOpen) | (CircuitOrder::Close, CircuitState::Closed) => {}
                        (CircuitOrder::Open, _) => model.go(CircuitState::ForcedOpen),
                        (CircuitOrder::Close, _) => {
                            (model.row, model.open_for) = (0, 0);
                            model.results.clear();
                            model.go(CircuitState::Closed);
                        }
                        (CircuitOrder::Probe, CircuitState::Open) => model.probe_at = now,
                        (CircuitOrder::Probe, _) => {}
                    }
                }
            }
            prop_assert_eq!(circuit.state(), model.state);
        }
    }
}
