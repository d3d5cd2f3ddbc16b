//! Acceptance tests: the real program, real partners, and what the outside can see. One binary, so that
//! it is linked once. They rely on the contract alone.

mod audit;
mod bad_publishes;
mod bridge;
mod circuits;
mod daemon;
mod dead_letters;
mod described;
mod door;
mod doubt;
mod drop_box;
mod edges;
mod edges_clock;
mod edges_damage;
mod edges_descriptors;
mod edges_disk;
mod failure_table;
mod faults;
mod files;
mod governance;
mod lifecycle;
mod mending;
mod once;
mod one_target;
mod partners;
mod privacy;
mod publishing;
mod rebuild;
mod rest;
mod secrets;
mod throttling;
mod tickets;
mod tidy;
mod transcripts;
mod walkthrough;
mod webhook;
