//! `FencingToken`: the number that a grant carries.

use std::fmt;

/// A number that is greater for every later grant of the same lock.
///
/// Hand it to the resource that the lock protects, and let that refuse a number lower than one it has
/// seen: then a holder that was paused past its lease can do no harm. Compare tokens of one lock only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Wraps the number that a store gave out.
    pub const fn new(token: u64) -> Self {
        Self(token)
    }

    /// The number to store beside what the lock protects.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
