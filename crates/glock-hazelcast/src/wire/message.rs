//! `Message`: what a member has sent, checked as it is read.

use crate::wire::{
    error::HazelcastError,
    frame::{BEGIN_STRUCTURE, END_STRUCTURE, Frame, Frames, IS_BACKUP_EVENT, IS_EVENT, IS_NULL},
    uuid::{UUID_BYTES, Uuid},
};

/// What a member has sent: whole frames, one after the other. Anything may be in them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

/// The kind of a reply that is an error.
const ERROR: i32 = 0;
/// Where the parameters of a reply begin.
pub(crate) const REPLY: usize = 13;

impl Message {
    /// A message of these bytes, which are whole frames.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames::of(&self.bytes)
    }

    /// The frames after the first.
    pub(crate) fn parameters(&self) -> Frames<'_> {
        let mut frames = self.frames();
        let _ = frames.next();
        frames
    }

    /// Which request it replies to. `None`: it is an event, or has no number.
    pub(crate) fn correlation(&self) -> Option<i64> {
        let first = self.frames().next()?;
        let is_event = first.has(IS_EVENT) || first.has(IS_BACKUP_EVENT);
        self.fixed(4).ok().filter(|_| !is_event).map(i64::from_le_bytes)
    }

    /// The message, if it is the reply to a request of `kind`.
    ///
    /// # Errors
    ///
    /// The member's error, or [`HazelcastError::UnexpectedReply`].
    pub(crate) fn reply_to(self, kind: i32) -> Result<Self, HazelcastError> {
        match self.int(0)? {
            ERROR => Err(self.error()),
            found if found == kind + 1 => Ok(self),
            found => Err(HazelcastError::unexpected(format!("{found:#x} replies to {kind:#x}"))),
        }
    }

    /// The member's error, if it replied with one.
    pub(crate) fn refused(&self) -> Option<HazelcastError> {
        self.int(0).is_ok_and(|kind| kind == ERROR).then(|| self.error())
    }

    /// A parameter of fixed size, `at` bytes from the beginning of the first frame's content.
    fn fixed<const N: usize>(&self, at: usize) -> Result<[u8; N], HazelcastError> {
        let first = self.frames().next().map(|frame| frame.content).unwrap_or_default();
        let bytes = first.get(at..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or_else(|| HazelcastError::unexpected("it ends within its first frame"))
    }

    pub(crate) fn byte(&self, at: usize) -> Result<u8, HazelcastError> {
        self.fixed::<1>(at).map(|[byte]| byte)
    }

    pub(crate) fn bool(&self, at: usize) -> Result<bool, HazelcastError> {
        Ok(self.byte(at)? != 0)
    }

    pub(crate) fn int(&self, at: usize) -> Result<i32, HazelcastError> {
        self.fixed(at).map(i32::from_le_bytes)
    }

    pub(crate) fn long(&self, at: usize) -> Result<i64, HazelcastError> {
        self.fixed(at).map(i64::from_le_bytes)
    }

    pub(crate) fn uuid(&self, at: usize) -> Result<Option<Uuid>, HazelcastError> {
        self.fixed::<UUID_BYTES>(at).map(|bytes| Uuid::decode(&bytes))
    }

    /// The only parameter of no fixed size: a value, or null.
    pub(crate) fn data(&self) -> Result<Option<&[u8]>, HazelcastError> {
        let frame = self.parameters().next();
        let frame = frame.ok_or_else(|| HazelcastError::unexpected("it has no value"))?;
        Ok((!frame.has(IS_NULL)).then_some(frame.content))
    }

    /// The first of the errors in it, which is the one that its causes led to.
    fn error(&self) -> HazelcastError {
        let mut frames = self.parameters().skip_while(|frame| frame.has(BEGIN_STRUCTURE));
        let code = frames.next().and_then(|frame| frame.content.first_chunk().copied());
        let (Some(code), Some(class)) = (code, frames.next()) else {
            return HazelcastError::unexpected("an error without a number or a class");
        };
        let message = frames.next().filter(|frame| !frame.has(IS_NULL));
        let message = message.map(|frame| frame.content);
        HazelcastError::server(i32::from_le_bytes(code), class.content, message)
    }
}

/// Its size, because its bytes may prove a hold.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("bytes", &self.bytes.len()).finish()
    }
}

/// The frame after the end of the structure whose first frame was read last.
pub(crate) fn skip_structure(frames: &mut Frames<'_>) {
    let mut depth = 1_usize;
    for frame in frames {
        if frame.has(BEGIN_STRUCTURE) {
            depth += 1;
        } else if frame.has(END_STRUCTURE) {
            depth -= 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// The next frame, if the text in it is one.
pub(crate) fn next_text<'a>(frames: &mut Frames<'a>) -> Result<&'a str, HazelcastError> {
    let text = |frame: Frame<'a>| str::from_utf8(frame.content).ok();
    let found = frames.next().and_then(text);
    found.ok_or_else(|| HazelcastError::unexpected("a text is missing, or is none"))
}
