//! `Session`: one connection to the server, made on first use and again when it is lost.

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
    schema::Code,
    source::{Source, Wire},
    wait::Listener,
};

/// One connection to the server, shared by all calls of a client.
pub(crate) struct Session {
    source: Source,
    /// How long an answer may take; a connection must be made in a part of it.
    answer_max: Duration,
    pub(crate) wakeups: Wakeups,
    slot: Mutex<Slot>,
}

/// A connection, or the attempt to make one, that everybody waits for together.
type Connecting = Shared<BoxFuture<'static, RedisResult<Arc<Line>>>>;

#[derive(Default)]
struct Slot {
    /// How many connections were begun: the number of the one in `current`.
    number: u64,
    current: Option<Connecting>,
}

/// A connection that was made.
pub(crate) struct Line {
    number: u64,
    wire: Wire,
    listener: OnceLock<Listener>,
}

/// A script and what it works on.
pub(crate) struct Request<'a> {
    pub(crate) script: &'a Code,
    pub(crate) keys: &'a [&'a str],
    pub(crate) args: &'a [&'a str],
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// Right before the request was sent that this answers.
    pub(crate) sent_at: Instant,
    /// Whether the same request was sent before and its answer got lost.
    pub(crate) repeated: bool,
}

impl Session {
    pub(crate) fn new(source: Source, answer_max: Duration, wakeups: Wakeups) -> Arc<Self> {
        Arc::new(Self { source, answer_max, wakeups, slot: Mutex::default() })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Runs a script. A connection that turns out to be broken is made anew, and the request is
    /// sent once more; an acquire only if it surely has not arrived, for all else may arrive twice.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        action: Action,
        request: &Request<'_>,
    ) -> Result<Answer, LockError> {
        let mut repeated = false;
        let mut may_repeat = true;
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(err) => {
                    let fault = if repeated { Fault::Unknown } else { error::connecting(&err) };
                    return Err(error::failed(action, fault, err));
                }
            };
            let sent_at = Instant::now();
            let err = match line.run(request).await {
                Ok(value) => return Ok(Answer { value, sent_at, repeated }),
                Err(err) => err,
            };
            if line.is_over(&err) {
                self.retire(line.number);
            }
            let fault = line.fault(action, &err);
            repeated |= fault == Fault::Unknown;
            let settled = action != Action::Acquire || fault != Fault::Unknown;
            if !may_repeat || !settled || !error::is_worth_repeating(&err) {
                let fault = if repeated { Fault::Unknown } else { fault };
                return Err(error::failed(action, fault, err));
            }
            may_repeat = false;
        }
    }

    /// Subscribes to `channel`, unless that was done before. The caller sleeps on it in
    /// [`wakeups`](Self::wakeups) already, and is woken there when the subscription is lost.
    pub(crate) async fn listen(self: &Arc<Self>, channel: &str) -> Result<(), LockError> {
        let failed = |fault, err| error::failed(Action::Wait, fault, err);
        let line = self.line().await.map_err(|err| failed(error::connecting(&err), err))?;
        let Wire::Own(connection) = &line.wire else { return Ok(()) };
        let listener =
            line.listener.get_or_init(|| Listener::start(connection.clone(), self.wakeups.clone()));
        listener.listen(channel).await.map_err(|err| {
            if line.is_over(&err) {
                self.retire(line.number);
            }
            failed(error::asking(&err), err)
        })
    }

    /// The connection, made if there is none.
    async fn line(self: &Arc<Self>) -> RedisResult<Arc<Line>> {
        let (number, connecting) = self.connecting();
        if let Some(Ok(line)) = connecting.peek() {
            return Ok(Arc::clone(line));
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
    ) -> impl Future<Output = RedisResult<Arc<Line>>> + Send + 'static {
        let (source, answer_max) = (self.source.clone(), self.answer_max);
        let (session, wakeups) = (Arc::downgrade(self), self.wakeups.clone());
        // What is left of the call's time limit is for the request.
        let limit = answer_max / 5 * 4;
        async move {
            let on_push = Box::new(move |push| heard(push, number, &session, &wakeups));
            let connecting = source.connect(limit, answer_max, on_push);
            let wire = time::timeout(limit, connecting).await.unwrap_or_else(|_| {
                let why = format!("not connected within {limit:?}");
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why).into())
            })?;
            Ok(Arc::new(Line { number, wire, listener: OnceLock::new() }))
        }
    }

    /// Takes a connection out of use. Whoever waits for an answer on it still gets it; whoever
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
fn heard(push: PushInfo, number: u64, session: &Weak<Session>, wakeups: &Wakeups) {
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

impl Line {
    /// Runs a script by its hash; the server that does not know it is sent the whole text, which
    /// it keeps.
    async fn run(&self, request: &Request<'_>) -> RedisResult<Value> {
        match self.wire.send(&request.by_hash()).await {
            Err(err) if is_unknown_script(&err) => self.wire.send(&request.by_text()).await,
            answer => answer,
        }
    }

    /// What an error means that came instead of an answer.
    fn fault(&self, action: Action, err: &RedisError) -> Fault {
        match &self.wire {
            // A lock that it may have taken has to be undone.
            Wire::Given(wire) if wire.repeats() && action == Action::Acquire => {
                error::repeating(err)
            }
            _ => error::asking(err),
        }
    }

    /// Whether to make another connection after `err`. What looks after itself is given up only
    /// if nobody is there any more to do that.
    fn is_over(&self, err: &RedisError) -> bool {
        match self.wire {
            Wire::Own(_) => error::is_over(err),
            Wire::Given(_) => err.is_connection_dropped(),
        }
    }
}

fn is_unknown_script(err: &RedisError) -> bool {
    err.kind() == ServerErrorKind::NoScript.into()
}

impl Request<'_> {
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
