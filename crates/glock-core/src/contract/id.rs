//! `LockId`: the name of a lock.

use std::{fmt, str::FromStr, sync::Arc};

use crate::Invalid;

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 255;

/// The name of a lock: 1 to 255 bytes of UTF-8 without control characters.
///
/// Two ids that differ in any byte are two locks: case, accents and slashes count. Cloning is
/// cheap.
///
/// ```
/// use glock_core::LockId;
///
/// let id = LockId::new("reports/nightly")?;
/// assert_eq!(id.as_str(), "reports/nightly");
/// assert!(LockId::new("").is_err());
/// # Ok::<(), glock_core::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(Arc<str>);

impl LockId {
    /// Checks `id`.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if `id` is empty, longer than 255 bytes or has a control character.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Invalid> {
        let id = id.as_ref();
        let reason = if id.is_empty() {
            "it is empty; name what the lock protects".into()
        } else if id.len() > ID_BYTES_MAX {
            format!("it has {} bytes; the longest may have {ID_BYTES_MAX}", id.len())
        } else if id.chars().any(char::is_control) {
            "it has a control character; use printable text".into()
        } else {
            return Ok(Self(id.into()));
        };
        Err(Invalid::new("lock id", reason))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for LockId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

impl TryFrom<&str> for LockId {
    type Error = Invalid;

    fn try_from(id: &str) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

impl TryFrom<&String> for LockId {
    type Error = Invalid;

    fn try_from(id: &String) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

impl TryFrom<String> for LockId {
    type Error = Invalid;

    fn try_from(id: String) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

impl From<&LockId> for LockId {
    fn from(id: &LockId) -> Self {
        id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_id_has_255_bytes() {
        assert!(LockId::new("x".repeat(255)).is_ok());
        let err = LockId::new("x".repeat(256)).unwrap_err().to_string();
        assert!(err.contains("256 bytes"), "{err}");
        assert!(LockId::new("\u{e9}".repeat(128)).is_err(), "bytes count, not characters");
    }

    #[test]
    fn control_characters_are_refused_and_everything_else_is_kept() {
        for id in ["a\nb", "\0", "a\u{7f}", "\u{85}"] {
            assert!(LockId::new(id).is_err(), "{id:?}");
        }
        for id in ["../x", "a{b}c", "%", "'; drop table", "\u{1f512}", " "] {
            assert_eq!(LockId::new(id).unwrap().as_str(), id);
        }
    }
}
