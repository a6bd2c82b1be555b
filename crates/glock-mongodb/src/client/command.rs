//! `Sender`: sends one command to the primary, and sends it again where that is safe and helps.

use std::{
    error::Error,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, LockError, backend,
    toolkit::{Call, CallDeadline, Mutex, PendingWork, hedged},
};
use mongodb::{
    ServerInfo, ServerType,
    bson::{Document, RawDocumentBuf, cstr},
    options::SelectionCriteria,
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{self, Instant},
};

use crate::{client::driver::Driver, error::Failure};

/// How often a command is sent that surely had no effect.
const TRIES_MAX: u32 = 3;

/// Sends commands over the driver's client.
///
/// Each goes to the primary, and is sent exactly as it is: `runCommand` of the driver neither inherits the
/// client's write concern, read concern and read preference, nor repeats what it sends.
pub(crate) struct Sender {
    driver: Arc<Driver>,
    database: String,
    /// Whether the server is no member of a replica set, as far as is known.
    is_standalone: Arc<AtomicBool>,
    /// How many commands may be in flight. The driver's pool has no more connections, and does not tell
    /// whether a command waits for one or for its reply.
    in_flight: Semaphore,
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
}

impl Sender {
    pub(crate) fn new(
        driver: &Arc<Driver>,
        database: &str,
        in_flight_max: usize,
        is_standalone: Arc<AtomicBool>,
    ) -> Self {
        let in_flight = Semaphore::new(in_flight_max);
        let (driver, database) = (Arc::clone(driver), database.to_owned());
        Self { driver, database, is_standalone, in_flight, refusal: Mutex::default() }
    }

    /// Sends a command that may be carried out twice; again, over another connection, where the reply is
    /// late or lost.
    pub(crate) async fn repeat(
        &self,
        command: Command<'_>,
        until: CallDeadline,
    ) -> Result<Reply, LockError> {
        let during = |failure: Failure| failure.during(command.action);
        let mut permit = Some(self.permit(until).await.map_err(during)?);
        let attempt = |_| {
            let permit = permit.take();
            let (limit, attempt_max) = (part(until.left()), part(until.attempt_max()));
            let send = self.send(&command, limit, attempt_max);
            async move {
                let mut send = pin!(send);
                if let Ok(reply) = time::timeout(attempt_max, send.as_mut()).await {
                    return reply.map_err(during);
                }
                // What is silent does not keep others from their connections.
                drop(permit);
                send.await.map_err(during)
            }
        };
        // A silent connection stays with the attempt that uses it, so the next one takes another.
        let hedged = hedged(until, attempt, |_| {}).await;
        let reply = hedged.result?;
        Ok(Reply { repeated: hedged.attempts > 1, ..reply })
    }

    /// Sends a command that must not be carried out twice; again only where it surely had no effect.
    pub(crate) async fn once(
        &self,
        command: Command<'_>,
        until: CallDeadline,
        caller: &Weak<()>,
    ) -> Result<Reply, Failure> {
        let _permit = self.permit(until).await?;
        let mut tries = 0;
        loop {
            if caller.strong_count() == 0 {
                let what = "its caller left before it was sent";
                return Err(Failure::new(Fault::Unavailable, what));
            }
            let limit = part(until.attempt_max());
            let result = self.send(&command, limit, limit).await;
            tries += 1;
            let surely_not = |failure: &Failure| failure.fault == Fault::Unavailable;
            let again = result.as_ref().err().is_some_and(surely_not);
            if !again || tries >= TRIES_MAX || until.attempt_max().is_zero() {
                return result;
            }
        }
    }

