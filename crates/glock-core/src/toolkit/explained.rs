//! `Explained`: an error of a driver, with a text before it that says what to do.

use std::{error::Error, fmt};

use crate::BoxError;

/// An error with a text before it. The error is its [`source`](Error::source).
#[derive(Debug)]
pub struct Explained {
    what: &'static str,
    source: BoxError,
}

impl Explained {
    /// Puts `what` before `source`.
    pub fn new(what: &'static str, source: impl Into<BoxError>) -> Self {
        Self { what, source: source.into() }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
