//! Who speaks on a connection, for counting: each byte counts, but for what HTTP/2 says to itself.

use std::collections::HashSet;

/// The turns of one connection.
///
/// On HTTP/2, known by its first bytes, a client speaks when it opens a stream, or sends data on one
/// that the server has spoken on; pings, windows, settings and resets are no turn. So requests
/// that are sent together are one turn, whichever of their frames arrives first.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    speaker: Option<Side>,
    client: Frames,
    server: Frames,
    /// Whether the connection is HTTP/2, once that is known.
    http2: Option<bool>,
    /// The streams that the server has spoken on.
    answered: HashSet<u32>,
}

/// Whose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What bytes were to the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// A turn of the side that sent them began.
    pub(crate) turn: bool,
    /// The turn answers one of the other side.
    pub(crate) answer: bool,
    /// Requests that a client began: its turn, but on HTTP/2 each stream and each word on one that
    /// was answered.
    pub(crate) asked: u64,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;

impl Turns {
    /// Counts what `side` has sent.
    pub(crate) fn sent(&mut self, side: Side, sent: &[u8]) -> Counted {
        let mut bytes = sent;
        if side == Side::Client && self.http2.is_none() {
            let http2 = sent.starts_with(PREFACE);
            self.http2 = Some(http2);
            if http2 {
                bytes = &sent[PREFACE.len()..];
            }
        }
        if self.http2 != Some(true) {
            return self.speaks(side);
        }
        let mut result = Counted::default();
        let frames = match side {
            Side::Client => self.client.read(bytes),
            Side::Server => self.server.read(bytes),
        };
        for frame in frames {
            let speaks = match (side, frame.kind) {
                (Side::Client, HEADERS) => true,
                (Side::Client, DATA) => frame.length > 0 && self.answered.contains(&frame.stream),
                (Side::Server, HEADERS | DATA) => {
                    self.answered.insert(frame.stream);
                    true
                }
                _ => false,
            };
            if speaks {
                let sent = self.speaks(side);
                result.turn |= sent.turn;
                result.answer |= sent.answer;
                result.asked += u64::from(side == Side::Client);
            }
        }
        result
    }

    fn speaks(&mut self, side: Side) -> Counted {
        let before = self.speaker.replace(side);
        let turn = before != Some(side);
        let asked = u64::from(turn && side == Side::Client);
        Counted { turn, answer: turn && before.is_some(), asked }
    }
}

/// Finds frames in bytes that arrive in any pieces.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    /// What is left of the frame whose head was read.
    body: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    length: usize,
    stream: u32,
}

const HEAD: usize = 9;

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if let [a, b, c, kind, _, stream @ ..] = &*self.head
                && let Ok(stream) = <[u8; 4]>::try_from(stream)
            {
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                frames.push(Frame { kind: *kind, length, stream });
                self.body = length;
                self.head.clear();
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, stream];
        frame.extend(vec![0; length.into()]);
        frame
    }

    fn http2() -> Turns {
        let mut turns = Turns::default();
        assert_eq!(turns.sent(Side::Client, PREFACE), Counted::default());
        turns
    }

    #[test]
    fn each_byte_of_other_protocols_counts() {
        let mut turns = Turns::default();
        let sent = Counted { turn: true, answer: false, asked: 1 };
        assert_eq!(turns.sent(Side::Client, b"PING"), sent);
        assert_eq!(turns.sent(Side::Client, b"\r\n"), Counted::default());
        let sent = Counted { turn: true, answer: true, asked: 0 };
        assert_eq!(turns.sent(Side::Server, b"+PONG"), sent);
        assert_eq!(turns.sent(Side::Client, b"x"), Counted { asked: 1, ..sent });
    }

    #[test]
    fn housekeeping_is_nobody_s_turn() {
        let mut turns = http2();
        assert!(turns.sent(Side::Client, &frame(HEADERS, 1, 5)).turn);
        assert_eq!(turns.sent(Side::Server, &frame(PING, 0, 8)), Counted::default());
        assert_eq!(turns.sent(Side::Client, &frame(PING, 0, 8)), Counted::default());
        let sent = Counted { turn: true, answer: true, asked: 0 };
        assert_eq!(turns.sent(Side::Server, &frame(DATA, 1, 3)), sent);
        assert_eq!(turns.sent(Side::Client, &frame(DATA, 1, 0)), Counted::default());
        let sent = Counted { asked: 1, ..sent };
        assert_eq!(turns.sent(Side::Client, &frame(DATA, 1, 1)), sent);
    }

    #[test]
    fn requests_that_are_sent_together_are_one_turn() {
        let mut turns = http2();
        let both = [frame(HEADERS, 1, 5), frame(HEADERS, 3, 5)].concat();
        let sent = Counted { turn: true, answer: false, asked: 2 };
        assert_eq!(turns.sent(Side::Client, &both), sent);
        assert!(turns.sent(Side::Server, &frame(HEADERS, 1, 5)).answer);
        assert_eq!(turns.sent(Side::Client, &frame(DATA, 3, 9)), Counted::default());
        assert_eq!(turns.sent(Side::Server, &frame(HEADERS, 3, 5)), Counted::default());
    }

    #[test]
    fn frames_are_found_in_pieces() {
        let bytes = [frame(HEADERS, 1, 5), frame(PING, 0, 8), frame(DATA, 3, 0)].concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let found: Vec<_> = bytes.chunks(size).flat_map(|chunk| frames.read(chunk)).collect();
            let kinds: Vec<_> = found.iter().map(|frame| (frame.kind, frame.stream)).collect();
            assert_eq!(kinds, [(HEADERS, 1), (PING, 0), (DATA, 3)], "in pieces of {size}");
        }
    }
}
