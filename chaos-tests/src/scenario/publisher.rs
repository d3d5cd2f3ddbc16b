//! A publisher as there are many: it publishes in the background, and repeats what was not acknowledged until it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Client;
use crate::judge::Acknowledged;

/// Events are of so many keys, in turn.
pub const KEYS: u32 = 5;

pub struct Publisher {
    /// Ends the thread when dropped.
    queue: mpsc::Sender<u32>,
    asked: u32,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    ended: Arc<AtomicBool>,
}

/// The id of the n-th event.
pub fn id(number: u32) -> String {
    format!("e{number:06}")
}

impl Publisher {
    pub fn new(client: Client, feed: &'static str) -> Self {
        let (queue, bursts) = mpsc::channel();
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (told, ends) = (acknowledged.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut next = 0;
            for burst in bursts {
                for chunk in (next..next + burst).collect::<Vec<_>>().chunks(10) {
                    let Some(new) = publish(&client, feed, chunk, &ends) else { return };
                    lock(&told).extend(new);
                }
                next += burst;
            }
        });
        Self { queue, asked: 0, acknowledged, ended }
    }

    pub fn publish(&mut self, count: u32) {
        self.asked += count;
        self.queue.send(count).expect("the thread takes bursts until this value is dropped");
    }

    /// Nothing is on its way to the node.
    pub fn is_done(&self) -> bool {
        lock(&self.acknowledged).len() == self.asked as usize
    }

    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        lock(&self.acknowledged).clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Until the node has acknowledged them; `None` if nobody wants to know any more.
fn publish(client: &Client, feed: &str, numbers: &[u32], ended: &AtomicBool) -> Option<Vec<Acknowledged>> {
    let lines: Vec<String> = numbers.iter().map(|&number| event(number).to_string()).collect();
    let path = format!("/v1/feeds/{feed}/events");
    let headers = [("content-type", "application/x-ndjson")];
    while !ended.load(Ordering::Relaxed) {
        match client.send("POST", &path, &headers, lines.join("\n").into()) {
            Ok(answer) if answer.status == 202 => return Some(receipts(&answer.json(), numbers)),
            // A full disk, or too much at once: asked again, as a publisher must.
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    None
}

fn event(number: u32) -> Value {
    let id = id(number);
    let data = json!({"id": id, "key": key(number), "n": number});
    json!({"specversion": "1.0", "id": id, "source": "/chaos", "type": "chaos.event", "data": data})
}

fn key(number: u32) -> String {
    format!("k{}", number % KEYS)
}

fn receipts(answer: &Value, numbers: &[u32]) -> Vec<Acknowledged> {
    let events = answer["events"].as_array().map_or(&[][..], Vec::as_slice);
    let receipt = |(&number, event): (&u32, &Value)| {
        let offset = event["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {answer}"));
        Acknowledged { id: id(number), offset, key: key(number) }
    };
    assert_eq!(events.len(), numbers.len(), "an answer for each event: {answer}");
    numbers.iter().zip(events).map(receipt).collect()
}

fn lock(acknowledged: &Mutex<Vec<Acknowledged>>) -> MutexGuard<'_, Vec<Acknowledged>> {
    acknowledged.lock().expect("no holder of this lock panics")
}
