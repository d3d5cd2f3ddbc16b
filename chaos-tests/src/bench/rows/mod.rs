//! The rows: a file each.

mod apply;
mod idle;
mod isolation;
mod latency;
mod log;
mod outage;
mod publish;
mod rest;
mod sftp;
mod start;
mod work;

use super::Bench;

pub const ALL: &[Bench] = &[
    Bench {
        name: "publish",
        about: "durable publish over 4 connections, against a plain file that is synced after each batch",
        run: publish::four,
    },
    Bench { name: "publish-alone", about: "the same over 1 connection: a control", run: publish::alone },
    Bench { name: "log-100", about: "the log itself, groups of 100, against a plain file", run: log::hundreds },
    Bench { name: "log-1000", about: "the same, groups of 1,000", run: log::thousands },
    Bench { name: "log-ids", about: "the same with the memory of ids: a control", run: log::with_ids },
    Bench {
        name: "rest",
        about: "drain over REST, one event a POST, 64 in flight, against bare reqwest",
        run: rest::single,
    },
    Bench { name: "rest-batch", about: "the same with 100 events a POST", run: rest::batch },
    Bench { name: "sftp", about: "drain to CSV over SFTP, against `sftp put` of the same bytes", run: sftp::run },
    Bench {
        name: "latency",
        about: "publish to arrival at 1,000 events/s, against fdatasync and a bare POST",
        run: latency::run,
    },
    Bench { name: "isolation", about: "half of 1,000 targets hang, against none", run: isolation::run },
    Bench { name: "outage", about: "memory with one of ten targets down, against none", run: outage::run },
    Bench { name: "idle", about: "memory of a recipe that has nothing to do, 50,000 of them", run: idle::run },
    Bench { name: "work-recipes", about: "CPU an event with 10,000 recipes, against 1", run: work::recipes },
    Bench { name: "work-stored", about: "CPU an event with 10,000,000 stored, against 10,000", run: work::stored },
    Bench { name: "work-feeds", about: "CPU a published event among 10,000 feeds, against 1", run: work::feeds },
    Bench {
        name: "start",
        about: "kill -9 with 1,000 recipes and 1,000,000 waiting, to the first delivery",
        run: start::run,
    },
    Bench { name: "apply", about: "10,000 recipes by one command, while another delivers", run: apply::run },
];
