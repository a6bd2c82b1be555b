//! Connections over a stream in memory: what is received in pieces, late, or is not the protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    time::{Instant, sleep, timeout},
};

use crate::wire::{
    assembler::{Assembler, MESSAGE_MAX},
    auth::{PING, Welcome, ping},
    connection::{Connection, Liveness, SILENCE_MAX},
    error::HazelcastError,
    golden::{SAMPLES, bytes, login},
    message::Message,
};

/// How much fits into the stream, beside what either side has read.
const STREAM: usize = 8 * 1024;
const SECOND: Duration = Duration::from_secs(1);
/// Long after a silent connection is closed.
const LATE: Duration = Duration::from_mins(1);

/// What a connection has reported.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    replied: Arc<AtomicU32>,
    closed: Arc<AtomicU32>,
}

impl Liveness for Reports {
    fn replied(&self, _sent_at: Instant) {
        self.replied.fetch_add(1, SeqCst);
    }

    fn closed(&self) {
        self.closed.fetch_add(1, SeqCst);
    }
}

/// The member's side: reads requests, and writes whatever the test wants.
pub(crate) struct Peer {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    assembler: Assembler,
    opened: bool,
}

impl Peer {
    /// The next request that is no ping. Pings are not replied to.
    async fn request(&mut self) -> Message {
        loop {
            let message = self.message().await;
            if message.int(0).unwrap() != PING {
                return message;
            }
        }
    }

