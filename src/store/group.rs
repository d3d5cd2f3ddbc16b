//! Group commit: one thread owns a log, takes all that waits for it, and lets it write and sync that once.
//! It knows neither files nor records.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hms_actors::failure::Failure;
use tokio::sync::{mpsc, oneshot};

/// What is written in groups.
pub(super) trait Log: Send + 'static {
    type Job: Send + 'static;
    type Answer: Send + 'static;

    /// Does all the jobs with one sync. One answer for each, in order.
    fn commit(&mut self, jobs: Vec<Self::Job>) -> Vec<Result<Self::Answer, Failure>>;
}

/// The handle of a log's thread.
pub(super) struct Committer<L: Log> {
    name: &'static str,
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Waiting<L>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Waiting<L: Log> {
    job: L::Job,
    answer: oneshot::Sender<Result<L::Answer, Failure>>,
}

/// Jobs that may wait; further callers wait for a place. Also the largest group.
const QUEUE: usize = 1024;

/// A disk that has not answered for so long is treated as gone.
const DEADLINE: Duration = Duration::from_secs(60);

impl<L: Log> Committer<L> {
    pub fn spawn(name: &'static str, mut log: L) -> Result<Self, Failure> {
        let (sender, mut receiver) = mpsc::channel::<Waiting<L>>(QUEUE);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(first) = receiver.blocking_recv() {
                    let mut group = vec![first];
                    while group.len() < QUEUE
                        && let Ok(next) = receiver.try_recv()
                    {
                        group.push(next);
                    }
                    let (jobs, waiters): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.job, w.answer)).unzip();
                    for (waiter, answer) in waiters.into_iter().zip(log.commit(jobs)) {
                        // A caller that is gone has been told nothing and will open a new incarnation.
                        let _ = waiter.send(answer);
                    }
                }
            })
            .map_err(|e| Failure::node(format!("can't start the thread {name}: {e}")))?;
        Ok(Self { name, queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Has the job done; what it changes is on disk to stay on return.
    pub async fn submit(&self, job: L::Job) -> Result<L::Answer, Failure> {
        let (answer, receiver) = oneshot::channel();
        let queue = self.queue()?;
        let work = async {
            queue.send(Waiting { job, answer }).await.map_err(|_| self.ended())?;
            receiver.await.map_err(|_| self.ended())?
        };
        tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| {
            Err(Failure::node(format!("{}: the disk has not answered for {} s", self.name, DEADLINE.as_secs())))
        })
    }

    /// The same for a caller that is a thread of its own and not an arbiter.
    pub fn submit_blocking(&self, job: L::Job) -> Result<L::Answer, Failure> {
        let (answer, receiver) = oneshot::channel();
        self.queue()?.blocking_send(Waiting { job, answer }).map_err(|_| self.ended())?;
        receiver.blocking_recv().map_err(|_| self.ended())?
    }

    /// Lets what waits be written, then ends the thread.
    pub fn close(&self) {
        drop(lock(&self.queue).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread {} has panicked", self.name);
        }
    }

    fn queue(&self) -> Result<mpsc::Sender<Waiting<L>>, Failure> {
        lock(&self.queue).clone().ok_or_else(|| self.ended())
    }

    fn ended(&self) -> Failure {
        Failure::node(format!("{}: the store is closed", self.name))
    }

    /// False after the thread has ended, by [`Self::close`] or by a panic.
    pub fn runs(&self) -> bool {
        lock(&self.queue).as_ref().is_some_and(|queue| !queue.is_closed())
    }
}

impl<L: Log> Drop for Committer<L> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Locks also after a panic elsewhere: what is guarded is replaced whole, never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
