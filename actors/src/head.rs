//! The head of a feed, told to all who wait for it to move. It is what `tokio::sync::watch` is for, but that takes six
//! times the room, and there are as many heads as feeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::id::Offset;

/// The offset that the next event will get. All clones of it are one.
#[derive(Debug, Clone, Default)]
pub struct FeedHead(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    moved: Notify,
}

impl FeedHead {
    pub fn get(&self) -> Offset {
        self.0.next.load(Ordering::SeqCst)
    }

    /// It never goes back.
    pub fn raise(&self, next: Offset) {
        if self.0.next.fetch_max(next, Ordering::SeqCst) < next {
            self.0.moved.notify_waiters();
        }
    }

    /// Until it is beyond what was seen of it.
    pub async fn beyond(&self, seen: Offset) {
        loop {
            // Told of what moves from here on, also before it is waited for.
            let moved = self.0.moved.notified();
            if self.get() > seen {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn it_never_goes_back() {
        let head = FeedHead::default();
        head.raise(3);
        head.raise(2);
        assert_eq!(head.get(), 3);
        assert!(head.beyond(2).now_or_never().is_some());
        assert!(head.beyond(3).now_or_never().is_none());
    }

    /// Each is raised while another thread is somewhere between its look and its wait.
    #[test]
    fn whoever_waits_hears_of_each_move_from_any_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (head, there) = (FeedHead::default(), FeedHead::default());
        let (raised, seen) = (head.clone(), there.clone());
        let raiser = std::thread::spawn(move || {
            for next in 1..=20_000 {
                raised.raise(next);
                while seen.get() < next {
                    std::hint::spin_loop();
                }
            }
        });
        runtime.block_on(async {
            for at in 0..20_000 {
                timeout(Duration::from_secs(30), head.beyond(at)).await.expect("it is told");
                there.raise(at + 1);
            }
        });
        raiser.join().unwrap();
    }
}
