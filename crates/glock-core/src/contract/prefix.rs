//! `IdPrefix`: what the ids of a listing begin with.

use std::fmt;

use crate::{ID_BYTES_MAX, Invalid, LockId};

/// What the ids of a listing begin with: up to 255 bytes of UTF-8 without control characters. Empty: any
/// id.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Checks `prefix`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if no id can begin with it.
    pub fn new(prefix: impl Into<String>) -> Result<Self, Invalid> {
        let prefix = prefix.into();
        let reason = if prefix.len() > ID_BYTES_MAX {
            format!("it has {} bytes; the longest id has {ID_BYTES_MAX}", prefix.len())
        } else if prefix.chars().any(char::is_control) {
            "it has a control character, and no id has".into()
        } else {
            return Ok(Self(prefix));
        };
        Err(Invalid::new("prefix of lock ids", reason))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `id` begins with it.
    pub fn is_of(&self, id: &LockId) -> bool {
        id.as_str().starts_with(&self.0)
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<&str> for IdPrefix {
    type Error = Invalid;

    fn try_from(prefix: &str) -> Result<Self, Invalid> {
        Self::new(prefix)
    }
}

impl TryFrom<String> for IdPrefix {
    type Error = Invalid;

    fn try_from(prefix: String) -> Result<Self, Invalid> {
        Self::new(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_as_strict_as_an_id_but_may_be_empty() {
        assert!(IdPrefix::new("").unwrap().is_of(&LockId::new("x").unwrap()));
        assert!(IdPrefix::new("x".repeat(255)).is_ok());
        for bad in ["a\nb".to_owned(), "x".repeat(256)] {
            assert!(IdPrefix::new(bad).is_err());
        }
        let prefix = IdPrefix::new("a/").unwrap();
        assert!(prefix.is_of(&LockId::new("a/b").unwrap()));
        assert!(!prefix.is_of(&LockId::new("ab").unwrap()));
    }
}
