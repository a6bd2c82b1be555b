//! `Sender`: sends one command to the primary, and sends it again where that is safe and helps.

use std::{
    error::Error,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, backend,
    toolkit::{Call, Mutex},
};
use mongodb::{
    Database, ServerInfo, ServerType,
    bson::{Document, RawDocumentBuf},
    options::SelectionCriteria,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

use crate::error::Failure;

/// How often one call sends a command.
const TRIES_MAX: u32 = 3;
/// One attempt may take two fifths of the time of its call: then a second one fits in, on another
/// connection, and what is left is for an undo.
const ATTEMPT_FIFTHS: u32 = 2;
/// The shortest time for an attempt.
const ATTEMPT_MIN: Duration = Duration::from_millis(20);

/// Sends commands over the application's client.
///
/// Each goes to the primary, and is sent exactly as it is: `runCommand` of the driver neither inherits the
/// client's write concern, read concern and read preference, nor repeats what it sends.
pub(crate) struct Sender {
    pub(crate) database: Database,
    pub(crate) call_timeout: Duration,
    /// Whether the server is no member of a replica set, as far as is known.
    pub(crate) is_standalone: Arc<AtomicBool>,
    /// How many commands may be in flight. The driver's pool has no more connections, and does not tell
    /// whether a command waits for one or for its reply.
    in_flight: Arc<Semaphore>,
    /// Why the server refused the credentials the last time, until it replies again. The driver knows no
    /// primary for up to ten seconds after that.
    refusal: Mutex<Option<Arc<dyn Error + Send + Sync>>>,
}

/// The server's reply.
pub(crate) struct Reply {
    pub(crate) body: Document,
    /// The instant just before the command was sent.
    pub(crate) sent_at: Instant,
    /// Whether an earlier copy of the command got no reply, and so may have been carried out as well.
    pub(crate) repeated: bool,
}

/// One command, and the secret in it.
pub(crate) struct Command<'a> {
    pub(crate) action: Action,
    pub(crate) body: RawDocumentBuf,
    pub(crate) secret: &'a str,
    /// Dropped when its caller leaves: then it is not sent any more. `None`: it is carried out anyhow.
    pub(crate) caller: Option<Weak<()>>,
}

