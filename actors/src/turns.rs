//! Whose turn it is to send, among the deliveries of one thread.
//!
//! What a delivery works with is in the processor's caches for as long as it goes on. When thousands take turns request by
//! request it is in none whenever one of them comes round, and an event costs much more (docs/performance.md). So who has
//! the turn goes on for a while. The next one has it when nobody else does, or as soon as the thread has nothing to do: a partner
//! that is slow or hangs holds up nobody, and no thread is idle while somebody waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Turns that are given at once on a thread that has nothing to do.
const AT_ONCE: usize = 4;

/// Requests of a turn for which others wait.
const IN_A_TURN: u32 = 128;

thread_local! {
    static TURNS: RefCell<Turns> = RefCell::default();
}

#[derive(Default)]
struct Turns {
    /// Whether the thread tells when it has nothing to do. Where none does, nobody waits.
    tells: bool,
    /// How many have one.
    given: usize,
    new: VecDeque<Rc<Place>>,
    /// Those who have had one and have more to send. One of either goes in its turn: who has little does not wait for
    /// all who have much.
    again: VecDeque<Rc<Place>>,
    new_is_next: bool,
}

/// In the line.
#[derive(Default)]
struct Place {
    state: Cell<State>,
    waker: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waits,
    Has,
    Gone,
}

impl Turns {
    fn next(&mut self) -> Option<Rc<Place>> {
        self.new_is_next = !self.new_is_next;
        let lines = if self.new_is_next { [&mut self.new, &mut self.again] } else { [&mut self.again, &mut self.new] };
        lines.into_iter().find_map(VecDeque::pop_front)
    }

    /// Gives one to the next who waits, if somebody does: they are to be woken.
    fn give(&mut self) -> Option<Rc<Place>> {
        while let Some(place) = self.next() {
            if place.state.get() == State::Waits {
                place.state.set(State::Has);
                self.given += 1;
                return Some(place);
            }
        }
        None
    }

    /// One is given back. Says who is to be woken for it.
    fn ended(&mut self) -> Option<Rc<Place>> {
        self.given -= 1;
        if self.given == 0 { self.give() } else { None }
    }
}

impl Place {
    /// Not while the turns are borrowed: who is woken may end one.
    fn wake(&self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// Changes the turns of this thread; none are left on one that ends.
fn change<T>(change: impl FnOnce(&mut Turns) -> Option<T>) -> Option<T> {
    TURNS.try_with(|turns| change(&mut turns.borrow_mut())).ok().flatten()
}

/// To be called on a thread whenever it has nothing to do.
pub fn idle() {
    let next = |turns: &mut Turns| {
        turns.tells = true;
        turns.give()
    };
    std::iter::from_fn(|| change(next)).take(AT_ONCE).for_each(|place| place.wake());
}

/// The turns of one delivery.
#[derive(Default)]
pub(crate) struct Turn {
    place: Option<Rc<Place>>,
    sent: u32,
    had_one: bool,
}

impl Turn {
    /// Asks for one unless that is done; says whether it is there.
    pub fn ask(&mut self) -> bool {
        if self.place.is_none() {
            let place = Rc::new(Place::default());
            TURNS.with_borrow_mut(|turns| {
                if turns.given == 0 || !turns.tells {
                    place.state.set(State::Has);
                    turns.given += 1;
                } else if self.had_one {
                    turns.again.push_back(place.clone());
                } else {
                    turns.new.push_back(place.clone());
                }
            });
            (self.place, self.sent) = (Some(place), 0);
        }
        self.is_here()
    }

    pub fn is_here(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.state.get() == State::Has)
    }

    /// Whether one was asked for that is not there yet.
    pub fn waits(&self) -> bool {
        self.place.is_some() && !self.is_here()
    }

    /// When the one is there that was asked for.
    pub async fn comes(&self) {
        std::future::poll_fn(|context| {
            if self.is_here() {
                return Poll::Ready(());
            }
            if let Some(place) = &self.place {
                place.waker.set(Some(context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// A request was sent. Says whether the turn goes on: it does not if it was a long one and others wait.
    pub fn goes_on(&mut self) -> bool {
        self.sent = self.sent.saturating_add(1);
        let others = || TURNS.with_borrow(|turns| !turns.new.is_empty() || !turns.again.is_empty());
        if self.sent < IN_A_TURN || !self.is_here() || !others() {
            return true;
        }
        self.end();
        self.had_one = true;
        false
    }

    /// Gives it back, or does not wait for it any more.
    pub fn end(&mut self) {
        self.had_one = false;
        let Some(place) = self.place.take() else { return };
        if place.state.replace(State::Gone) == State::Has {
            change(Turns::ended).into_iter().for_each(|place| place.wake());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own that has told once that it has nothing to do.
    fn alone(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            idle();
            test();
        });
        thread.join().unwrap();
    }

    fn asking<const N: usize>() -> [Turn; N] {
        std::array::from_fn(|_| {
            let mut turn = Turn::default();
            turn.ask();
            turn
        })
    }

    fn here(turns: &[Turn]) -> Vec<bool> {
        turns.iter().map(Turn::is_here).collect()
    }

    #[test]
    fn on_a_thread_that_never_tells_nobody_waits() {
        let both = asking::<2>();
        assert_eq!(here(&both), [true, true]);
    }

    #[test]
    fn the_next_has_its_turn_when_the_one_before_ends_it_or_its_owner_ends() {
        alone(|| {
            let [mut first, second, third] = asking();
            assert!(first.is_here() && second.waits() && third.waits());
            first.end();
            assert!(!first.is_here() && !first.waits() && second.is_here() && third.waits());
            drop(second);
            assert!(third.is_here());
        });
    }

    #[test]
    fn who_gives_up_waiting_is_passed_over() {
        alone(|| {
            let [mut first, second, third] = asking();
            drop(second);
            first.end();
            assert!(third.is_here());
        });
    }

    #[test]
    fn nobody_waits_for_one_that_hangs_once_the_thread_has_nothing_to_do() {
        alone(|| {
            let turns = asking::<7>();
            assert_eq!(here(&turns), [true, false, false, false, false, false, false]);
            idle();
            assert_eq!(here(&turns), [true, true, true, true, true, false, false]);
            idle();
            assert!(turns.iter().all(Turn::is_here));
        });
    }

    #[test]
    fn a_long_turn_ends_when_others_wait_and_who_has_little_does_not_wait_for_all_who_have_much() {
        alone(|| {
            let mut long = Turn::default();
            assert!(long.ask() && (0..3 * IN_A_TURN).all(|_| long.goes_on()), "nobody waits");
            let mut other = Turn::default();
            assert!(!other.ask() && !long.goes_on() && other.is_here() && !long.ask());
            let [mut late] = asking();
            assert!((1..IN_A_TURN).all(|_| other.goes_on()) && !other.goes_on() && !other.ask());
            // One of those who wait again, one of the new ones.
            assert!(long.is_here() ^ late.is_here());
            late.end();
            long.end();
            assert!(other.is_here());
        });
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let set = tokio::task::LocalSet::new();
        set.run_until(async {
            idle();
            let [first, second] = asking();
            let waiting = tokio::task::spawn_local(async move { second.comes().await });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            drop(first);
            waiting.await.unwrap();
        })
        .await;
    }
}
