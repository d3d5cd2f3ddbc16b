//! How a supervisor hears of a child. That it has ended, however it ended, and what it said last: a value that is
//! moved into the child speaks when it is dropped; a panic in a handler, in a spawned future, in `started` or in the
//! factory all come to this. That it lives: it answers a ping.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Once;

use actix::Message;

/// Longest account of a death, in characters.
const WORDS: usize = 300;

thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST_WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what panics say for those who tell of a death. Once for the process, before the first actor; whoever
/// listened to panics before still hears of them.
pub fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let at = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
            keep(words_of(panic.payload()), &at);
            before(panic);
        }));
    });
}

/// Goes on with a panic that was caught on its way. Others may have panicked on this thread since.
pub(crate) fn resume(panic: Box<dyn Any + Send>) -> ! {
    let words = words_of(panic.as_ref());
    let kept = LAST_WORDS.with_borrow(|last| last.as_deref().is_some_and(|last| last.starts_with(&bounded(words))));
    if !kept {
        keep(words, "");
    }
    std::panic::resume_unwind(panic)
}

fn keep(words: &str, at: &str) {
    let words = bounded(words) + at;
    // A thread that is ending has no memory any more, and one that panics while it remembers keeps what it has.
    let _ = LAST_WORDS.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(words)));
}

/// What a panic says.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> &str {
    let literal = || panic.downcast_ref::<&'static str>().copied();
    panic.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or("a panic without a message")
}

fn bounded(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

/// Speaks once, on drop.
pub(crate) struct DeathNotice {
    tell: Option<Box<dyn FnOnce(Option<String>)>>,
}

impl DeathNotice {
    /// `tell` is given what the actor died of, if it did not just end. It must not panic itself.
    pub fn new(tell: impl FnOnce(Option<String>) + 'static) -> Self {
        Self { tell: Some(Box::new(tell)) }
    }

    /// The actor gives up; its supervisor is told why.
    pub fn because(&mut self, reason: String) {
        if let Some(tell) = self.tell.take() {
            self.tell = Some(Box::new(move |_| tell(Some(reason))));
        }
    }
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        let Some(tell) = self.tell.take() else { return };
        let last_words = || {
            let kept = LAST_WORDS.try_with(|last| last.try_borrow_mut().ok()?.take()).ok().flatten();
            kept.unwrap_or_else(|| "a panic whose words nobody kept".to_owned())
        };
        tell(std::thread::panicking().then(last_words));
    }
}

/// Are you alive?
#[derive(Message)]
#[rtype(result = "Life")]
pub(crate) struct Ping;

/// The answer to a ping; an error says what hangs.
pub(crate) type Life = Result<(), String>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    fn death(of: impl FnOnce(&mut DeathNotice)) -> Option<String> {
        remember_panics();
        let told = Rc::new(RefCell::new(None));
        let heard = told.clone();
        let mut notice = DeathNotice::new(move |why| *heard.borrow_mut() = Some(why));
        let _ = catch_unwind(AssertUnwindSafe(move || of(&mut notice)));
        told.take().unwrap()
    }

    #[test]
    fn a_panic_is_told_with_its_place_and_an_end_without_words() {
        let why = death(|_| panic!("no {}", "grant")).unwrap();
        assert!(why.starts_with("no grant (") && why.contains("guard.rs:"), "{why}");
        assert_eq!(death(|_| ()), None);
        assert_eq!(death(|notice| notice.because("enough".into())).as_deref(), Some("enough"));
        assert!(death(|_| panic!("{}", "x".repeat(10_000))).unwrap().len() < 400);
    }

    #[test]
    fn a_panic_that_goes_on_after_another_one_has_its_own_words() {
        remember_panics();
        let first = catch_unwind(|| panic!("the first")).unwrap_err();
        assert!(death(|_| panic!("the second")).unwrap().starts_with("the second"));
        assert_eq!(death(move |_| resume(first)).as_deref(), Some("the first"));
        let third = catch_unwind(|| panic!("the third")).unwrap_err();
        assert!(death(move |_| resume(third)).unwrap().starts_with("the third ("));
    }
}
