//! Tells a supervisor that a child has ended, however it ended: a value that is moved into the child
//! speaks when it is dropped. A panic in a handler, in a spawned future, in `started` or in the factory
//! all come to this.

/// Speaks once, on drop.
pub(crate) struct DeathNotice(Option<Box<dyn FnOnce(bool)>>);

impl DeathNotice {
    /// `tell` is given whether a panic is under way. It must not panic itself.
    pub fn new(tell: impl FnOnce(bool) + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(std::thread::panicking());
        }
    }
}
