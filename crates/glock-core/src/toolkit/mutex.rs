//! `Mutex`: a mutex without poison, for state that no panic can leave half-changed.

use std::sync::{self, MutexGuard, PoisonError};

/// A mutex without poison. Use it for short sections that run no foreign code: nothing in them can
/// panic, so what it protects is always whole.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex that protects `value`.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Locks it. Do not hold the guard over an `await`.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_unlocked(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// The value, where no other reference to the mutex exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn a_panic_of_another_thread_does_not_spread() {
        let shared = Arc::new(Mutex::new(7));
        let other = Arc::clone(&shared);
        let panicked = thread::spawn(move || {
            let _guard = other.lock();
            panic!("while it is locked");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*shared.lock(), 7);
    }
}
