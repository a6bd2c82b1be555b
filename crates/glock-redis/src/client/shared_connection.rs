//! `SharedConnection`: the connection of all calls, made on first use and again when it is lost.

use std::{io, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use glock_core::{
    Action, Fault, LockError,
    toolkit::{Mutex, Wakeups},
};
use redis::{RedisResult, Value};
use tokio::time::{self, Instant};

use crate::{
    client::{script::ScriptCall, source::Source, transport::Transport},
    error,
};

/// The connection that all calls of a client share.
pub(crate) struct SharedConnection {
    source: Source,
    /// How long a reply may take. A connection must be made in a part of it.
    reply_max: Duration,
    wakeups: Wakeups,
    slot: Mutex<Slot>,
}

/// A connection, or the attempt to make one, which all callers await together.
type Connecting = Shared<BoxFuture<'static, RedisResult<Arc<Transport>>>>;

#[derive(Default)]
struct Slot {
    /// How many connections were begun: the number of the one in `current`.
    number: u64,
    current: Option<Connecting>,
}

/// What the server replied.
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    /// Just before the request was sent that this replies to.
    pub(crate) sent_at: Instant,
    /// Whether the same request was sent before and its reply was lost.
    pub(crate) repeated: bool,
}

impl SharedConnection {
    /// No I/O. `wakeups` are woken by messages, and when a connection is lost.
    pub(crate) fn new(source: Source, reply_max: Duration, wakeups: Wakeups) -> Arc<Self> {
        Arc::new(Self { source, reply_max, wakeups, slot: Mutex::default() })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Runs a script. If the connection turns out to be broken, the request is sent once more over
    /// another one; an acquire only if it surely has not arrived, for the others may arrive twice.
    pub(crate) async fn run(
        self: &Arc<Self>,
        action: Action,
        call: &ScriptCall<'_>,
    ) -> Result<Reply<Value>, LockError> {
        let (mut repeated, mut may_repeat) = (false, true);
        loop {
            let failed = |fault, err| {
                let fault = if repeated { Fault::Unknown } else { fault };
                error::backend_error(action, fault, err)
            };
            let (number, transport) = self.transport().await;
            let transport = transport.map_err(|err| failed(error::connect_fault(&err), err))?;
            let sent_at = Instant::now();
            let err = match transport.run(call).await {
                Ok(value) => return Ok(Reply { value, sent_at, repeated }),
                Err(err) => err,
            };
            if transport.is_lost(&err) {
                self.retire(number);
            }
            let fault = transport.fault(action, &err);
            let may_arrive_twice = action != Action::Acquire || fault != Fault::Unknown;
            if !may_repeat || !may_arrive_twice || !error::is_worth_repeating(&err) {
                return Err(failed(fault, err));
            }
            (repeated, may_repeat) = (fault == Fault::Unknown, false);
        }
    }

    /// Subscribes to `channel`, unless it is subscribed to. The caller must sleep on it in the
    /// wakeups before: they wake it when the subscription is lost.
    pub(crate) async fn subscribe(self: &Arc<Self>, channel: &str) -> Result<(), LockError> {
        let failed = |fault, err| error::backend_error(Action::Wait, fault, err);
        let (number, transport) = self.transport().await;
        let transport = transport.map_err(|err| failed(error::connect_fault(&err), err))?;
        let Transport::Own { subscriptions, .. } = &*transport else { return Ok(()) };
        subscriptions.subscribe(channel).await.map_err(|err| {
            if transport.is_lost(&err) {
                self.retire(number);
            }
            failed(error::request_fault(&err), err)
        })
    }

    /// The connection and its number. It is made if there is none.
    async fn transport(self: &Arc<Self>) -> (u64, RedisResult<Arc<Transport>>) {
        let (number, connecting) = self.connecting();
        if let Some(Ok(transport)) = connecting.peek() {
            return (number, Ok(Arc::clone(transport)));
        }
        let made = connecting.await;
        if made.is_err() {
            self.retire(number);
        }
        (number, made)
    }

    fn connecting(self: &Arc<Self>) -> (u64, Connecting) {
        let mut slot = self.slot.lock();
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
    ) -> impl Future<Output = RedisResult<Arc<Transport>>> + Send + 'static {
        let (source, wakeups, reply_max) =
            (self.source.clone(), self.wakeups.clone(), self.reply_max);
        // What is left of the call's time limit is for the request.
        let connect_max = reply_max / 5 * 4;
        let shared = Arc::downgrade(self);
        let on_lost = move || {
            if let Some(shared) = shared.upgrade() {
                shared.retire(number);
            }
        };
        async move {
            let connecting = source.connect(connect_max, reply_max, wakeups, on_lost);
            let transport = time::timeout(connect_max, connecting).await.unwrap_or_else(|_| {
                let why = format!("not connected within {connect_max:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
            });
            transport.map(Arc::new)
        }
    }

    /// Takes the connection of that number out of use. Requests in flight on it still receive their
    /// replies. All sleepers are woken, because its messages will not arrive any more.
    fn retire(&self, number: u64) {
        let mut slot = self.slot.lock();
        if slot.number != number {
            return;
        }
        let retired = slot.current.take();
        drop(slot);
        // Outside of the lock: the last clone closes the connection.
        drop(retired);
        self.wakeups.wake_all();
    }
}
