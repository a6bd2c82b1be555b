//! `Toy`: the fixture of the toy store, with the flaw that the test's thread asked for.

use std::{cell::Cell, net::SocketAddr, time::Duration};

use glock_core::{LockConfig, LockId};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing};

use crate::{
    flaw::Flaw,
    keys::{key, prefix},
    lock::ToyLock,
    server::{PASSWORD, Server},
    transport::Endpoint,
};

thread_local! {
    static FLAW: Cell<Flaw> = const { Cell::new(Flaw::Sound) };
}

/// The fixtures that this thread opens from now on have `flaw`.
pub(crate) fn plant(flaw: Flaw) {
    FLAW.set(flaw);
}

pub(crate) struct Toy {
    namespace: String,
    /// None in another process, which can reach the server only as any client does.
    server: Option<Server>,
    addr: SocketAddr,
    flaw: Flaw,
}

impl Toy {
    /// Reads the namespace of a fixture of another process, which says all that is to know.
    fn of_another_process(namespace: &str) -> Option<Self> {
        let mut parts = namespace.strip_prefix("toy.")?.splitn(3, '.');
        let port: u16 = parts.next()?.parse().ok()?;
        let flaw = *Flaw::ALL.get(parts.next()?.parse::<usize>().ok()?)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Some(Self { namespace: namespace.into(), server: None, addr, flaw })
    }

    fn key(&self, id: &LockId) -> String {
        key(self.flaw, &self.namespace, id)
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("another process only holds")
    }

    fn prefix(&self) -> String {
        prefix(self.flaw, &self.namespace)
    }

    fn lock_at(&self, server: SocketAddr, password: &str, config: LockConfig) -> ToyLock {
        let (flaw, password) = (self.flaw, password.to_owned());
        ToyLock::new(Endpoint { server, password, flaw }, config)
    }
}

impl Fixture for Toy {
    type Lock = ToyLock;
    const PASSED_OVER_MAX: Duration = Duration::from_secs(2);
    const RESERVES: bool = true;
    const HOLDER_TEST: &str = "sound::holder_process";
    /// It keeps nothing that it does not use.
    const KEPT_IDLE: Duration = Duration::from_secs(1);

    /// A bug is to be found soon; but one that is late, by more than this.
    fn patience(&self) -> Duration {
        let is_woken =
            matches!(self.flaw, Flaw::Sound | Flaw::SoundQueue | Flaw::PollsInsteadOfListening);
        Duration::from_millis(if is_woken { 8_000 } else { 2_500 })
    }

    async fn open(namespace: String) -> Self {
        if let Some(toy) = Self::of_another_process(&namespace) {
            return toy;
        }
        let flaw = FLAW.get();
        let server = Server::with(flaw);
        let addr = server.addr;
        let namespace = format!("toy.{}.{}.{namespace}", addr.port(), flaw as usize);
        Self { namespace, server: Some(server), addr, flaw }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> ToyLock {
        self.lock_at(self.addr, PASSWORD, config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.server().store.live(&self.key(id)).map(|hold| hold.owner)
    }

    async fn live(&self) -> usize {
        self.server().store.count(&self.prefix())
    }

    async fn residue(&self) -> usize {
        let store = &self.server().store;
        store.count(&self.prefix()) + store.sessions(&self.prefix()) + store.queued(&self.prefix())
    }

    async fn waiters(&self, id: &LockId) -> usize {
        self.server().store.waiters(&self.key(id))
    }

    async fn evict(&self, id: &LockId) {
        self.server().store.evict(&self.key(id));
    }

    async fn forget(&self, id: &LockId) {
        self.server().store.forget(&self.key(id));
    }
}

impl Networked for Toy {
    const FRAMING: Framing = Framing::Lines;
    /// One heartbeat a second.
    const IDLE_REQUESTS_MAX: u64 = 66;
    /// Nothing of the toy happens seldom.
    const IDLE: Duration = Duration::from_secs(1);

    fn upstream(&self) -> SocketAddr {
        self.addr
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> ToyLock {
        self.lock_at(server, PASSWORD, config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> ToyLock {
        self.lock_at(server, CANARY, self.config())
    }
}