    /// Sends a command once. The reply may take `limit`, and finding the primary `select_max` of that.
    ///
    /// The driver's future is dropped only before it has found a server, and after twice `limit`: until then
    /// it goes on in the background. The driver then closes the connection.
    async fn send(
        &self,
        command: &Command<'_>,
        limit: Duration,
        select_max: Duration,
    ) -> Result<Reply, Failure> {
        // The driver hardly finds a primary that has just refused it: say so, and soon.
        let select_max = if self.refusal.lock().is_some() { select_max / 4 } else { select_max };
        let mut body = command.body.clone();
        // What no caller waits for any more does not wait on the server either.
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        body.append(cstr!("maxTimeMS"), millis.max(1));
        let database = self.driver.client()?.database(&self.database);
        let selection = Arc::new(Selection::default());
        let criteria = primary(Arc::clone(&selection), Arc::clone(&self.is_standalone));
        let sent_at = Instant::now();
        let work = {
            let selection = Arc::clone(&selection);
            async move {
                tokio::select! {
                    biased;
                    () = selection.given_up() => Ok(None),
                    result = database.run_raw_command(body).selection_criteria(criteria) => {
                        Ok(Some(result))
                    }
                }
            }
        };
        // What frees a lock is counted by the call around it.
        let call = Call::new(&PendingWork::new(), backend::MONGODB, command.action, limit);
        let mut replied = pin!(call.run(work));
        let result = match time::timeout(select_max, replied.as_mut()).await {
            Err(_) if !selection.give_up() => replied.await.ok().flatten(),
            result => result.ok().and_then(Result::ok).flatten(),
        };
        let failure = match result {
            Some(Ok(body)) => {
                *self.refusal.lock() = None;
                check(&body, command.secret)?;
                return Ok(Reply { body, sent_at, repeated: false });
            }
            Some(Err(err)) => Failure::of_driver(err, command.secret),
            None if selection.give_up() => self.no_primary(select_max),
            None => Failure::new(Fault::Unknown, format!("no reply within {limit:?}")),
        };
        if failure.is_refusal {
            let (failure, cause) = failure.shared();
            *self.refusal.lock() = Some(cause);
            return Err(failure);
        }
        Err(failure)
    }

    fn no_primary(&self, limit: Duration) -> Failure {
        if let Some(cause) = &*self.refusal.lock() {
            return Failure::new(Fault::Rejected, Arc::clone(cause));
        }
        Failure::new(Fault::Unavailable, format!("no primary was found within {limit:?}"))
    }

    async fn permit(&self, until: CallDeadline) -> Result<SemaphorePermit<'_>, Failure> {
        let wait_max = part(until.left());
        let permit = self.in_flight.acquire();
        let permit = time::timeout(wait_max, permit).await.ok().and_then(Result::ok);
        permit.ok_or_else(|| {
            let what = format!("no connection was free within {wait_max:?}");
            Failure::new(Fault::Unavailable, what)
        })
    }
}

/// Most of a time, so that what is bounded by it ends before what is bounded by the whole.
fn part(time: Duration) -> Duration {
    time / 20 * 19
}

/// Whether the driver has found a server for a command. Before that, it has not sent the command.
#[derive(Default)]
struct Selection {
    state: AtomicU8,
    given_up: Notify,
}

const OPEN: u8 = 0;
const SELECTED: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Selection {
    /// Whether the command may be sent.
    fn select(&self) -> bool {
        let before = self.state.compare_exchange(OPEN, SELECTED, SeqCst, SeqCst);
        !matches!(before, Err(GIVEN_UP))
    }

    /// Sees to it that the command is never sent, unless a server was found before. Returns whether that
    /// is so.
    fn give_up(&self) -> bool {
        let before = self.state.compare_exchange(OPEN, GIVEN_UP, SeqCst, SeqCst);
        let given_up = !matches!(before, Err(SELECTED));
        if given_up {
            self.given_up.notify_one();
        }
        given_up
    }

    async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

/// Selects the server that takes writes.
fn primary(selection: Arc<Selection>, is_standalone: Arc<AtomicBool>) -> SelectionCriteria {
    let select = move |server: &ServerInfo<'_>| {
        let kind = server.server_type();
        let is_primary = matches!(
            kind,
            ServerType::RsPrimary
                | ServerType::Standalone
                | ServerType::Mongos
                | ServerType::LoadBalancer
        );
        if is_primary {
            is_standalone.store(kind == ServerType::Standalone, Relaxed);
        }
        is_primary && selection.select()
    };
    SelectionCriteria::Predicate(Arc::new(select))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_given_up_is_never_sent() {
        let selection = Selection::default();
        assert!(selection.give_up() && selection.give_up());
        assert!(!selection.select());
    }

    #[test]
    fn a_command_that_may_have_been_sent_is_not_given_up() {
        let selection = Selection::default();
        assert!(selection.select() && selection.select());
        assert!(!selection.give_up());
    }
}
