//! `Uuid`: 128 bits that name a client, a member, a cluster or an invocation.

use std::fmt;

use glock_core::LockError;

/// 128 bits that name a client, a member, a cluster or an invocation. `Debug` does not show them: a
/// client's prove its holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Uuid(u128);

/// As the protocol writes it: whether it is null, and its two halves.
pub(crate) const UUID_BYTES: usize = 17;

impl Uuid {
    pub(crate) const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// 122 random bits from the operating system, and the six that mark them as such.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the operating system has no random numbers to give.
    pub(crate) fn random() -> Result<Self, LockError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|err| {
            LockError::invalid("random source", format!("the operating system gave none: {err}"))
        })?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    pub(crate) const fn bits(self) -> u128 {
        self.0
    }

    pub(crate) fn encode(self) -> [u8; UUID_BYTES] {
        let mut bytes = [0; UUID_BYTES];
        for (half, place) in [(self.0 >> 64, 1), (self.0, 9)] {
            let half = u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default();
            bytes[place..place + 8].copy_from_slice(&half.to_le_bytes());
        }
        bytes
    }

    /// `None`: it is null.
    pub(crate) fn decode(bytes: &[u8; UUID_BYTES]) -> Option<Self> {
        let half = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
        };
        (bytes[0] == 0).then(|| Self(half(1) << 64 | half(9)))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uuid(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_in_two_halves_each_from_its_end() {
        let uuid = Uuid::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let bytes = uuid.encode();
        assert_eq!(bytes[..9], [0, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]);
        assert_eq!(bytes[9..], [0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88]);
        assert_eq!(Uuid::decode(&bytes), Some(uuid));
        let mut null = bytes;
        null[0] = 1;
        assert_eq!(Uuid::decode(&null), None);
    }

    #[test]
    fn random_ones_differ_and_are_not_shown() {
        let (one, other) = (Uuid::random().unwrap(), Uuid::random().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.bits() >> 76) & 0xf, 4);
        assert_eq!(format!("{one:?}"), "Uuid(..)");
    }
}
