//! How many requests are in what a client sends, where the proxy knows how they are delimited.

/// How a client's requests are delimited, for [`Counts::asked`](crate::proxy::Counts::asked).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By the server's answers, so that what is sent together is one; on HTTP/2, by its streams.
    #[default]
    Turns,
    /// A line is a request.
    Lines,
    /// Redis's arrays of strings.
    Resp,
    /// PostgreSQL's messages: a request ends by a `Sync`, or is a simple `Query`.
    Postgres,
    /// Four bytes of length and so many more are a request, as in ZooKeeper's protocol. There a ping,
    /// which is numbered -2, is no request and no turn; neither is its reply.
    Lengths,
    /// Hazelcast's frames: a request ends by a frame that is the last of its message. A ping is no
    /// request and no turn, as with `Lengths`.
    Hazelcast,
    /// MongoDB's messages. What the driver sends to log in and to learn who is the primary is no request
    /// and no turn.
    MongoDb,
}

/// What one side of a connection says, in requests.
#[derive(Debug)]
pub(crate) struct Requests {
    framing: Framing,
    /// The beginning of a message whose end has not come.
    rest: Vec<u8>,
    /// PostgreSQL's messages have a kind once this is true.
    greeted: bool,
}

/// A message at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    length: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    /// Of a request, or of what comes before the first.
    Part,
    /// It says no more than that its sender is there.
    Ping,
}

/// What some bytes were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many requests end in them; nothing where that is not known.
    pub(crate) asked: Option<u64>,
    /// Nothing but pings.
    pub(crate) pings: bool,
}

impl Requests {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, rest: Vec::new(), greeted: false }
    }

    /// For what the server sends: delimited where pings are to be known by it.
    pub(crate) fn answers(framing: Framing) -> Self {
        let knows_pings = matches!(framing, Framing::Lengths | Framing::Hazelcast);
        Self::new(if knows_pings { framing } else { Framing::Turns })
    }

    pub(crate) fn receive(&mut self, sent: &[u8]) -> Received {
        if self.framing == Framing::Turns {
            return Received::default();
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(sent);
        let (mut at, mut asked) = (0, 0);
        let mut pings = bytes.len() == sent.len();
        while let Some(message) = self.message(&bytes[at..]) {
            at += message.length;
            asked += u64::from(message.kind == Kind::Request);
            pings &= message.kind == Kind::Ping;
        }
        bytes.drain(..at);
        self.rest = bytes;
        Received { asked: Some(asked), pings: pings && self.rest.is_empty() }
    }

    /// The message that the bytes begin with, if they have all of it.
    fn message(&mut self, bytes: &[u8]) -> Option<Message> {
        let asks = |length| Message { length, kind: Kind::Request };
        let message = match self.framing {
            Framing::Turns => None,
            Framing::Lines => line(bytes).map(asks),
            Framing::Resp => array(bytes).map(asks),
            Framing::Postgres => self.postgres(bytes),
            Framing::Lengths => numbered(bytes),
            Framing::Hazelcast => hazelcast(bytes),
            Framing::MongoDb => command(bytes),
        }?;
        (message.length <= bytes.len()).then_some(message)
    }

    fn postgres(&mut self, bytes: &[u8]) -> Option<Message> {
        /// Asks for encryption, and not yet for a session.
        const SSL_OR_GSS: [[u8; 4]; 2] = [[4, 210, 22, 47], [4, 210, 22, 48]];
        if self.greeted {
            let (kind, rest) = bytes.split_first()?;
            let length = size(rest)?.saturating_add(1);
            let asks = matches!(kind, b'S' | b'Q');
            return Some(Message { length, kind: if asks { Kind::Request } else { Kind::Part } });
        }
        let length = size(bytes)?.max(4);
        self.greeted =
            length <= bytes.len() && !SSL_OR_GSS.iter().any(|code| bytes[4..].starts_with(code));
        Some(Message { length, kind: Kind::Part })
    }
}

/// A message of ZooKeeper's, which begins with its number but for the first.
fn numbered(bytes: &[u8]) -> Option<Message> {
    const PING: [u8; 4] = (-2_i32).to_be_bytes();
    let body = size(bytes)?;
    let pings = body >= PING.len() && bytes[4..].starts_with(&PING);
    let kind = if pings { Kind::Ping } else { Kind::Request };
    Some(Message { length: body.saturating_add(4), kind })
}

/// A message of Hazelcast's, or what opens the conversation.
fn hazelcast(bytes: &[u8]) -> Option<Message> {
    const PREAMBLE: &[u8] = b"CP2";
    /// A ping, and the reply to one.
    const PINGS: [[u8; 4]; 2] = [[0, 11, 0, 0], [1, 11, 0, 0]];
    const LAST: u8 = 0x20;
    if bytes.starts_with(PREAMBLE) {
        return Some(Message { length: PREAMBLE.len(), kind: Kind::Part });
    }
    let mut end = 0_usize;
    loop {
        let [a, b, c, d, _, flags] = *bytes.get(end..)?.first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        end = end.saturating_add(length.max(6));
        if flags & LAST != 0 {
            break;
        }
    }
    let pings = PINGS.iter().any(|kind| bytes[6..].starts_with(kind));
    Some(Message { length: end, kind: if pings { Kind::Ping } else { Kind::Request } })
}

/// A message of MongoDB's. A command's name is that of the first field of its document.
fn command(bytes: &[u8]) -> Option<Message> {
    const OP_MSG: [u8; 4] = 2013_i32.to_le_bytes();
    const OWN: [&[u8]; 5] =
        [b"hello\0", b"isMaster\0", b"ismaster\0", b"saslStart\0", b"saslContinue\0"];
    let length = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?.max(16);
    // After the header, the flags, the kind of the section, the document's length and the field's type.
    let name = bytes.get(26..).filter(|_| bytes[12..].starts_with(&OP_MSG));
    let asks = name.is_some_and(|name| !OWN.iter().any(|own| name.starts_with(own)));
    Some(Message { length, kind: if asks { Kind::Request } else { Kind::Ping } })
}

