//! What operators order the circuit to do.

use super::Base;
use crate::delivery::Ended;
use crate::delivery::control::{Answer, Ask, Order, Replay};
use crate::failure::Failure;
use crate::policy::circuit::{CircuitOrder, CircuitState};
use crate::receipt::Entry;

impl Base {
    /// Carries out what the circuit was ordered; returns what is the lane's to carry out.
    pub async fn asks(&mut self) -> Result<(Vec<Answer>, Vec<Replay>), Failure> {
        let (mut answers, mut replays) = (Vec::new(), Vec::new());
        for ask in self.control.take_asks() {
            match ask {
                Ask::Circuit(order) => self.obey(order).await?,
                Ask::Ticket(answer) => answers.push(answer),
                Ask::Replay(replay) => replays.push(replay),
            }
        }
        Ok((answers, replays))
    }

    async fn obey(&mut self, Order { order, by, note, done }: Order) -> Ended {
        if order == CircuitOrder::Probe && self.circuit.state() == CircuitState::ForcedOpen {
            let why = "the circuit is forced open, nothing goes through it: close it first";
            let _ = done.send(Err(why.to_owned()));
            return Ok(());
        }
        if let Some(memory) = self.circuit.order(order, self.env.clock.now()) {
            let reason = match order {
                CircuitOrder::Open => "an operator forced it open",
                CircuitOrder::Close => {
                    self.dismissed = 0;
                    "an operator closed it"
                }
                CircuitOrder::Probe => "an operator asked for a probe now",
            };
            let note = note.map(|note| format!(": {note}")).unwrap_or_default();
            let entry = Entry::Circuit { memory, reason: format!("{reason}{note}"), by: Some(by) };
            self.commit(vec![entry]).await?;
        }
        if order != CircuitOrder::Open {
            self.control.hurry();
        }
        let _ = done.send(Ok(()));
        Ok(())
    }
}