impl Sender {
    pub(crate) fn new(
        database: Database,
        call_timeout: Duration,
        in_flight_max: usize,
        is_standalone: Arc<AtomicBool>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(in_flight_max));
        Self { database, call_timeout, is_standalone, in_flight, refusal: Mutex::default() }
    }

    /// How long one attempt may take.
    pub(crate) fn attempt_limit(&self) -> Duration {
        self.call_timeout / 5 * ATTEMPT_FIFTHS
    }

    /// Sends a command that may be carried out twice; again, over another connection, where no reply came.
    /// An attempt has at most a part of `time`.
    pub(crate) async fn repeat(
        &self,
        command: Command<'_>,
        time: Duration,
    ) -> Result<Reply, Failure> {
        let (began, mut repeated, mut tries) = (Instant::now(), false, 0);
        loop {
            let limit = (time / 5 * ATTEMPT_FIFTHS).min(self.attempt_limit()).max(ATTEMPT_MIN);
            let left = time.saturating_sub(began.elapsed());
            let failure = match self.send(&command, left, limit).await {
                Ok(reply) => return Ok(Reply { repeated, ..reply }),
                Err(failure) => failure,
            };
            tries += 1;
            repeated |= failure.fault == Fault::Unknown;
            let late = began.elapsed().saturating_add(limit) > time;
            if failure.fault == Fault::Rejected || tries >= TRIES_MAX || late {
                return Err(if repeated { failure.after_lost_reply() } else { failure });
            }
        }
    }

    /// Sends a command that must not be carried out twice; again only where it surely had no effect.
    pub(crate) async fn once(&self, command: Command<'_>) -> Result<Reply, Failure> {
        let (began, mut tries) = (Instant::now(), 0);
        loop {
            let left = self.call_timeout.saturating_sub(began.elapsed());
            let result = self.send(&command, left, self.attempt_limit()).await;
            tries += 1;
            let surely_not = |failure: &Failure| failure.fault == Fault::Unavailable;
            let again = result.as_ref().err().is_some_and(surely_not);
            if !again || tries >= TRIES_MAX || began.elapsed() >= self.attempt_limit() / 2 {
                return result;
            }
        }
    }

    /// Sends a command once, after a wait of at most `wait_max` for a connection. The reply may take `limit`.
    ///
    /// The driver's future is not dropped when the time is up: it goes on in the background for as long
    /// again. If it is dropped then, the driver closes the connection.
    async fn send(
        &self,
        command: &Command<'_>,
        wait_max: Duration,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let permit = self.permit(wait_max).await?;
        if command.caller.as_ref().is_some_and(|caller| caller.strong_count() == 0) {
            return Err(Failure::new(Fault::Unavailable, "its caller left before it was sent"));
        }
        let mut body = command.body.clone();
        // What no caller waits for any more does not wait on the server either.
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        body.append(mongodb::bson::cstr!("maxTimeMS"), millis.max(1));
        let database = self.database.clone();
        let selected = Arc::new(AtomicBool::new(false));
        let criteria = primary(Arc::clone(&selected), Arc::clone(&self.is_standalone));
        let sent_at = Instant::now();
        let work = async move {
            // Until the driver is done: it may go on when the caller has left.
            let _permit = permit;
            Ok(database.run_raw_command(body).selection_criteria(criteria).await)
        };
        let call = Call::new(backend::MONGODB, command.action, limit);
        let result = call.run(work).await;
        let failure = match result {
            Ok(Ok(body)) => {
                *self.refusal.lock() = None;
                check(&body, command.secret)?;
                return Ok(Reply { body, sent_at, repeated: false });
            }
            Ok(Err(err)) => Failure::of_driver(err, command.secret),
            Err(_) if selected.load(Relaxed) => {
                Failure::new(Fault::Unknown, format!("no answer within {limit:?}"))
            }
            Err(_) => match &*self.refusal.lock() {
                Some(cause) => Failure::new(Fault::Rejected, Arc::clone(cause)),
                None => {
                    let what = format!("no primary was found within {limit:?}");
                    Failure::new(Fault::Unavailable, what)
                }
            },
        };
        if failure.is_refusal {
            let (failure, cause) = failure.shared();
            *self.refusal.lock() = Some(cause);
            return Err(failure);
        }
        Err(failure)
    }
}

impl Sender {
    async fn permit(&self, wait_max: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&self.in_flight).acquire_owned();
        match time::timeout(wait_max, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let what = format!("no connection was free within {wait_max:?}");
                Err(Failure::new(Fault::Unavailable, what))
            }
        }
    }
}

/// Selects the server that takes writes, and notes that there was one: before that, no command is sent.
fn primary(selected: Arc<AtomicBool>, is_standalone: Arc<AtomicBool>) -> SelectionCriteria {
    let is_primary = move |server: &ServerInfo<'_>| {
        let kind = server.server_type();
        let is_primary = matches!(
            kind,
            ServerType::RsPrimary
                | ServerType::Standalone
                | ServerType::Mongos
                | ServerType::LoadBalancer
        );
        if is_primary {
            selected.store(true, Relaxed);
            is_standalone.store(kind == ServerType::Standalone, Relaxed);
        }
        is_primary
    };
    SelectionCriteria::Predicate(Arc::new(is_primary))
}

/// An error within a reply: the write may have been made, and may be lost.
fn check(reply: &Document, secret: &str) -> Result<(), Failure> {
    let in_list = reply.get_array("writeErrors").ok().and_then(|errors| errors.first());
    let error = in_list.and_then(|error| error.as_document());
    let error = error.or_else(|| reply.get_document("writeConcernError").ok());
    let Some(error) = error else { return Ok(()) };
    let code = error.get_i32("code").unwrap_or_default();
    Err(Failure::in_reply(code, error.get_str("errmsg").unwrap_or_default(), secret))
}
