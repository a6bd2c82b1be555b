//! The error of starting and handling servers.

use std::{error::Error, fmt};

/// What could not be done with a server, and what to do about it.
#[derive(Debug)]
pub struct ServerError {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ServerError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None }
    }

    /// For `map_err`: the text says what was tried, the source why it failed.
    pub(crate) fn because<E>(text: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let text = text.into();
        |source| Self { text, source: Some(source.into()) }
    }
}

impl fmt::Display for ServerError {
    /// One line with its cause: these texts are read on a terminal, not in a chain of errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for ServerError {}
