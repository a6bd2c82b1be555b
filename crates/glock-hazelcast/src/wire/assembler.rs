//! `Assembler`: makes messages of the bytes that arrive, however they are cut.

use std::collections::HashMap;

use crate::wire::{
    error::HazelcastError,
    frame::{BEGIN_FRAGMENT, END_FRAGMENT, Frames, HEADER, IS_FINAL, UNFRAGMENTED, header},
    message::Message,
};

/// The longest message, and the most that all unfinished ones may have together. The longest that a lock
/// needs is the reply to a login, which has all members and partitions of the cluster.
pub(crate) const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// How much is read at once.
const READ: usize = 4 * 1024;
/// A buffer that was larger is given back.
const BUFFER_KEPT: usize = 64 * 1024;

/// Makes messages of the bytes that arrive, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    buffer: Vec<u8>,
    /// How many bytes of the buffer are whole frames of the next message.
    framed: usize,
    /// The beginnings of messages that arrive in fragments.
    fragments: HashMap<i64, Vec<u8>>,
    fragment_bytes: usize,
}

impl Assembler {
    /// Where to add what arrives, with room for some of it.
    pub(crate) fn unread(&mut self) -> &mut Vec<u8> {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    ///
    /// [`HazelcastError::UnexpectedReply`] if this is not the protocol, or a message is too long. The
    /// connection is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, HazelcastError> {
        while let Some((length, flags)) = header(&self.buffer[self.framed..])? {
            let end = self.framed.saturating_add(length);
            if end > MESSAGE_MAX {
                return Err(HazelcastError::unexpected(format!(
                    "a message of {end} bytes or more"
                )));
            }
            if end > self.buffer.len() {
                break;
            }
            self.framed = end;
            if flags & IS_FINAL != 0 {
                let message = self.take_framed();
                if let Some(message) = self.assemble(message)? {
                    return Ok(Some(message));
                }
            }
        }
        Ok(None)
    }

