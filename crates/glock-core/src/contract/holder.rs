//! `Holder`: who has a lock, as the store sees it.

use std::{fmt, time::Duration};

use crate::FencingToken;

/// Who has a lock, as the store saw it when it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The label that the holder gave itself: [`LockConfig::with_holder`](crate::LockConfig::with_holder).
    pub label: String,
    /// The token of its grant.
    pub fence: FencingToken,
    /// How much of its lease is left, where the store reports it.
    pub remaining: Option<Duration>,
}

impl Holder {
    /// A holder whose remaining time is not known.
    pub fn new(label: impl Into<String>, fence: FencingToken) -> Self {
        Self { label: label.into(), fence, remaining: None }
    }

    /// Sets what is left of the lease.
    #[must_use]
    pub fn with_remaining(mut self, remaining: Option<Duration>) -> Self {
        self.remaining = remaining;
        self
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.label.is_empty() { "another owner" } else { &self.label };
        write!(f, "{label} (token {})", self.fence)?;
        match self.remaining {
            // Nanoseconds would only be noise.
            Some(left) => write!(f, " for another {} ms", left.as_millis()),
            None => Ok(()),
        }
    }
}
