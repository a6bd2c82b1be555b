//! Frames: what messages consist of. A frame is its length, its flags and its content.

use crate::wire::error::HazelcastError;

/// Four bytes of length, which counts them too, and two bytes of flags.
pub(crate) const HEADER: usize = 6;

pub(crate) const BEGIN_FRAGMENT: u16 = 0x8000;
pub(crate) const END_FRAGMENT: u16 = 0x4000;
pub(crate) const UNFRAGMENTED: u16 = BEGIN_FRAGMENT | END_FRAGMENT;
pub(crate) const IS_FINAL: u16 = 0x2000;
pub(crate) const BEGIN_STRUCTURE: u16 = 0x1000;
pub(crate) const END_STRUCTURE: u16 = 0x0800;
pub(crate) const IS_NULL: u16 = 0x0400;
pub(crate) const IS_EVENT: u16 = 0x0200;
pub(crate) const IS_BACKUP_EVENT: u16 = 0x0080;

/// A frame in the bytes of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) flags: u16,
    pub(crate) content: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// The header of the frame that `bytes` begin with: its whole length and its flags. `None`: more bytes
/// are needed.
///
/// # Errors
///
/// [`HazelcastError::UnexpectedReply`] for a length that no frame has.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<(usize, u16)>, HazelcastError> {
    let Some(&[a, b, c, d, low, high]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length >= HEADER => Ok(Some((length, u16::from_le_bytes([low, high])))),
        _ => Err(HazelcastError::unexpected(format!("a frame of {length} bytes"))),
    }
}

/// The frames of a message, one after the other. A frame that is not whole ends them.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (length, flags) = header(self.0).ok()??;
        let (frame, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Frame { flags, content: &frame[HEADER..] })
    }
}
