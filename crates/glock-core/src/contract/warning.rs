//! `Warning`: what a preflight found.

use std::{borrow::Cow, fmt};

/// What a preflight found: something about the server that may break a promise of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// A stable name for scripts: the store's name, a dot, and a word: `redis.eviction`. The crate's
    /// README lists them.
    pub code: &'static str,
    /// What was found, what may come of it, and what to do: for people.
    pub text: Cow<'static, str>,
}

impl Warning {
    /// A warning.
    pub fn new(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}
