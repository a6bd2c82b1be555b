//! `UrlError`: why a URL leads to no lock.

use std::{borrow::Cow, io, path::PathBuf};

use glock_core::LockError;

/// Why a URL leads to no lock. No variant repeats a password, or a part of the URL that may be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The text has no scheme.
    #[error(
        "this is no URL of a lock: it has no scheme; write it like redis://host:6379 or sqlite:path"
    )]
    NoScheme,

    /// No store has this scheme.
    #[error("no store is called `{scheme}`; there are {known}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// Those that there are.
        known: String,
    },

    /// The program was built without this store, or without TLS.
    #[error(
        "`{scheme}` URLs need the feature `{feature}`, which this program was built without; add it to glock-url's features"
    )]
    FeatureMissing {
        /// What the URL begins with, or what it asks for.
        scheme: &'static str,
        /// The feature of this crate.
        feature: &'static str,
    },

    /// A part of the URL cannot be read.
    #[error("the {part} of the URL cannot work: {reason}")]
    Malformed {
        /// Which part.
        part: Cow<'static, str>,
        /// Why, and what to write instead.
        reason: Cow<'static, str>,
    },

    /// A file that a parameter names cannot be read.
    #[error("cannot read {}, which the parameter `{parameter}` of the URL names", .path.display())]
    Unreadable {
        /// The parameter's name.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The store does not know this parameter.
    #[error("`{name}` is no parameter of {scheme} URLs; there are {known}")]
    UnknownParameter {
        /// The parameter's name.
        name: String,
        /// What the URL begins with.
        scheme: &'static str,
        /// Those that there are.
        known: String,
    },

    /// The store refused to be set up.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl UrlError {
    /// For `map_err` of what reads the file at `path`.
    pub(crate) fn unreadable(
        parameter: &'static str,
        path: &str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Unreadable { parameter, path, source }
    }

    pub(crate) fn malformed(
        part: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Malformed { part: part.into(), reason: reason.into() }
    }
}
