//! `SharedConnection`: one connection to the server, made on first use and again when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use glock_core::{Action, Fault, LockError, toolkit::Wakeups};
use redis::{Cmd, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{self, Instant};

use crate::{
    error,
    schema::Script,
    source::{Source, Transport},
    wait::Subscriptions,
};

/// One connection to the server, shared by all calls of a client.
pub(crate) struct SharedConnection {
    source: Source,
    /// How long an reply may take; a connection must be made in a part of it.
    answer_max: Duration,
    pub(crate) wakeups: Wakeups,
    slot: Mutex<Slot>,
}

/// A connection, or the attempt to make one, that everybody waits for together.
type Connecting = Shared<BoxFuture<'static, RedisResult<Arc<Connection>>>>;

#[derive(Default)]
struct Slot {
    /// How many connections were begun: the number of the one in `current`.
    number: u64,
    current: Option<Connecting>,
}

/// A connection that was made.
pub(crate) struct Connection {
    number: u64,
    transport: Transport,
    subscriptions: OnceLock<Subscriptions>,
}

/// A script and what it works on.
pub(crate) struct ScriptCall<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [&'a str],
    pub(crate) args: &'a [&'a str],
}

/// What the server answered.
pub(crate) struct Reply {
    pub(crate) value: Value,
    /// Right before the request was sent that this answers.
    pub(crate) sent_at: Instant,
    /// Whether the same request was sent before and its reply got lost.
    pub(crate) repeated: bool,
}

