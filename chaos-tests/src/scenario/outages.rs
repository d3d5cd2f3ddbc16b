//! Partners that are down, hang, answer slowly or nonsense, behind networks that do what networks do; and the
//! others, which must not notice.

use std::time::Duration;

use super::Scenario;
use super::actor::{Kind, Role};
use super::kills::one_of_each;
use super::schedule::{Dice, Fault, Schedule, Step, fault, heal};
use super::stage::Cast;
use crate::judge::Circuit;
use crate::proxy::{Fault as Network, Towards};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "partners-down-by-turns",
        about: "Each partner goes down in the middle of deliveries and comes back.",
        rounds: 6,
        cast: || Cast::new(one_of_each()),
        schedule: down_by_turns,
        must_find: &[],
    },
    Scenario {
        name: "partner-down-for-long",
        about: "Partners are down while a backlog grows, also over a restart; the others do not notice.",
        rounds: 5,
        cast: || Cast::new([ill("requests", Kind::Honours), ill("mainframe", Kind::Sftp), well("well"), well_file()]),
        schedule: down_for_long,
        must_find: &[],
    },
    Scenario {
        name: "partner-hangs",
        about: "Partners take what is sent and never answer; the others do not notice.",
        rounds: 2,
        cast: || Cast::new([ill("requests", Kind::Honours), ill("mainframe", Kind::Sftp), well("well"), well_file()]),
        schedule: |dice, rounds| ill_by(dice, rounds, &["requests", "mainframe"], &Fault::Hang),
        must_find: &[],
    },
    Scenario {
        name: "partner-is-a-tarpit",
        about: "A partner fails with an answer whose body never ends; the others do not notice.",
        rounds: 2,
        cast: || Cast::new([Role::new("tarpit", Kind::Honours).with("timeout: 1s"), well("well")]),
        schedule: |dice, rounds| ill_by(dice, rounds, &["tarpit"], &Fault::Tarpit),
        must_find: &[],
    },
    Scenario {
        name: "partner-flaps",
        about: "A partner answers some requests and fails others; the others do not notice.",
        rounds: 6,
        cast: || Cast::new([Role::new("flaps", Kind::Honours), well("well")]),
        schedule: flaps,
        must_find: &[],
    },
    Scenario {
        name: "network-fails-in-every-way",
        about: "Between node and partners: refused, reset, late, slow, silent, cut off, garbled.",
        rounds: 10,
        cast: || {
            let hasty = |name, kind| Role::new(name, kind).with("timeout: 1s");
            let roles = [("keeps_keys", Kind::Honours), ("ignores_keys", Kind::Ignores), ("mainframe", Kind::Sftp)];
            Cast::new(roles.map(|(name, kind)| hasty(name, kind)))
        },
        schedule: network,
        must_find: &[],
    },
    Scenario {
        name: "ten-of-twenty",
        about: "Of 20 targets 10 are down, hanging, refusing, garbling or panicking; the other 10 do not notice.",
        rounds: 4,
        cast: || Cast::new((0..20).map(twentieth)).with_fault_points(),
        schedule: ten_of_twenty,
        must_find: &[],
    },
];

/// A target whose partner will be ill for long enough to open the circuit.
fn ill(name: &str, kind: Kind) -> Role {
    Role::new(name, kind).with("timeout: 1s").expecting(|end| end.circuit = Circuit::Recovered)
}

fn well(name: &str) -> Role {
    Role::new(name, Kind::Honours).expecting(undisturbed)
}

fn well_file() -> Role {
    Role::new("well_file", Kind::File).expecting(undisturbed)
}

fn undisturbed(end: &mut crate::judge::Expected) {
    end.circuit = Circuit::Undisturbed;
    end.tickets = Some([].into());
}

