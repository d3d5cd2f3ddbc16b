//! What a delivery shows of itself: its phase, its numbers, and the reports of runs that somebody asked for.

use std::time::Duration;

use tokio::time::Instant;

use super::Base;
use crate::delivery::control::RunReport;
use crate::delivery::status::Phase;
use crate::policy::circuit::CircuitState;

impl Base {
    /// Says what it does now, to all who look. `busy` while there is something in flight or to be tried at once.
    /// `replaying`: dead letters that are being delivered.
    pub fn show(&mut self, in_flight: usize, busy: bool, replaying: Vec<u64>) {
        let (phase, next) = self.phase(in_flight, busy);
        {
            let now = self.env.clock.now();
            let mut status = self.status.borrow_mut();
            status.enter(phase, now);
            status.next_attempt_at = next.map(|wait| now.plus(wait));
            status.in_flight = in_flight;
            status.checkpoint = self.settled.below();
            status.backlog = self.settled.waiting(self.head.get());
            status.held_by = self.held_by();
            status.consecutive_failures = self.circuit.failures_in_a_row();
            status.rate = self.pacer.status();
            status.replaying = replaying.into();
            if status.circuit != *self.circuit.memory() {
                status.circuit = self.circuit.memory().clone();
            }
        }
        self.recipe.runs.borrow_mut().set_busy(&self.key.target, busy || in_flight > 0);
        if !busy && in_flight == 0 {
            self.report();
            self.recipe.quiet();
        }
    }

    /// What it does, and when it goes on by itself if it waits.
    fn phase(&self, in_flight: usize, busy: bool) -> (Phase, Option<Duration>) {
        let open = self.circuit.state() != CircuitState::Closed;
        if in_flight > 0 {
            (Phase::Delivering, None)
        } else if self.control.paused() {
            (Phase::Paused, None)
        } else if self.held_by().is_some() {
            (Phase::Held, None)
        } else if let Some(at) = self.resume_at {
            (Phase::BackingOff, Some(at - Instant::now()))
        } else if busy {
            (Phase::Delivering, None)
        } else if open {
            (Phase::CircuitOpen, self.circuit.memory().probe_at.map(|_| self.circuit.wait(self.env.clock.now())))
        } else if !self.governing.is_empty() {
            (Phase::Held, self.governing.ask_at().map(|at| at.saturating_duration_since(Instant::now())))
        } else {
            (Phase::Idle, None)
        }
    }

    /// Answers those who asked for a run: what waited has been tried.
    fn report(&mut self) {
        if self.control.hurried() {
            return;
        }
        let status = self.status.borrow();
        let now = status.counted();
        for waiter in self.control.take_reports() {
            let error = match (self.held_by(), self.control.paused(), self.circuit.state()) {
                (Some(ticket), ..) => {
                    Some(format!("held by ticket {ticket}: {}", status.last_error().unwrap_or("in doubt")))
                }
                (None, true, _) => Some("paused".to_owned()),
                (None, false, CircuitState::ForcedOpen) => Some("its circuit is forced open".to_owned()),
                (None, false, _) => status.last_error().map(str::to_owned),
            };
            let _ = waiter.send(RunReport {
                target: self.key.target.to_string(),
                delivered: now.0 - self.counted.0,
                failed: now.1 - self.counted.1,
                waiting: self.settled.waiting(self.control.frontier()),
                error,
            });
        }
        drop(status);
        self.counted = now;
    }
}
