//! `Connection`: one connection to a member, over which many requests are in flight.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use glock_core::toolkit::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::{Notify, oneshot},
    time::{self, Instant},
};

use crate::wire::{
    assembler::Assembler,
    auth::{AUTHENTICATION, Login, Welcome, ping},
    error::HazelcastError,
    message::Message,
    outgoing::Outgoing,
    request::Request,
    unanswered::Unanswered,
};

/// One connection to a member, over which many requests are in flight. It is closed when its last clone
/// is dropped, or when nothing is received on it for [`SILENCE_MAX`].
#[derive(Clone)]
pub(crate) struct Connection {
    open: Arc<Open>,
}

/// Closes the connection when it is dropped.
struct Open(Arc<Shared>);

struct Shared {
    outgoing: Mutex<Outgoing>,
    /// The requests that wait for a reply; `None` once the connection is closed.
    pending: Mutex<Option<Unanswered>>,
    next: AtomicI64,
    /// A request was given up, and nothing was received since.
    silent: AtomicBool,
    /// All clones are gone, or a ping is due at once.
    changed: Notify,
    unused: AtomicBool,
}

/// What a connection reports to its client session.
pub(crate) trait Liveness: Send + Sync + 'static {
    /// The member has replied to what was sent at `sent_at`, so it has this connection since.
    fn replied(&self, sent_at: Instant);

    /// The connection is closed.
    fn closed(&self);
}

/// The reply to a request that was sent. Dropping it leaves the request to itself.
#[derive(Debug)]
pub(crate) struct PendingReply {
    reply: oneshot::Receiver<Message>,
    id: i64,
    connection: Connection,
}

/// What opens the conversation.
const PREAMBLE: &[u8] = b"CP2";
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Two pings without a reply, or anything else received.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The correlation id of pings. Requests count from 1.
const PING_ID: i64 = 0;

impl Connection {
    /// Logs in over a stream, and runs the connection in a task of its own from then on.
    ///
    /// # Errors
    ///
    /// [`HazelcastError::Refused`] if the member refuses the login, and whatever goes wrong before.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it closes the stream.
    pub(crate) async fn open<R, W>(
        (mut reader, writer): (R, W),
        login: &Login,
        liveness: impl Liveness,
    ) -> Result<(Self, Welcome), HazelcastError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let mut outgoing = Outgoing::new(writer);
        let sent_at = Instant::now();
        outgoing.send(&[PREAMBLE, &login.request().finish(PING_ID)].concat());
        let mut assembler = Assembler::default();
        let reply = tokio::select! {
            reply = receive(&mut reader, &mut assembler) => reply?,
            err = std::future::poll_fn(|cx| outgoing.poll_failure(cx)) => return Err(lost(err)),
        };
        let welcome = Welcome::decode(&reply.reply_to(AUTHENTICATION)?)?;
        liveness.replied(sent_at);
        let shared = Arc::new(Shared {
            outgoing: Mutex::new(outgoing),
            pending: Mutex::new(Some(Unanswered::default())),
            next: AtomicI64::new(1),
            silent: AtomicBool::new(false),
            changed: Notify::new(),
            unused: AtomicBool::new(false),
        });
        let task = Task { shared: Arc::clone(&shared), liveness, assembler };
        tokio::spawn(task.run(reader));
        Ok((Self { open: Arc::new(Open(shared)) }, welcome))
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// [`HazelcastError::NotSent`] if the connection is closed, or the member owes too many replies.
    pub(crate) fn send(&self, request: Request) -> Result<PendingReply, HazelcastError> {
        let shared = &self.open.0;
        let id = shared.next.fetch_add(1, Relaxed);
        let reply = match &mut *shared.pending.lock() {
            Some(pending) => pending.insert(id)?,
            None => return Err(HazelcastError::NotSent("the connection is closed".into())),
        };
        shared.outgoing.lock().send(&request.finish(id));
        Ok(PendingReply { reply, id, connection: self.clone() })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.open.0.pending.lock().is_none()
    }

    /// Whether a request was given up, and nothing was received since: others go elsewhere.
    pub(crate) fn is_silent(&self) -> bool {
        self.open.0.silent.load(Relaxed)
    }