impl SharedConnection {
    pub(crate) fn new(source: Source, answer_max: Duration, wakeups: Wakeups) -> Arc<Self> {
        Arc::new(Self { source, answer_max, wakeups, slot: Mutex::default() })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Runs a script. A connection that turns out to be broken is made anew, and the request is
    /// sent once more; an acquire only if it surely has not arrived, for all else may arrive twice.
    pub(crate) async fn run(
        self: &Arc<Self>,
        action: Action,
        request: &ScriptCall<'_>,
    ) -> Result<Reply, LockError> {
        let mut repeated = false;
        let mut may_repeat = true;
        loop {
            let connection = match self.connection().await {
                Ok(connection) => connection,
                Err(err) => {
                    let fault = if repeated { Fault::Unknown } else { error::connect_fault(&err) };
                    return Err(error::backend_error(action, fault, err));
                }
            };
            let sent_at = Instant::now();
            let err = match connection.run(request).await {
                Ok(value) => return Ok(Reply { value, sent_at, repeated }),
                Err(err) => err,
            };
            if connection.is_broken(&err) {
                self.retire(connection.number);
            }
            let fault = connection.fault(action, &err);
            repeated |= fault == Fault::Unknown;
            let settled = action != Action::Acquire || fault != Fault::Unknown;
            if !may_repeat || !settled || !error::is_worth_resending(&err) {
                let fault = if repeated { Fault::Unknown } else { fault };
                return Err(error::backend_error(action, fault, err));
            }
            may_repeat = false;
        }
    }

    /// Subscribes to `channel`, unless that was done before. The caller sleeps on it in
    /// [`wakeups`](Self::wakeups) already, and is woken there when the subscription is lost.
    pub(crate) async fn listen(self: &Arc<Self>, channel: &str) -> Result<(), LockError> {
        let failed = |fault, err| error::backend_error(Action::Wait, fault, err);
        let connection = self.connection().await.map_err(|err| failed(error::connect_fault(&err), err))?;
        let Transport::Own(driver) = &connection.transport else { return Ok(()) };
        let subscriptions =
            connection.subscriptions.get_or_init(|| Subscriptions::start(driver.clone(), self.wakeups.clone()));
        subscriptions.listen(channel).await.map_err(|err| {
            if connection.is_broken(&err) {
                self.retire(connection.number);
            }
            failed(error::request_fault(&err), err)
        })
    }

    /// The connection, made if there is none.
    async fn connection(self: &Arc<Self>) -> RedisResult<Arc<Connection>> {
        let (number, connecting) = self.connecting();
        if let Some(Ok(connection)) = connecting.peek() {
            return Ok(Arc::clone(connection));
        }
        let made = connecting.await;
        if made.is_err() {
            self.retire(number);
        }
        made
    }

    fn connecting(self: &Arc<Self>) -> (u64, Connecting) {
        let mut slot = self.slot();
        if let Some(current) = &slot.current {
            return (slot.number, current.clone());
        }
        slot.number += 1;
        let connecting = self.connect(slot.number).boxed().shared();
        slot.current = Some(connecting.clone());
        (slot.number, connecting)
    }

    fn connect(
        self: &Arc<Self>,
        number: u64,
    ) -> impl Future<Output = RedisResult<Arc<Connection>>> + Send + 'static {
        let (source, answer_max) = (self.source.clone(), self.answer_max);
        let (session, wakeups) = (Arc::downgrade(self), self.wakeups.clone());
        // What is left of the call's time limit is for the request.
        let limit = answer_max / 5 * 4;
        async move {
            let on_push = Box::new(move |push| on_push(push, number, &session, &wakeups));
            let connecting = source.connect(limit, answer_max, on_push);
            let transport = time::timeout(limit, connecting).await.unwrap_or_else(|_| {
                let why = format!("not connected within {limit:?}");
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why).into())
            })?;
            Ok(Arc::new(Connection { number, transport, subscriptions: OnceLock::new() }))
        }
    }

    /// Takes a connection out of use. Whoever waits for an reply on it still gets it; whoever
    /// sleeps on it is woken, because nobody reads its messages for long.
    fn retire(&self, number: u64) {
        let mut slot = self.slot();
        if slot.number != number {
            return;
        }
        let retired = slot.current.take();
        drop(slot);
        // Outside of the lock: the last clone closes the connection.
        drop(retired);
        self.wakeups.wake_all();
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called by the driver's task for each message on the connection with that number.
fn on_push(push: PushInfo, number: u64, session: &Weak<SharedConnection>, wakeups: &Wakeups) {
    match (push.kind, push.data.as_slice()) {
        (PushKind::Message, [Value::BulkString(channel), _]) => {
            if let Ok(channel) = std::str::from_utf8(channel) {
                wakeups.wake(channel);
            }
        }
        (PushKind::Disconnection, _) => {
            if let Some(session) = session.upgrade() {
                session.retire(number);
            }
        }
        _ => {}
    }
}

impl Connection {
    /// Runs a script by its hash; the server that does not know it is sent the whole text, which
    /// it keeps.
    async fn run(&self, request: &ScriptCall<'_>) -> RedisResult<Value> {
        match self.transport.send(&request.by_hash()).await {
            Err(err) if is_unknown_script(&err) => self.transport.send(&request.by_text()).await,
            reply => reply,
        }
    }

    /// What an error means that came instead of an reply.
    fn fault(&self, action: Action, err: &RedisError) -> Fault {
        match &self.transport {
            // A lock that it may have taken has to be undone.
            Transport::Caller(transport) if transport.resends() && action == Action::Acquire => {
                error::resent_fault(err)
            }
            _ => error::request_fault(err),
        }
    }

    /// Whether to make another connection after `err`. What looks after itself is given up only
    /// if nobody is there any more to do that.
    fn is_broken(&self, err: &RedisError) -> bool {
        match self.transport {
            Transport::Own(_) => error::is_broken(err),
            Transport::Caller(_) => err.is_connection_dropped(),
        }
    }
}

fn is_unknown_script(err: &RedisError) -> bool {
    err.kind() == ServerErrorKind::NoScript.into()
}

impl ScriptCall<'_> {
    fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = || self.keys.iter().chain(self.args);
        let bytes = name.len() + script.len() + 8 + parts().map(|part| part.len()).sum::<usize>();
        let mut cmd = Cmd::with_capacity(3 + parts().count(), bytes);
        cmd.arg(name).arg(script).arg(self.keys.len());
        for part in parts() {
            cmd.arg(*part);
        }
        cmd
    }
}