    /// The next request or ping.
    async fn message(&mut self) -> Message {
        if !std::mem::replace(&mut self.opened, true) {
            let mut preamble = [0; 3];
            self.reader.read_exact(&mut preamble).await.unwrap();
            assert_eq!(&preamble, b"CP2");
        }
        loop {
            if let Some(message) = self.assembler.next().unwrap() {
                return message;
            }
            let count = self.reader.read_buf(self.assembler.unread()).await.unwrap();
            assert!(count > 0, "the client has closed the connection");
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }
}

/// Both ends of a stream, with a login under way on one.
fn connect(
    reports: &Reports,
) -> (Peer, impl Future<Output = Result<(Connection, Welcome), HazelcastError>> + use<>) {
    let (ours, theirs) = duplex(STREAM);
    let (reader, writer) = split(theirs);
    let peer = Peer { reader, writer, assembler: Assembler::default(), opened: false };
    let reports = reports.clone();
    let opening = async move { Connection::open(split(ours), &login(), reports).await };
    (peer, opening)
}

/// A connection that is logged in, and the reply to its login.
pub(crate) async fn open(reports: &Reports) -> (Peer, Connection, Welcome) {
    let (mut peer, opening) = connect(reports);
    let login = async {
        peer.request().await;
        peer.write(&bytes(SAMPLES[0])).await;
    };
    let (opened, ()) = tokio::join!(opening, login);
    let (connection, welcome) = opened.unwrap();
    (peer, connection, welcome)
}

/// A reply to a ping, under this correlation id: the shortest that there is.
fn reply_to(id: i64) -> Vec<u8> {
    let mut reply = bytes(SAMPLES[2]);
    reply[10..18].copy_from_slice(&id.to_le_bytes());
    reply
}

/// The beginning of a frame of this length, of a message that goes on.
fn header(length: usize) -> Vec<u8> {
    [&u32::try_from(length).unwrap().to_le_bytes()[..], &0xc000_u16.to_le_bytes()].concat()
}

#[tokio::test(start_paused = true)]
async fn replies_find_their_requests_in_any_order_and_in_any_pieces() {
    let reports = Reports::default();
    let (mut peer, connection, _) = open(&reports).await;
    let [one, other] = [(); 2].map(|()| connection.send(ping()).unwrap());
    let given_up = connection.send(ping()).unwrap();
    drop(given_up);
    // That of the request that was given up, one of no request, and then the others' in reverse.
    for id in [3, 99, 2, 1] {
        for byte in reply_to(id) {
            peer.write(&[byte]).await;
        }
    }
    assert_eq!(other.await.unwrap().correlation(), Some(2));
    assert_eq!(one.await.unwrap().correlation(), Some(1));
    assert!(!connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_not_replied_to_by_the_protocol_fails_at_once() {
    let no_partitions = {
        let mut reply = bytes(SAMPLES[0]);
        reply[38..42].copy_from_slice(&0_i32.to_le_bytes());
        reply
    };
    let garbage = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        header(5),
        header(MESSAGE_MAX + 1),
        bytes(SAMPLES[4]),
        no_partitions,
    ];
    for garbage in garbage {
        let reports = Reports::default();
        let (mut peer, opening) = connect(&reports);
        peer.write(&garbage).await;
        let err = timeout(SECOND, opening).await.expect("at once").unwrap_err();
        assert!(matches!(err, HazelcastError::UnexpectedReply(_)), "{err:?} for {garbage:x?}");
        assert_eq!(reports.replied.load(SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_says_so_and_a_closed_stream_is_a_lost_reply() {
    let reports = Reports::default();
    let (mut peer, opening) = connect(&reports);
    peer.write(&bytes(SAMPLES[1])).await;
    assert!(matches!(opening.await, Err(HazelcastError::Refused(_))));
    let (mut peer, opening) = connect(&reports);
    peer.write(&bytes(SAMPLES[0])[..20]).await;
    drop(peer);
    assert!(matches!(opening.await, Err(HazelcastError::ReplyLost(_))));
}

/// Whatever a member sends beside the protocol, the requests in flight have lost their replies, and no
/// other is sent.
#[tokio::test(start_paused = true)]
async fn garbage_ends_a_connection_and_everything_in_flight_on_it() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 6], &header(MESSAGE_MAX + 1)] {
        let reports = Reports::default();
        let (mut peer, connection, _) = open(&reports).await;
        let pending = connection.send(ping()).unwrap();
        peer.write(garbage).await;
        let reply = timeout(SECOND, pending).await.expect("at once");
        assert!(matches!(reply, Err(HazelcastError::ReplyLost(_))), "{reply:?}");
        assert!(connection.is_closed());
        assert!(matches!(connection.send(ping()), Err(HazelcastError::NotSent(_))));
        assert_eq!(reports.closed.load(SeqCst), 1);
    }
}

/// Half a frame, and then silence, or a byte now and then that never makes a message.
#[tokio::test(start_paused = true)]
async fn half_a_frame_keeps_no_connection_open() {
    for drips in [false, true] {
        let reports = Reports::default();
        let (mut peer, connection, _) = open(&reports).await;
        let pending = connection.send(ping()).unwrap();
        peer.write(&header(4_000)).await;
        peer.write(&[0; 100]).await;
        let since = Instant::now();
        let dripping = async {
            while drips && peer.writer.write_all(&[0]).await.is_ok() {
                sleep(SECOND).await;
            }
            std::future::pending::<()>().await;
        };
        let reply = tokio::select! {
            reply = timeout(LATE, pending) => reply.expect("the connection is closed"),
            () = dripping => unreachable!("it never ends"),
        };
        assert!(matches!(reply, Err(HazelcastError::ReplyLost(_))), "{reply:?}");
        assert!(since.elapsed() <= SILENCE_MAX * 2, "{:?}", since.elapsed());
        assert!(connection.is_closed());
        assert_eq!(reports.closed.load(SeqCst), 1);
    }
}

/// A member that replies to pings, and to nothing else, keeps its connection.
#[tokio::test(start_paused = true)]
async fn a_ping_proves_that_a_member_replies() {
    let reports = Reports::default();
    let (mut peer, connection, _) = open(&reports).await;
    connection.mark_silent();
    let replying = async {
        loop {
            assert_eq!(peer.message().await.int(0).unwrap(), PING);
            peer.write(&reply_to(0)).await;
        }
    };
    tokio::select! {
        () = sleep(LATE) => {}
        () = replying => unreachable!("it never ends"),
    }
    assert!(!connection.is_closed() && !connection.is_silent());
    assert!(reports.replied.load(SeqCst) >= 10, "one for the login, and the pings");
}

/// A message without an end, and fragments without an end: of either no more is read than a message may have.
#[tokio::test(start_paused = true)]
async fn no_more_is_read_than_a_message_may_have() {
    let frame = [header(1_024), vec![0; 1_018]].concat();
    let fragment = |id: u64| {
        let begin = [&14_u32.to_le_bytes()[..], &0x8000_u16.to_le_bytes(), &id.to_le_bytes()];
        let last = [&1_024_u32.to_le_bytes()[..], &0x2000_u16.to_le_bytes(), &[0; 1_018]];
        [begin.concat(), last.concat()].concat()
    };
    let endless: [&dyn Fn(u64) -> Vec<u8>; 2] = [&|_| frame.clone(), &fragment];
    for piece in endless {
        let reports = Reports::default();
        let (mut peer, connection, _) = open(&reports).await;
        let mut written = 0;
        for n in 0.. {
            let piece = piece(n);
            // The stream is closed, though the connection still has a user.
            if timeout(LATE, peer.writer.write_all(&piece)).await.expect("it is read").is_err() {
                break;
            }
            written += piece.len();
            assert!(written <= MESSAGE_MAX + 4 * STREAM, "{written} bytes were taken");
        }
        assert!(connection.is_closed());
        assert_eq!(reports.closed.load(SeqCst), 1);
    }
}

/// A member that reads nothing does not keep a caller: its request is left to the connection's task.
#[tokio::test(start_paused = true)]
async fn a_member_that_reads_nothing_ends_no_caller_s_time() {
    let reports = Reports::default();
    let (_peer, connection, _) = open(&reports).await;
    let pending: Vec<_> = (0..STREAM).map(|_| connection.send(ping()).unwrap()).collect();
    for reply in pending {
        let reply = timeout(LATE, reply).await.expect("the connection is closed");
        assert!(matches!(reply, Err(HazelcastError::ReplyLost(_))), "{reply:?}");
    }
    assert_eq!(reports.closed.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_user_closes_the_stream() {
    let reports = Reports::default();
    let (mut peer, connection, _) = open(&reports).await;
    let other = connection.clone();
    drop(connection);
    sleep(SECOND).await;
    assert_eq!(reports.closed.load(SeqCst), 0);
    drop(other);
    let mut rest = Vec::new();
    timeout(SECOND, peer.reader.read_to_end(&mut rest)).await.expect("at once").unwrap();
    assert!(rest.is_empty());
    assert_eq!(reports.closed.load(SeqCst), 1);
}