fn line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
}

fn size(bytes: &[u8]) -> Option<usize> {
    let size = u32::from_be_bytes(*bytes.first_chunk()?);
    usize::try_from(size).ok()
}

/// The length of an array of strings, each of which tells its own.
fn array(bytes: &[u8]) -> Option<usize> {
    let (count, mut at) = header(bytes)?;
    for _ in 0..count {
        let (length, header) = header(bytes.get(at..)?)?;
        at = at.saturating_add(header).saturating_add(length).saturating_add(2);
    }
    Some(at)
}

/// The number in a line such as `$12`, and how long that line is.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = line(bytes)?;
    let number = bytes.get(1..end).and_then(|digits| str::from_utf8(digits).ok());
    Some((number.and_then(|digits| digits.trim().parse().ok()).unwrap_or(0), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted when the bytes come whole, and in pieces of any size.
    fn counted(framing: Framing, bytes: &[u8]) -> u64 {
        let in_pieces_of = |size| {
            let mut requests = Requests::new(framing);
            bytes.chunks(size).filter_map(|sent| requests.receive(sent).asked).sum::<u64>()
        };
        let whole = in_pieces_of(bytes.len());
        assert!((1..bytes.len()).all(|size| in_pieces_of(size) == whole), "{framing:?}");
        whole
    }

    #[test]
    fn requests_that_are_sent_together_are_told_apart() {
        assert_eq!(counted(Framing::Lines, b"LOOK x\nACQUIRE x\nhalf"), 2);
        assert_eq!(counted(Framing::Lengths, b"\0\0\0\x02ab\0\0\0\x01c\0\0\0\x09half"), 2);
        let redis = b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n*1\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n";
        assert_eq!(counted(Framing::Resp, redis), 2);
    }

    #[test]
    fn a_ping_is_no_request() {
        const PING: &[u8] = b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b";
        const OTHER: &[u8] = b"\0\0\0\x08\0\0\0\x07\0\0\0\x0b";
        assert_eq!(counted(Framing::Lengths, &[PING, OTHER, PING, PING, OTHER].concat()), 2);
        let pings = |sent: &[u8]| Requests::new(Framing::Lengths).receive(sent).pings;
        assert!(pings(PING) && pings(&[PING, PING].concat()));
        assert!(!pings(OTHER) && !pings(&[PING, OTHER].concat()) && !pings(&PING[..9]));
        let mut requests = Requests::new(Framing::Lengths);
        requests.receive(&OTHER[..5]);
        assert!(!requests.receive(&[&OTHER[5..], PING].concat()).pings);
    }

    #[test]
    fn a_message_of_many_frames_is_one_request_and_a_ping_is_none() {
        const PING: &[u8] = b"\x0a\0\0\0\0\xe0\0\x0b\0\0";
        const GET: &[u8] = b"\x0a\0\0\0\0\xc0\0\x02\x01\0\x07\0\0\0\0\x20m";
        let sent = [b"CP2", GET, PING, GET, PING, &GET[..12]].concat();
        assert_eq!(counted(Framing::Hazelcast, &sent), 2);
        assert!(Requests::new(Framing::Hazelcast).receive(PING).pings);
        assert!(!Requests::new(Framing::Hazelcast).receive(GET).pings);
    }

    #[test]
    fn what_the_driver_of_mongodb_asks_for_itself_is_no_request() {
        let message = |command: &[u8]| {
            let mut message = vec![0; 26];
            message[0] = u8::try_from(26 + command.len()).unwrap();
            message[12..14].copy_from_slice(&[0xdd, 0x07]);
            [&message, command].concat()
        };
        let (hello, find) = (message(b"hello\0\x01"), message(b"find\0locks"));
        assert_eq!(counted(Framing::MongoDb, &[&hello[..], &find, &find, &hello].concat()), 2);
        assert!(Requests::new(Framing::MongoDb).receive(&hello).pings);
        assert!(!Requests::new(Framing::MongoDb).receive(&find).pings);
        let mut login = message(b"saslStart\0");
        assert!(Requests::new(Framing::MongoDb).receive(&login).pings);
        // A message of the older kind, by which a connection begins.
        login[12..14].copy_from_slice(&[0xd4, 0x07]);
        assert!(Requests::new(Framing::MongoDb).receive(&login).pings);
    }

    #[test]
    fn a_session_s_beginning_and_the_parts_of_a_query_are_no_requests() {
        let begin = b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x0a\0\x03\0\0u\0".to_vec();
        assert_eq!(counted(Framing::Postgres, &begin), 0);
        let query = b"B\0\0\0\x05xE\0\0\0\x04S\0\0\0\x04";
        assert_eq!(counted(Framing::Postgres, &[&begin[..], query].concat()), 1);
        let both = [&begin[..], query, b"Q\0\0\0\x06S\0"].concat();
        assert_eq!(counted(Framing::Postgres, &both), 2);
    }

    #[test]
    fn what_is_of_another_protocol_is_counted_somehow() {
        for framing in [
            Framing::Lines,
            Framing::Resp,
            Framing::Postgres,
            Framing::Lengths,
            Framing::Hazelcast,
            Framing::MongoDb,
        ] {
            counted(
                framing,
                b"\xff\xff\xff\xff*\n*-1\n$x\n\0\0\0\0\0\0\0\0\n*999999999999999999\n",
            );
        }
        assert_eq!(Requests::new(Framing::Turns).receive(b"x"), Received::default());
    }
}
