//! Group commit: one thread owns a log, takes all that waits for it, and lets it write and sync that once.
//! It knows neither files nor records.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hms_actors::failure::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// What is written in groups.
pub(super) trait Log: Send + 'static {
    type Job: Send + 'static;
    type Answer: Send + 'static;

    /// Does all the jobs with one sync. One answer for each, in order.
    fn commit(&mut self, jobs: Vec<Self::Job>) -> Vec<Result<Self::Answer, Failure>>;

    /// Called when all are answered: for what nobody waits for.
    fn tidy(&mut self) {}
}

/// The handle of a log's thread.
pub(super) struct Committer<L: Log> {
    queue: Arc<Queue<L>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Queue<L: Log> {
    name: &'static str,
    waiting: Mutex<Waiting<L>>,
    filled: Condvar,
    /// One for each job that may wait; further callers wait for a place.
    places: Arc<Semaphore>,
}

struct Waiting<L: Log> {
    open: bool,
    calls: Vec<Call<L>>,
}

struct Call<L: Log> {
    job: L::Job,
    answer: oneshot::Sender<Result<L::Answer, Failure>>,
    /// Held until it is answered.
    place: Option<OwnedSemaphorePermit>,
}

/// A disk that has not answered for so long is treated as gone.
const DEADLINE: Duration = Duration::from_secs(60);

impl<L: Log> Committer<L> {
    /// Starts the log's thread. At most `places` jobs wait, which is also the largest group.
    pub fn spawn(name: &'static str, places: usize, mut log: L) -> Result<Self, Failure> {
        let waiting = Mutex::new(Waiting { open: true, calls: Vec::new() });
        let places = Arc::new(Semaphore::new(places));
        let queue = Arc::new(Queue { name, waiting, filled: Condvar::new(), places });
        let on_thread = Closing(queue.clone());
        let run = move || {
            while let Some(group) = on_thread.0.next_group() {
                let (jobs, waiters): (Vec<_>, Vec<_>) = group.into_iter().map(|c| (c.job, (c.answer, c.place))).unzip();
                for ((waiter, _place), answer) in waiters.into_iter().zip(log.commit(jobs)) {
                    // A caller that is gone has been told nothing and will open a new incarnation.
                    let _ = waiter.send(answer);
                }
                log.tidy();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|e| Failure::node(format!("can't start the thread {name}: {e}")))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Has the job done; what it changes is on disk to stay on return.
    pub async fn submit(&self, job: L::Job) -> Result<L::Answer, Failure> {
        let work = async {
            let place = self.queue.places.clone().acquire_owned().await.map_err(|_| self.queue.closed())?;
            let answer = self.queue.push(job, Some(place))?;
            answer.await.map_err(|_| self.queue.closed())?
        };
        tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| {
            let seconds = DEADLINE.as_secs();
            Err(Failure::node(format!("{}: the disk has not answered for {seconds} s", self.queue.name)))
        })
    }

    /// The same for a caller that is a thread of its own and not an arbiter. It needs no place: there is one such.
    pub fn submit_blocking(&self, job: L::Job) -> Result<L::Answer, Failure> {
        self.queue.push(job, None)?.blocking_recv().map_err(|_| self.queue.closed())?
    }

    /// Lets what waits be written, then ends the thread. What comes later is refused.
    pub fn close(&self) {
        self.queue.close();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread {} has panicked", self.queue.name);
        }
    }

    /// False after the thread has ended, by [`Self::close`] or by a panic.
    pub fn runs(&self) -> bool {
        lock(&self.queue.waiting).open
    }
}

impl<L: Log> Drop for Committer<L> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<L: Log> Queue<L> {
    fn push(
        &self,
        job: L::Job,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<L::Answer, Failure>>, Failure> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if !waiting.open {
            return Err(self.closed());
        }
        waiting.calls.push(Call { job, answer, place });
        self.filled.notify_one();
        Ok(receiver)
    }

    /// All that waits; blocks while that is nothing. `None` when the queue is closed and empty.
    fn next_group(&self) -> Option<Vec<Call<L>>> {
        let idle = |waiting: &mut Waiting<L>| waiting.open && waiting.calls.is_empty();
        let mut waiting = self.filled.wait_while(lock(&self.waiting), idle).unwrap_or_else(PoisonError::into_inner);
        let group = std::mem::take(&mut waiting.calls);
        (!group.is_empty()).then_some(group)
    }

    fn close(&self) {
        lock(&self.waiting).open = false;
        self.places.close();
        self.filled.notify_one();
    }

    fn closed(&self) -> Failure {
        Failure::node(format!("{}: the store is closed", self.name))
    }
}

/// Closes the queue when the thread ends, by a panic too, so that nobody waits for it.
struct Closing<L: Log>(Arc<Queue<L>>);

impl<L: Log> Drop for Closing<L> {
    fn drop(&mut self) {
        self.0.close();
        lock(&self.0.waiting).calls.clear();
    }
}

/// Locks also after a panic elsewhere: what is guarded is replaced whole, never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Answers with the size of the group; panics over 13.
    struct Counting(std::sync::mpsc::Receiver<()>);

    impl Log for Counting {
        type Job = u32;
        type Answer = usize;
        fn commit(&mut self, jobs: Vec<u32>) -> Vec<Result<usize, Failure>> {
            assert!(!jobs.contains(&13), "thirteen");
            let _ = self.0.recv();
            jobs.iter().map(|_| Ok(jobs.len())).collect()
        }
    }

    #[tokio::test]
    async fn what_waits_while_a_group_is_written_is_the_next_group() {
        let (go, gate) = std::sync::mpsc::channel();
        let committer = Committer::spawn("test", 8, Counting(gate)).unwrap();
        let mut first = Box::pin(committer.submit(0));
        assert!((&mut first).now_or_never().is_none());
        while !lock(&committer.queue.waiting).calls.is_empty() {
            std::thread::yield_now();
        }
        let others = futures_util::future::join_all((0..5).map(|i| committer.submit(i)));
        let all = async { tokio::join!(first, others, async { drop(go) }) };
        let (first, others, ()) = all.await;
        assert_eq!(first.unwrap(), 1);
        assert!(others.into_iter().all(|size| size == Ok(5)));
    }

    #[tokio::test]
    async fn callers_beyond_the_places_wait_and_closing_does_not_wait_for_them() {
        let (go, gate) = std::sync::mpsc::channel();
        let committer = Committer::spawn("test", 2, Counting(gate)).unwrap();
        let mut calls: Vec<_> = (0..5).map(|i| Box::pin(committer.submit(i))).collect();
        calls.iter_mut().for_each(|call| assert!(call.now_or_never().is_none()));
        drop(go);
        committer.close();
        let answers = futures_util::future::join_all(calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    }

    #[tokio::test]
    async fn a_panic_of_the_thread_leaves_nobody_waiting() {
        let (_go, gate) = std::sync::mpsc::channel();
        let committer = Committer::spawn("test", 8, Counting(gate)).unwrap();
        assert!(committer.submit(13).await.is_err());
        assert!(committer.submit(1).await.is_err());
        assert!(!committer.runs());
    }
}
