//! A partner that takes requests and answers by a script.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hms_actors::event::{Event, Key};
use hms_actors::failure::Failure;
use hms_actors::id::{Offset, Revision, Timestamp};
use hms_actors::ports::*;
use hms_actors::receipt::Receipt;

/// What a request partner does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Accept,
    AcceptAfter(Duration),
    /// At the same time as others, and after them.
    AcceptAfterTurns(usize),
    PanicAfter(Duration),
    Fail(Failure),
    Panic,
}

/// A partner that keeps what it received and answers by a script; accepts when the script has ended.
#[derive(Default)]
pub struct FakePartner {
    /// What new work begins with, and what each request came with.
    pub seal: Cell<u32>,
    pub seals: RefCell<Vec<u32>>,
    /// First offsets of requests that came with a body that was made ahead.
    pub ahead: RefCell<Vec<Offset>>,
    pub received: RefCell<Vec<(Timestamp, Revision, Vec<Offset>)>>,
    pub accepted: RefCell<Vec<Offset>>,
    pub script: RefCell<VecDeque<Answer>>,
    /// Answers for certain events, before the script.
    pub refuses: RefCell<BTreeMap<Offset, Failure>>,
    pub in_flight: RefCell<Vec<Key>>,
}

pub struct FakeRequests {
    pub partner: Rc<FakePartner>,
    pub clock: Rc<dyn Clock>,
    pub revision: Revision,
}

/// Leaves the keys when the request ends, however it ends.
struct InFlight(Rc<FakePartner>, Vec<Key>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.borrow_mut().retain(|key| !self.1.contains(key));
    }
}

#[async_trait(?Send)]
impl RequestPartner for FakeRequests {
    fn key(&self, event: &Event) -> Key {
        match event.subject.as_deref() {
            Some("") | None => Key::Own(event.offset),
            Some(subject) => Key::Value(subject.as_bytes().into()),
        }
    }

    fn seal(&self) -> Result<u32, Failure> {
        Ok(self.partner.seal.get())
    }

    async fn render(&self, requests: Vec<Arc<[Event]>>, _seal: u32) -> Vec<Option<Body>> {
        tokio::task::yield_now().await;
        requests.iter().map(|events| Some(body(events))).collect()
    }

    async fn send(&self, request: &Request) -> Result<Sent, Failure> {
        self.partner.seals.borrow_mut().push(request.seal);
        if let Some(ahead) = &request.body {
            assert_eq!(*ahead, body(&request.events), "a body that was made of other events");
            self.partner.ahead.borrow_mut().extend(request.events.first().map(|event| event.offset));
        }
        let offsets: Vec<Offset> = request.events.iter().map(|event| event.offset).collect();
        let mut keys: Vec<Key> = request.events.iter().map(|event| self.key(event)).collect();
        keys.dedup();
        for key in &keys {
            assert!(!self.partner.in_flight.borrow().contains(key), "two requests of one key in flight: {key:?}");
        }
        self.partner.in_flight.borrow_mut().extend(keys.clone());
        let _in_flight = InFlight(self.partner.clone(), keys);
        self.partner.received.borrow_mut().push((self.clock.now(), self.revision, offsets.clone()));
        let refused = offsets.iter().find_map(|offset| self.partner.refuses.borrow().get(offset).cloned());
        let answer = refused.map(Answer::Fail).or_else(|| self.partner.script.borrow_mut().pop_front());
        match answer.unwrap_or(Answer::Accept) {
            Answer::Accept => tokio::task::yield_now().await,
            Answer::AcceptAfter(wait) => tokio::time::sleep(wait).await,
            Answer::AcceptAfterTurns(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            Answer::PanicAfter(wait) => {
                tokio::time::sleep(wait).await;
                panic!("the adapter panics")
            }
            Answer::Fail(failure) => {
                tokio::task::yield_now().await;
                return Err(failure);
            }
            Answer::Panic => panic!("the adapter panics"),
        }
        self.partner.accepted.borrow_mut().extend(&offsets);
        let receipt = Receipt::Rest {
            status: 200,
            url: "http://partner".into(),
            idempotency_key: format!("{offsets:?}").into(),
            response_sha256: [0; 32],
            duration_ms: 0,
            transport: None,
        };
        Ok(Sent { receipt, payload_sha256: [0; 32] })
    }
}

fn body(events: &[Event]) -> Body {
    let offsets: Vec<Offset> = events.iter().map(|event| event.offset).collect();
    Body { bytes: format!("{offsets:?}").into(), sha256: [0; 32] }
}
