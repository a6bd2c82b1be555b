//! `OwnerToken`: the secret that proves a hold.

use std::{fmt, sync::Arc};

use crate::LockError;

/// The secret that proves a hold to the store: fresh for each grant, never shown.
///
/// A client that knows it can renew and release the hold, so `Debug` hides it and there is no
/// `Display`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OwnerToken(Arc<str>);

const RANDOM_BYTES: usize = 16;
const TOKEN_BYTES_MAX: usize = 128;

impl OwnerToken {
    /// 128 random bits from the operating system, as 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the operating system has no random numbers to give.
    pub fn random() -> Result<Self, LockError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|err| {
            LockError::invalid("random source", format!("the operating system gave none: {err}"))
        })?;
        let mut hex = String::with_capacity(2 * RANDOM_BYTES);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Ok(Self(hex.into()))
    }

    /// A token that a backend made, with what it needs to find its session or lease in it.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] unless it is 16 to 128 letters, digits, `-`, `_`, `.` or `~`.
    pub fn new(token: impl Into<Arc<str>>) -> Result<Self, LockError> {
        let token = token.into();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        if (RANDOM_BYTES..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(plain) {
            return Ok(Self(token));
        }
        Err(LockError::invalid(
            "owner token",
            format!(
                "it must be {RANDOM_BYTES} to {TOKEN_BYTES_MAX} letters, digits, '-', '_', '.' or '~'"
            ),
        ))
    }

    /// The secret itself, for the store.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_tokens_have_128_bits_and_do_not_repeat() {
        let tokens: HashSet<_> = (0..10_000).map(|_| OwnerToken::random().unwrap()).collect();
        assert_eq!(tokens.len(), 10_000);
        assert!(tokens.iter().all(|token| token.reveal().len() == 32));
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = OwnerToken::random().unwrap();
        assert!(!format!("{token:?} {token:#?}").contains(token.reveal()));
    }

    #[test]
    fn only_plain_tokens_are_taken() {
        assert!(OwnerToken::new("7f.0123456789abcdef").is_ok());
        for bad in ["", "short", "0123456789abcde ", "0123456789abcdef\n", "0123456789abcde\u{e9}"]
        {
            assert!(OwnerToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(OwnerToken::new("a".repeat(129)).is_err());
    }
}
