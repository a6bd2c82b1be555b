//! What tests and examples say of an error: its whole chain of causes.

use std::error::Error;

use glock_core::{Fault, LockError};

/// An error with all its causes.
pub fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Asserts that a call failed with `fault`, and that `says` is in its error or in a cause of it.
///
/// # Panics
///
/// If it did not.
#[track_caller]
pub fn assert_fault<T>(result: Result<T, LockError>, fault: Fault, says: &str) {
    let Err(err) = result else { panic!("it succeeded") };
    let shown = chain(&err);
    assert_eq!(err.fault(), Some(fault), "{shown}");
    assert!(shown.contains(says), "`{says}` is not in: {shown}");
}
