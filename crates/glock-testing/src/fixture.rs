//! `Fixture` and `Networked`: what the conformance suite asks of a backend.

use std::{net::SocketAddr, time::Duration};

use glock_core::{Lock, LockConfig, LockId};

use crate::proxy::Framing;

/// A store that the suite runs against, seen from one case: a namespace of its own.
///
/// Everything here may panic: a fixture that cannot do its part is a failed test.
pub trait Fixture: Sized + Send + Sync + 'static {
    /// The lock under test.
    type Lock: Lock + Clone;

    /// Longer than a client keeps what only a burst has made it open: tasks, connections, streams. By
    /// default longer than an idle HTTP connection or a query that blocks for five seconds.
    const KEPT_IDLE: Duration = Duration::from_secs(6);

    /// How many tasks a client may have beside what it has when it is idle: those of connections that it
    /// opens again when it needs them, and keeps.
    const REOPENED: usize = 0;

    /// How long a waiter that is gone holds up the queue at most, where the store keeps one: by default
    /// longer than a session of ten seconds.
    const PASSED_OVER_MAX: Duration = Duration::from_secs(15);

    /// Whether the store reserves a free lock for the first waiter, and passes it on if that does not
    /// claim it.
    const RESERVES: bool = false;

    /// The path of the test `holder_process` that the macro made, if that was not called at the
    /// root of a test binary.
    const HOLDER_TEST: &str = "holder_process";

    /// The longest that a case waits for what happens by itself, such as a wake-up, an undo or a clean-up,
    /// before it fails: far longer than that takes, on a busy machine too.
    fn patience(&self) -> Duration {
        Duration::from_secs(8)
    }

    /// Reaches the store. Panics, with a message that says how to start one, if it cannot.
    fn open(namespace: String) -> impl Future<Output = Self> + Send;

    /// Settings with the namespace that this fixture was opened with.
    fn config(&self) -> LockConfig;

    /// A client with connections of its own, as another process would be.
    fn client_with(&self, config: LockConfig) -> impl Future<Output = Self::Lock> + Send;

    /// A client with [`config`](Self::config).
    fn client(&self) -> impl Future<Output = Self::Lock> + Send {
        self.client_with(self.config())
    }

    /// The owner token that the store itself has on record for a live hold: asked past `Lock`.
    fn owner(&self, id: &LockId) -> impl Future<Output = Option<String>> + Send;

    /// How many live holds the store has in this case's namespace: asked past `Lock`.
    fn live(&self) -> impl Future<Output = usize> + Send;

    /// How many things the store keeps for this case's namespace that are to go with the holds that
    /// they belong to: holds, sessions, leases, queue entries. Asked past `Lock`. What the store's
    /// documentation says stays (a counter, a row marked free) does not count.
    fn residue(&self) -> impl Future<Output = usize> + Send {
        self.live()
    }

    /// How many waiters the store has in the queue of `id`: asked past `Lock`, and only of a store whose
    /// [`Fairness`](glock_core::Fairness) is `Store`.
    fn waiters(&self, _id: &LockId) -> impl Future<Output = usize> + Send {
        async { panic!("a store that keeps a queue tells how long it is") }
    }

    /// Ends the hold on `id` behind its holder's back, as an operator might. No waiter need be
    /// woken.
    fn evict(&self, id: &LockId) -> impl Future<Output = ()> + Send;

    /// Removes all that the store has for `id`, what is kept for fencing too.
    fn forget(&self, id: &LockId) -> impl Future<Output = ()> + Send;
}

/// A store behind a socket, which the suite puts a fault proxy in front of.
pub trait Networked: Fixture {
    /// How many connections one client may use, for commands and wake-ups together.
    const CONNECTIONS_MAX: usize = 2;
    /// How many of them a client keeps once contention has made it open them.
    const CONNECTIONS_KEPT: usize = 0;
    /// The shortest time between two cuts of one client's connections, so that it gets something done in
    /// between: longer than it needs to trust the server again.
    const CUT_PAUSE: Duration = Duration::from_millis(80);
    /// How many requests idle waiters may cause in a minute, whatever their number.
    const IDLE_REQUESTS_MAX: u64 = 0;
    /// How the store's requests are delimited, so that those sent at once are counted.
    const FRAMING: Framing;
    /// How many requests an acquire, a refused one, a renewal and a release may take. More than one
    /// are on their way together: each of the four is one round trip all the same.
    const REQUESTS_MAX: [u64; 4] = [1; 4];
    /// How many round trips, one after the other, each of the four takes.
    const ROUND_TRIPS: [u64; 4] = [1; 4];
    /// Whether what was sent on a lost connection can still reach the store once the client is back
    /// on another. Not where the store ends a client's old connection when it takes up the new one.
    const RECEIVES_LATE_REQUESTS: bool = true;
    /// Whether the store wakes waiters, so that they need not look.
    const WAKES: bool = true;
    /// How long waiters are watched that have nothing to do, at that rate, without a break: longer than
    /// the half minute after which a client that polls seldom asks again.
    const IDLE: Duration = Duration::from_secs(32);
    /// Where the store listens.
    fn upstream(&self) -> SocketAddr;

    /// A client that reaches the store at `server` and nowhere else.
    fn client_at(
        &self,
        server: SocketAddr,
        config: LockConfig,
    ) -> impl Future<Output = Self::Lock> + Send;

    /// A client at `server` whose password is wrong and contains [`CANARY`].
    fn stranger_at(&self, server: SocketAddr) -> impl Future<Output = Self::Lock> + Send;
}

/// A secret that must not show up anywhere.
pub const CANARY: &str = "CANARY-7f3a9c";

/// A namespace that no other case, process or run uses.
///
/// # Panics
///
/// If the operating system has no random numbers to give.
pub fn fresh_namespace() -> String {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).expect("random numbers");
    format!("t{:016x}", u64::from_ne_bytes(random))
}

/// A TTL of about `wanted` that the lock offers.
pub fn ttl(lock: &impl Lock, wanted: Duration) -> Duration {
    wanted.max(lock.capabilities().ttl_min)
}

/// The URL in the environment variable `name`.
///
/// # Panics
///
/// If it is not set; the message says how to run the suite.
pub fn url_from_env(name: &str, store: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set; run `cargo xtask integration {store}`, or set it to a server's URL"
        )
    })
}