    fn take_framed(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.framed);
        let mut taken = std::mem::replace(&mut self.buffer, rest);
        self.framed = 0;
        if taken.capacity() > BUFFER_KEPT {
            taken.shrink_to_fit();
        }
        taken
    }

    /// The message, or `None` if more of its fragments are to come.
    fn assemble(&mut self, bytes: Vec<u8>) -> Result<Option<Message>, HazelcastError> {
        let Some(first) = Frames::of(&bytes).next() else { return Ok(None) };
        if first.flags & UNFRAGMENTED == UNFRAGMENTED {
            return Ok(Some(Message::new(bytes)));
        }
        let id = first.content.first_chunk().copied().map(i64::from_le_bytes);
        let id = id.ok_or_else(|| HazelcastError::unexpected("a fragment without a number"))?;
        let rest = &bytes[HEADER + first.content.len()..];
        if first.has(BEGIN_FRAGMENT) && self.fragments.contains_key(&id) {
            return Err(HazelcastError::unexpected("a fragmented message begins twice"));
        }
        if !first.has(BEGIN_FRAGMENT) && !self.fragments.contains_key(&id) {
            return Err(HazelcastError::unexpected("a fragment of no message"));
        }
        // Each fragment counts, one without content too.
        self.fragment_bytes = self.fragment_bytes.saturating_add(bytes.len());
        if self.fragment_bytes > MESSAGE_MAX {
            return Err(HazelcastError::unexpected("fragments of too many bytes"));
        }
        self.fragments.entry(id).or_default().extend_from_slice(rest);
        if !first.has(END_FRAGMENT) {
            return Ok(None);
        }
        let whole = self.fragments.remove(&id).unwrap_or_default();
        if self.fragments.is_empty() {
            self.fragment_bytes = 0;
        }
        Ok(Some(Message::new(whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of these flags.
    fn frame(flags: u16, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + content.len()).unwrap();
        [&length.to_le_bytes()[..], &flags.to_le_bytes(), content].concat()
    }

    fn assembled(bytes: &[u8], piece: usize) -> Result<Vec<Message>, HazelcastError> {
        let (mut assembler, mut messages) = (Assembler::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            assembler.unread().extend_from_slice(piece);
            while let Some(message) = assembler.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let one = [frame(UNFRAGMENTED, &[7; 16]), frame(0, b"a"), frame(IS_FINAL, b"")].concat();
        let other = frame(UNFRAGMENTED | IS_FINAL, &[8; 20]);
        let bytes = [&one[..], &other, &one].concat();
        for piece in 1..=bytes.len() {
            let messages = assembled(&bytes, piece).unwrap();
            assert_eq!(messages.len(), 3, "in pieces of {piece}");
            assert_eq!(messages[0], Message::new(one.clone()));
            assert_eq!(messages[1], Message::new(other.clone()));
        }
    }

    #[test]
    fn fragments_are_put_together_also_where_two_messages_are_mixed() {
        let begin = |id: u8, rest: &[u8]| {
            let id = i64::from(id).to_le_bytes();
            [&frame(BEGIN_FRAGMENT, &id)[..], rest].concat()
        };
        let part = |id: u8, flags: u16, rest: &[u8]| {
            [&frame(flags, &i64::from(id).to_le_bytes())[..], rest].concat()
        };
        let (head, tail) = (frame(0, &[1; 16]), frame(IS_FINAL, b"end"));
        let bytes = [
            begin(1, &frame(IS_FINAL, &[1; 16])),
            begin(2, &frame(IS_FINAL, b"two")),
            part(1, 0, &frame(IS_FINAL, b"middle")),
            part(2, END_FRAGMENT, &tail),
            part(1, END_FRAGMENT, &tail),
        ]
        .concat();
        let messages = assembled(&bytes, 5).unwrap();
        assert_eq!(messages.len(), 2);
        let contents = |at: usize| -> Vec<_> {
            messages[at].frames().map(|frame| frame.content.to_vec()).collect()
        };
        assert_eq!(contents(0), [b"two".to_vec(), b"end".to_vec()]);
        assert_eq!(contents(1), [vec![1; 16], b"middle".to_vec(), b"end".to_vec()]);
        assert!(!head.is_empty());
    }

    #[test]
    fn what_is_not_the_protocol_is_refused_before_it_is_kept() {
        let huge = u32::try_from(MESSAGE_MAX + 1).unwrap().to_le_bytes();
        let endless = frame(0, &[0; 1024]).repeat(MESSAGE_MAX / 1024);
        let orphan = frame(END_FRAGMENT | IS_FINAL, &[0; 8]);
        let nameless = frame(BEGIN_FRAGMENT | IS_FINAL, &[0; 7]);
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            &[0; 6],
            &[5, 0, 0, 0, 0, 0],
            &[&huge[..], &[0; 2]].concat(),
            &endless,
            &orphan,
            &nameless,
        ] {
            assert!(assembled(bad, 4_096).is_err(), "{:?}", &bad[..6]);
        }
    }

    #[test]
    fn a_frame_that_is_only_announced_takes_no_memory() {
        let mut assembler = Assembler::default();
        let length = u32::try_from(MESSAGE_MAX).unwrap().to_le_bytes();
        assembler.unread().extend_from_slice(&[&length[..], &[0, 0xc0]].concat());
        assert_eq!(assembler.next().unwrap(), None);
        assert!(assembler.unread().capacity() <= 4 * READ);
    }

    #[test]
    fn fragments_that_never_end_are_bounded() {
        let begin = |id: i64| {
            [frame(BEGIN_FRAGMENT, &id.to_le_bytes()), frame(IS_FINAL, &[0; 1024])].concat()
        };
        let bytes: Vec<u8> = (0..5_000).flat_map(begin).collect();
        assert!(assembled(&bytes, 65_536).is_err());
    }
}