fn down_by_turns(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let target = *dice.one_of(&["keeps_keys", "ignores_keys", "mainframe"]);
        let outage =
            [dice.burst(), dice.wait(0..=100), fault(target, Fault::Down), dice.burst(), dice.wait(100..=1500)];
        outage.into_iter().chain([heal(target)]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

fn down_for_long(dice: &mut Dice, rounds: u32) -> Schedule {
    let down = ["requests", "mainframe"].map(|target| fault(target, Fault::Down));
    let round = |_| [dice.burst(), dice.wait(600..=1200), Step::Run];
    let outage: Vec<Step> = (0..rounds).flat_map(round).collect();
    let restart = [Step::Kill, Step::Start, dice.burst(), Step::Wait(1500)];
    let back = [heal("requests"), heal("mainframe"), dice.burst(), Step::Settle];
    Schedule(vec![dice.burst()]).then(down).then(outage).then(restart).then(back)
}

/// All of them are ill in one way, until their circuits are open.
fn ill_by(dice: &mut Dice, rounds: u32, targets: &[&str], what: &Fault) -> Schedule {
    let round = |_| {
        let ill = targets.iter().map(|target| fault(target, what.clone()));
        let opened = targets.iter().map(|target| Step::Opened((*target).to_owned()));
        let later = [dice.wait(0..=1000), dice.burst()];
        ill.chain([dice.burst()])
            .chain(opened)
            .chain(later)
            .chain(targets.iter().map(|target| heal(target)))
            .chain([Step::Settle])
            .collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect()
}

fn flaps(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let every = u32::try_from(dice.number(1..=3)).unwrap_or(1);
        [fault("flaps", Fault::Flap(every)), dice.burst(), dice.wait(50..=400), heal("flaps"), dice.burst()]
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

fn network(dice: &mut Dice, rounds: u32) -> Schedule {
    let round = |_| {
        let target = *dice.one_of(&["keeps_keys", "ignores_keys", "mainframe"]);
        let (towards, weather) = weather(dice);
        let before = [dice.burst(), dice.wait(0..=50), fault(target, Fault::Network(towards, weather))];
        before.into_iter().chain([dice.burst(), dice.wait(200..=1500), heal(target)]).collect::<Vec<_>>()
    };
    (0..rounds).flat_map(round).collect::<Schedule>().then([Step::Settle])
}

/// Garbage goes towards the node only: a partner without TLS would take it for what was sent.
fn weather(dice: &mut Dice) -> (Towards, Network) {
    let milliseconds = |number| Duration::from_millis(number);
    let fault = match dice.number(0..=8) {
        0 => Network::Refuse,
        1 => Network::Reset,
        2 => Network::Down,
        3 => Network::Latency { base: milliseconds(dice.number(5..=200)), jitter: milliseconds(dice.number(0..=100)) },
        4 => Network::Bandwidth { bytes_per_second: dice.number(500..=5000) },
        5 => Network::SlowClose(milliseconds(dice.number(100..=1000))),
        6 => Network::BlackHole,
        7 => Network::CutAt(dice.number(0..=3000)),
        _ => return (Towards::Node, Network::Garbage { from: dice.number(0..=200) }),
    };
    (*dice.one_of(&[Towards::Both, Towards::Partner, Towards::Node]), fault)
}

/// Those with an even number are ill, each in its own way.
fn twentieth(number: u32) -> Role {
    let kind = match number % 4 {
        0 | 1 => Kind::Honours,
        _ if number < 8 => Kind::Sftp,
        _ => Kind::Ignores,
    };
    let role = Role::new(&format!("t{number:02}"), kind).with("timeout: 1s");
    match number {
        number if number % 2 == 1 => role.expecting(undisturbed),
        _ => role.expecting(|end| end.circuit = Circuit::Recovered),
    }
}

fn ten_of_twenty(dice: &mut Dice, rounds: u32) -> Schedule {
    let name = |number: u32| format!("t{number:02}");
    let garbage = || Fault::Network(Towards::Node, Network::Garbage { from: 0 });
    let ill = [
        (0, Fault::Down),
        (2, Fault::Down),
        (4, Fault::Hang),
        (6, Fault::Hang),
        (10, Fault::Answer(503)),
        (12, Fault::Answer(401)),
        (14, garbage()),
        (16, Fault::Network(Towards::Both, Network::BlackHole)),
    ];
    // So often that the circuit opens, and not so often that it is left alone.
    let panics = "panic:adapter.rest@t08*4,panic:adapter.rest@t18*4".to_owned();
    let begin = [dice.burst(), Step::Settle, Step::Kill, Step::StartWith(panics)];
    let faults = ill.clone().into_iter().map(|(number, what)| Step::Fault(name(number), what));
    let round = |_| [dice.burst(), dice.wait(1000..=2000)];
    let outage: Vec<Step> = (0..rounds).flat_map(round).collect();
    let opened = ill.clone().into_iter().map(|(number, _)| Step::Opened(name(number)));
    let heals = ill.into_iter().map(|(number, _)| Step::Heal(name(number)));
    Schedule::default()
        .then(begin)
        .then(faults)
        .then(outage)
        .then(opened)
        .then(heals)
        .then([dice.burst(), Step::Settle])
}