    /// Notes that a request was given up. A ping finds out whether the member still replies.
    pub(crate) fn mark_silent(&self) {
        self.open.0.silent.store(true, Relaxed);
        self.open.0.changed.notify_one();
    }

    /// Whether both are the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.open, &other.open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.unused.store(true, Relaxed);
        self.0.changed.notify_one();
    }
}

impl Future for PendingReply {
    type Output = Result<Message, HazelcastError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = std::task::ready!(Pin::new(&mut self.reply).poll(cx));
        Poll::Ready(reply.map_err(|_| HazelcastError::ReplyLost("the connection ended".into())))
    }
}

/// A reply that comes later belongs to no one.
impl Drop for PendingReply {
    fn drop(&mut self) {
        if let Some(pending) = &mut *self.connection.open.0.pending.lock() {
            pending.give_up(self.id);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.open.0.pending.lock().as_ref().map(Unanswered::len);
        f.debug_struct("Connection").field("pending", &pending).finish_non_exhaustive()
    }
}

/// The task of a connection: reads, pings, and writes what did not fit.
struct Task<L: Liveness> {
    shared: Arc<Shared>,
    liveness: L,
    assembler: Assembler,
}

impl<L: Liveness> Task<L> {
    async fn run<R: AsyncRead + Send + Unpin>(mut self, mut reader: R) {
        let (mut pinged, mut received) = (None, Instant::now());
        let mut ping_at = received + PING_INTERVAL;
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                message = receive(&mut reader, &mut self.assembler) => match message {
                    Ok(message) => {
                        received = Instant::now();
                        self.deliver(message, &mut pinged);
                    }
                    Err(_) => return,
                },
                _ = std::future::poll_fn(|cx| shared.outgoing.lock().poll_failure(cx)) => return,
                () = shared.changed.notified() => {
                    if shared.unused.load(Relaxed) {
                        return;
                    }
                    ping_at = ping_at.min(Instant::now());
                }
                () = time::sleep_until(ping_at) => {
                    if received.elapsed() >= SILENCE_MAX {
                        return;
                    }
                    ping_at = Instant::now() + PING_INTERVAL;
                    // One at a time, so that its reply proves what it seems to.
                    if pinged.is_none() {
                        pinged = Some(Instant::now());
                        shared.outgoing.lock().send(&ping().finish(PING_ID));
                    }
                }
            }
        }
    }

    fn deliver(&self, message: Message, pinged: &mut Option<Instant>) {
        self.shared.silent.store(false, Relaxed);
        match message.correlation() {
            Some(PING_ID) => {
                if let Some(sent_at) = pinged.take() {
                    self.liveness.replied(sent_at);
                }
            }
            Some(id) => {
                let waiting =
                    self.shared.pending.lock().as_mut().and_then(|pending| pending.take(id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(message);
                }
            }
            None => {}
        }
    }
}

/// However the task ends, with its runtime too.
impl<L: Liveness> Drop for Task<L> {
    fn drop(&mut self) {
        // First: who wakes up because its reply is lost must not be sent back here.
        let pending = self.shared.pending.lock().take();
        // Not later, when the last user is gone: its member is to know.
        self.shared.outgoing.lock().close();
        self.liveness.closed();
        drop(pending);
    }
}

/// The next message.
///
/// # Cancel safety
///
/// Cancel safe: what was read is in the assembler.
async fn receive<R: AsyncRead + Unpin>(
    reader: &mut R,
    assembler: &mut Assembler,
) -> Result<Message, HazelcastError> {
    loop {
        if let Some(message) = assembler.next()? {
            return Ok(message);
        }
        match reader.read_buf(assembler.unread()).await {
            Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(err) => return Err(lost(err)),
        }
    }
}

fn lost(err: io::Error) -> HazelcastError {
    HazelcastError::ReplyLost(err.into())
}

impl Liveness for Box<dyn Liveness> {
    fn replied(&self, sent_at: Instant) {
        (**self).replied(sent_at);
    }

    fn closed(&self) {
        (**self).closed();
    }
}
