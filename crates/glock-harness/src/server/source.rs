//! Where servers come from, as a command line or an environment variable says it.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::server::ServerError;

/// Where servers come from.
///
/// Its text form is `native:DIR` or `containers`, as in the variable `GLOCK_SERVERS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Binaries below this directory, as `DIR/redis7/bin/redis-server`.
    Native(PathBuf),
    /// Images of a container engine.
    Containers,
}

/// How a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runtime {
    /// As a process of this machine.
    Native,
    /// In a container.
    Container,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(dir) => write!(f, "native:{}", dir.display()),
            Self::Containers => f.write_str("containers"),
        }
    }
}

impl FromStr for Source {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("native", dir)) if !dir.is_empty() => Ok(Self::Native(dir.into())),
            None if text == "containers" => Ok(Self::Containers),
            _ => Err(ServerError::new(format!(
                "{text:?} is no source of servers: write native:DIR or containers"
            ))),
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Container => "container",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_its_text_form() {
        for source in [Source::Native("/a b/c".into()), Source::Containers] {
            assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
        }
    }

    #[test]
    fn a_wrong_source_says_what_to_write() {
        for text in ["", "native", "native:", "docker", "containers:x"] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains("native:DIR or containers"), "{error}");
        }
    }
}
