//! The tools of the chaos tests by themselves: that each fault does what it says. A fault that does nothing proves
//! everything.

mod bench;
mod http;
mod points;
mod proxy;
mod sshd;
