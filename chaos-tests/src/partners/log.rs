//! What an HTTP partner knows: every request that came, which of them had an effect, and how the next is answered.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use sha2::{Digest, Sha256};

use super::answer::Answer;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: SystemTime,
    /// The status that was sent back; `None` if there was no answer.
    pub answered: Option<u16>,
    /// Whether the partner did what it asks for.
    pub effect: bool,
}

impl Received {
    /// A header's value; the first, if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The event's id; a batch has none.
    pub fn event(&self) -> Option<&str> {
        self.header("ce-id")
    }

    /// The `Idempotency-Key`.
    pub fn key(&self) -> Option<&str> {
        self.header("idempotency-key")
    }

    /// The last segment of the path: the name of a target, where one partner serves many.
    pub fn target(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body's hash in hex, as the audit has it.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.body).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Some of the requests. One for a key goes before one for an event, and that before one for a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum On {
    /// With this `Idempotency-Key`.
    Key(String),
    /// With this `ce-id`, or without any and with the id as a JSON string in the body: a batch with the event in it.
    Event(String),
    /// With this last segment of the path.
    Target(String),
}

pub(super) type Rule = Box<dyn FnMut(&Received) -> Answer + Send>;

pub(super) struct State {
    pub received: Vec<Received>,
    pub rule: Rule,
    pub orders: HashMap<On, Answer>,
    pub honours: bool,
    /// Nothing is recorded: for measurements with more requests than there is memory.
    pub forgets: bool,
    /// Keys of requests that had an effect.
    done: HashSet<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            received: Vec::new(),
            rule: Box::new(|_| Answer::Status(200)),
            orders: HashMap::new(),
            honours: true,
            forgets: false,
            done: HashSet::new(),
        }
    }
}

impl State {
    /// Records the request and says what to do with it.
    pub fn take(&mut self, request: &HttpRequest, body: &[u8]) -> Answer {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut received = Received {
            method: request.method().to_string(),
            path: request.uri().to_string(),
            headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.to_vec(),
            at: SystemTime::now(),
            answered: None,
            effect: false,
        };
        let answer = self.order(&received).unwrap_or_else(|| (self.rule)(&received));
        if self.forgets {
            return answer;
        }
        received.answered = answer.status();
        received.effect = answer.has_effect() && self.is_first(&received);
        self.received.push(received);
        answer
    }

    fn order(&self, request: &Received) -> Option<Answer> {
        if self.orders.is_empty() {
            return None;
        }
        let get = |on: On| self.orders.get(&on);
        let of_key = request.key().and_then(|key| get(On::Key(key.to_owned())));
        let of_event = || match request.event() {
            Some(id) => get(On::Event(id.to_owned())),
            None => self.of_batch(request),
        };
        let answer = of_key.or_else(of_event).or_else(|| get(On::Target(request.target().to_owned())));
        answer.cloned()
    }

    fn of_batch(&self, request: &Received) -> Option<&Answer> {
        let contains = |id: &str| {
            let id = serde_json::to_vec(id).expect("a string is JSON");
            request.body.windows(id.len()).any(|window| window == id)
        };
        self.orders.iter().find(|(on, _)| matches!(on, On::Event(id) if contains(id))).map(|(_, answer)| answer)
    }

    /// Whether nothing with its key had an effect; always so at a partner that does not look at keys.
    fn is_first(&mut self, request: &Received) -> bool {
        let known = request.key().is_some_and(|key| !self.done.insert(key.to_owned()));
        !(known && self.honours)
    }
}
