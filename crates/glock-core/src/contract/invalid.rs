//! `Invalid`: an argument or a setting that can never work.

use std::borrow::Cow;

/// An argument or a setting that can never work. Fix the program; no request was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {reason}")]
#[non_exhaustive]
pub struct Invalid {
    /// What is wrong.
    pub what: &'static str,
    /// Why, and what would be right.
    pub reason: Cow<'static, str>,
}

impl Invalid {
    /// States what is wrong, why, and what would be right.
    pub fn new(what: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { what, reason: reason.into() }
    }
}
