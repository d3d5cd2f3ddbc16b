//! Acceptance tests: the real program, real partners, and what the outside can see. One binary, so that
//! it is linked once. They rely on the contract alone.

mod bad_publishes;
mod bridge;
mod daemon;
mod doubt;
mod drop_box;
mod faults;
mod files;
mod lifecycle;
mod mending;
mod once;
mod partners;
mod publishing;
mod rebuild;
mod rest;
mod tidy;
mod walkthrough;
