//! Passwords, and names that no other run has.

use crate::server::ServerError;

/// 128 random bits as text: a password or a name that cannot be guessed.
pub(crate) fn random() -> Result<String, ServerError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| ServerError::new(format!("the system has no random bits: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bits)))
}
