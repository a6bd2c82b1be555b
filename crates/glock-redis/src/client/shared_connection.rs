//! `SharedConnection`: the connection of all calls to one server, made on first use and again when it is
//! lost or silent.

use std::{io, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use glock_core::toolkit::{Mutex, Notified};
use redis::RedisResult;
use tokio::time;

use crate::client::{source::Source, transport::Transport};

/// The connection that all calls of a client to one server share.
pub(crate) struct SharedConnection {
    source: Source,
    /// How long a reply may take. A connection must be made in a part of it.
    reply_max: Duration,
    notified: Notified,
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

/// One of the connections that a [`SharedConnection`] has made or makes. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<SharedConnection>,
    number: u64,
    connecting: Connecting,
}

impl SharedConnection {
    /// No I/O. `notified` are woken by messages, and when a connection is lost.
    pub(crate) fn new(source: Source, reply_max: Duration, notified: Notified) -> Arc<Self> {
        Arc::new(Self { source, reply_max, notified, slot: Mutex::default() })
    }

    /// The connection in use. If there is none, one is begun, on the runtime of the first caller that
    /// awaits it.
    pub(crate) fn link(self: &Arc<Self>) -> Link {
        let mut slot = self.slot.lock();
        let connecting = if let Some(current) = &slot.current {
            current.clone()
        } else {
            slot.number += 1;
            let connecting = self.connect(slot.number).boxed().shared();
            slot.current.insert(connecting).clone()
        };
        Link { shared: Arc::clone(self), number: slot.number, connecting }
    }

    fn connect(
        self: &Arc<Self>,
        number: u64,
    ) -> impl Future<Output = RedisResult<Arc<Transport>>> + Send + 'static {
        let (source, notified, reply_max) =
            (self.source.clone(), self.notified.clone(), self.reply_max);
        // What is left of the call's time limit is for the request.
        let connect_max = reply_max / 5 * 4;
        let shared = Arc::downgrade(self);
        let on_lost = move || {
            if let Some(shared) = shared.upgrade() {
                shared.retire(number);
            }
        };
        async move {
            let connecting = source.connect(connect_max, reply_max, notified, on_lost);
            let transport = time::timeout(connect_max, connecting).await.unwrap_or_else(|_| {
                let why = format!("not connected within {connect_max:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
            });
            transport.map(Arc::new)
        }
    }

    /// Takes the connection of that number out of use: the next caller makes another one, on its own
    /// runtime. Requests in flight on it still receive their replies. All sleepers are woken, because its
    /// messages will not arrive any more.
    fn retire(&self, number: u64) {
        let mut slot = self.slot.lock();
        if slot.number != number {
            return;
        }
        let retired = slot.current.take();
        drop(slot);
        if retired.is_some() {
            // Outside of the lock: the last clone closes the connection.
            drop(retired);
            self.notified.missed();
        }
    }
}

impl Link {
    /// The connection, once it is made. One that cannot be made is taken out of use.
    pub(crate) async fn transport(&self) -> RedisResult<Arc<Transport>> {
        if let Some(Ok(transport)) = self.connecting.peek() {
            return Ok(Arc::clone(transport));
        }
        let made = self.connecting.clone().await;
        if made.is_err() {
            self.retire();
        }
        made
    }

    /// Whether the connection is made.
    pub(crate) fn is_made(&self) -> bool {
        matches!(self.connecting.peek(), Some(Ok(_)))
    }

    /// Whether it is the same connection as another one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.number == other.number
    }

    /// Takes this connection out of use, unless it is already.
    pub(crate) fn retire(&self) {
        self.shared.retire(self.number);
    }

    /// Where it leads to.
    pub(crate) fn source(&self) -> &Source {
        &self.shared.source
    }
}
